"""`sealspace admin migrate-store`: move the store from the data folder into a database, or back."""

import asyncio
from pathlib import Path
from typing import Literal, get_args

import click

from spaces.errors import SpaceError, StoreLocked

from ...config.loading import Value
from ...config.tree import Config
from ...errors import ConfigurationError, NodeError, StoreMisused
from ..terminal import print_json, words
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
        raise _as_node_error(error, config) from error


async def _move(config: Config, url: str, target: Engine, *, again: bool) -> dict[str, int | str]:
    from spaces.store.migration import move_from_postgres, move_to_postgres

    shown = _Progress()
    if target == "postgresql":
        moved = await move_to_postgres(config.data, url, progress=shown.progress, again=again)
    else:
        moved = await move_from_postgres(url, config.data, progress=shown.progress, again=again)
    return {"rows": moved.rows, "claims": moved.claims, "digest": moved.digest}


class _Progress:
    """Reports progress on standard error, for a person."""

    def __init__(self) -> None:
        self._next = 0

    def progress(self, rows: int) -> None:
        if rows >= self._next:
            self._next = rows + _PRINT_EVERY_ROWS
            words(f"{rows} rows copied")


def _as_node_error(error: SpaceError, config: Config) -> NodeError:
    from spaces.store.migration import MigrationRefused  # needs the extra of a database

    hint = "start the same command again to go on"
    if isinstance(error, StoreLocked):
        hint = f"stop the node that runs on {config.data}"
    elif isinstance(error, MigrationRefused):
        hint = error.next_step
    failed = StoreMisused(f"the store was not moved: {error}", hint=hint)
    failed.code = error.code
    return failed
