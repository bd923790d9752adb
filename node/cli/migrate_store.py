"""`sealspace admin migrate-store`: move the store from the data folder into a database, or back."""

import asyncio
from pathlib import Path
from typing import Literal, get_args

import click

from sealspace.cli.errors import ConfigurationError
from sealspace.cli.terminal import counter, print_json
from spaces.errors import SpaceError, StoreLocked

from ..config.loading import Value
from ..config.tree import Config
from .opened_store import as_node_error
from .settings import config_from, data_options

Engine = Literal["postgresql", "lmdb"]
_PRINT_EVERY_ROWS = 10_000


@click.command("migrate-store")
@data_options
@click.option("--store", "store__url", metavar="URL", help="The database, without a password.")
@click.option("--to", "target", type=click.Choice(get_args(Engine)), required=True, help="Where the store goes.")
@click.option("--again", is_flag=True, help="Move it once more: what it was moved to before is lost.")
def migrate_store(config_file: Path | None, target: Engine, again: bool, **flags: Value) -> None:
    """Copy every row of the store, compare both sides, and print one JSON object.

    No node may run meanwhile. What stays in the source says where the store went, and no node serves it; objects and
    the root secret stay in the data folder. When it was interrupted, the same command goes on.
    """
    config = config_from(config_file, flags)
    if config.store.url is None:
        raise ConfigurationError("store.url names no database", hint="give it with --store postgresql://…")
    try:
        print_json(asyncio.run(_move(config, config.store.url, target, again=again)))
    except SpaceError as error:
        from spaces.store.migration import MigrationRefused  # needs the extra of a database

        hint = "start the same command again to go on"
        if isinstance(error, StoreLocked):
            hint = f"stop the node that runs on {config.data}"
        elif isinstance(error, MigrationRefused):
            hint = error.next_step
        raise as_node_error(error, config, what="the store was not moved", hint=hint) from error


async def _move(config: Config, url: str, target: Engine, *, again: bool) -> dict[str, int | str]:
    from spaces.store.migration import move_from_postgres, move_to_postgres

    shown = counter("rows copied", every=_PRINT_EVERY_ROWS)
    if target == "postgresql":
        moved = await move_to_postgres(config.data, url, progress=shown, again=again)
    else:
        moved = await move_from_postgres(url, config.data, progress=shown, again=again)
    return {"rows": moved.rows, "claims": moved.claims, "digest": moved.digest}
