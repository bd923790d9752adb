"""The store for a command: through the running node if there is one, else opened by the command
itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

from sealspace.cli.command_errors import NodeError, StoreMisused
from spaces.space_errors import SpaceError, StoreLocked, StoreMoved
from spaces.store.contract import Store
from spaces.store.lmdb.engine import connect_lmdb

from ..config.tree import Config
from ..platform.root_secret import STORE_FOLDER_NAME
from ..storage.stores import embedded_store, place_of, read_store, start_refused
from .settings import configured

Result = TypeVar("Result")


def has_store(config: Config) -> bool:
    """Whether the data folder has a store; a database has one."""
    return config.is_shared or (config.data / STORE_FOLDER_NAME).is_dir()


@asynccontextmanager
async def opened_store(
    config: Config, *, is_left: bool = False, is_for_reading: bool = False
) -> AsyncIterator[Store]:
    """Open the store of the data folder, which a command never creates, or the database of
    `store.url`."""
    if not has_store(config):
        raise StoreMisused(
            f"there is no store in {config.data}",
            hint=f"sealspace serve --data {config.data} makes one",
        )
    try:
        store = (
            read_store(config, may_be_moved=is_left) if is_left or is_for_reading else _open(config)
        )
        try:
            yield store
        finally:
            await store.close()
    except SpaceError as error:
        what = f"the store in {place_of(config)} does not do it"
        raise as_node_error(error, config, what=what, hint="sealspace doctor") from error


def run_on_store(config: Config, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Open the store of some settings, and return what the work on it does."""

    async def opened() -> Result:
        async with opened_store(config) as store:
            return await work(store)

    return asyncio.run(opened())


def on_store(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a command on an opened store; it receives the settings in force, the store, and its own
    options."""

    @configured
    @wraps(command)
    def run(config: Config, **others: Any) -> None:
        run_on_store(config, lambda store: command(config, store, **others))

    return run


def _open(config: Config) -> Store:
    try:
        return embedded_store(config)
    except StoreLocked:
        return connect_lmdb(config.data)  # only a running node writes; connect to its storekeeper


def as_node_error(error: SpaceError, config: Config, *, what: str, hint: str) -> NodeError:
    """Return what a command reports of an error of the store."""
    if isinstance(error, StoreMoved):
        return start_refused(config, error)
    return StoreMisused(f"{what}: {error}", hint=hint, code=error.code)
