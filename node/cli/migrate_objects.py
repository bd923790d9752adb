"""`sealspace admin migrate-objects`: move large values from the data folder into a bucket, or back."""

import asyncio
from pathlib import Path
from typing import Literal, get_args

import click

from sealspace.cli.errors import ConfigurationError, StoreMisused
from sealspace.cli.terminal import counter, print_json
from spaces.errors import SpaceError, StoreLocked
from spaces.identity import recorded_identity
from spaces.object_migration import MovedBodies, move_bodies
from spaces.store.contract import Store
from spaces.values.object_place import FOLDER

from ..config.loading import Value
from ..config.tree import Config
from ..platform.root_secret import STORE_FOLDER_NAME
from ..storage.objects import claim_bucket, open_bucket, open_folder, place_text
from ..storage.stores import embedded_store, is_shared
from .opened_store import as_node_error
from .settings import config_from, data_options

Place = Literal["bucket", "folder"]
_PRINT_EVERY_BODIES = 100


@click.command("migrate-objects")
@data_options
@click.option("--store", "store__url", metavar="URL", help="Another store than LMDB in the data folder.")
@click.option("--objects", "objects__url", metavar="URL", help="The bucket: s3://bucket/prefix.")
@click.option("--to", "target", type=click.Choice(get_args(Place)), required=True, help="Where the values go.")
def migrate_objects(config_file: Path | None, target: Place, **flags: Value) -> None:
    """Copy every large value, compare each with its digest, and print one JSON object.

    No node may run meanwhile. The source is left as it is. When it was interrupted, the same command goes on; the node
    looks for large values in the new place once it has ended.
    """
    config = config_from(config_file, flags)
    if config.objects.url is None:
        raise ConfigurationError("objects.url names no bucket", hint="give it with --objects s3://bucket/prefix")
    if not is_shared(config) and not (config.data / STORE_FOLDER_NAME).is_dir():
        raise StoreMisused(f"there is no store in {config.data}", hint="name the data folder with --data")
    try:
        moved = asyncio.run(_move(config, target))
    except SpaceError as error:
        hint = "start the same command again to go on"
        if isinstance(error, StoreLocked):
            hint = f"stop the node that runs on {config.data}"
        raise as_node_error(error, config, what="the large values were not moved", hint=hint) from error
    shown = {"bodies": moved.bodies, "bytes": moved.size_bytes, "copied": moved.copied}
    print_json(shown)


async def _move(config: Config, target: Place) -> MovedBodies:
    store = embedded_store(config)
    try:
        return await _move_of(config, store, target)
    finally:
        await store.close()


async def _move_of(config: Config, store: Store, target: Place) -> MovedBodies:
    identity = await recorded_identity(store)
    if identity is None:
        raise StoreMisused("no node was started on this store yet", hint="sealspace serve")
    files, bucket = open_folder(config), open_bucket(config)
    await claim_bucket(bucket, identity.store_id)
    progress = counter("bodies in place", every=_PRINT_EVERY_BODIES, first=1)
    if target == "bucket":
        return await move_bodies(store, files, bucket, origin=FOLDER, to=place_text(config), progress=progress)
    return await move_bodies(store, bucket, files, origin=place_text(config), to=FOLDER, progress=progress)
