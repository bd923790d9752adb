"""The commands `sealspace admin migrate-store` and `migrate-objects`."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import click

from sealspace.cli.terminal import counter, flag_option, print_json
from sealspace.service.command_errors import ConfigurationError, StoreMisused
from spaces.archive.bodies import move_bodies
from spaces.space_errors import SpaceError, StoreLocked
from spaces.values.object_place import FOLDER

from ..config.tree import Config
from ..storage.objects import location_text, open_bucket, open_folder, started_id
from ..storage.stores import open_store, rows_of
from .opened_store import as_node_error, has_store
from .settings import configured, where_options


@click.command()
@configured
@click.option(
    "--store", "store__url", metavar="URL", help="Address of the database, without a password."
)
@click.option(
    "--to",
    "target",
    type=click.Choice(["postgresql", "lmdb"]),
    required=True,
    help="Where to move the store.",
)
@flag_option("--again", help="Move the store again if the copy from an earlier move was lost.")
def migrate_store(config: Config, target: str, again: bool) -> None:
    """Copy every row of the store to another store.

    Stop every node on the store first. The command compares both stores, and prints the result as
    JSON. The source then records where the store went, and no node serves it. Large values and the
    root secret stay in the data folder. After an interruption, run the same command again.
    """
    if config.store.url is None:
        raise ConfigurationError("no database was specified", hint="use --store postgresql://…")
    print_json(
        _run(
            _move_store(config, config.store.url, target, again=again),
            config,
            "the store was not moved",
        )
    )


@click.command()
@configured
@where_options
@click.option(
    "--to",
    "target",
    type=click.Choice(["bucket", "folder"]),
    required=True,
    help="Where to move the large values.",
)
def migrate_objects(config: Config, target: str) -> None:
    """Copy every large value to another location.

    Stop the node first. The command compares each copy with its digest, and prints the result as
    JSON. The source is not changed. After an interruption, run the same command again. Afterwards,
    start the node with settings that point to the new location.
    """
    if config.objects.url is None:
        raise ConfigurationError("no bucket was specified", hint="use --objects s3://bucket/prefix")
    if not has_store(config):
        raise StoreMisused(
            f"there is no store in {config.data}", hint="specify the data folder with --data"
        )
    print_json(_run(_move_objects(config, target), config, "the large values were not moved"))


def _run(
    move: Coroutine[Any, Any, dict[str, int | str]], config: Config, failure: str
) -> dict[str, int | str]:
    try:
        return asyncio.run(move)
    except SpaceError as error:
        # Errors of a migration know the next step. Others may be temporary.
        hint: str = getattr(error, "next_step", "run the same command again")
        if isinstance(error, StoreLocked):
            hint = f"stop the node that uses {config.data}"
        raise as_node_error(error, config, what=failure, hint=hint) from error


async def _move_store(
    config: Config, url: str, target: str, *, again: bool
) -> dict[str, int | str]:
    """Move the store to or from the database, and return the printed result."""
    # Needs the extra `postgres`.
    from spaces.archive.migration import move_from_postgres, move_to_postgres

    progress = counter("rows copied", every=10_000)
    if target == "postgresql":
        summary = await move_to_postgres(config.data, url, progress=progress, again=again)
    else:
        summary = await move_from_postgres(url, config.data, progress=progress, again=again)
    return {"rows": summary.rows, "claims": summary.replay_records, "digest": summary.digest}


async def _move_objects(config: Config, target: str) -> dict[str, int | str]:
    """Move the large values to the bucket or to the folder, and return the printed result."""
    store = open_store(config)
    try:
        store_id = await started_id(store)
        folder = open_folder(config)
        bucket = open_bucket(config)
        bucket_location = location_text(config)
        await bucket.claim(store_id)
        rows = rows_of(config, store)
        progress = counter("bodies in place", every=100, first=1)
        if target == "bucket":
            summary = await move_bodies(
                store,
                rows,
                folder,
                bucket,
                origin=FOLDER,
                to=bucket_location,
                progress=progress,
            )
        else:
            summary = await move_bodies(
                store,
                rows,
                bucket,
                folder,
                origin=bucket_location,
                to=FOLDER,
                progress=progress,
            )
    finally:
        await store.close()
    return {"bodies": summary.bodies, "bytes": summary.size_bytes, "copied": summary.copied}
