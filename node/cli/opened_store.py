"""Access to the node's store for command-line programs.

It works even while the node is running.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

from encryption_network.keyring import Keyring
from encryption_network.network_errors import RecordError
from sealspace.service.command_errors import NodeError, SecretUnusable, StoreMisused
from spaces.space_errors import SpaceError, StartRefused, StoreLocked, StoreMoved, WrongSecret
from spaces.store.contract import Store
from spaces.store.lmdb.engine import connect_lmdb

from ..config.tree import Config
from ..platform.root_secret import STORE_FOLDER_NAME, load_root_secret, wrong_secret_hint
from ..storage.root_secrets import opened_keyring
from ..storage.stores import open_read_only, open_store, start_refused, store_location
from .settings import configured

Result = TypeVar("Result")


def has_store(config: Config) -> bool:
    """Return whether there is a store to open.

    A database that the settings name counts as a store; it is not contacted.
    """
    return config.is_shared or (config.data / STORE_FOLDER_NAME).is_dir()


@asynccontextmanager
async def opened_store(
    config: Config, *, may_be_moved: bool = False, is_for_reading: bool = False
) -> AsyncIterator[Store]:
    """Open the existing store named in the settings.

    It is in the data folder, or in the database at `store.url`.

    Args:
        config: The settings.
        may_be_moved: Whether to open a store that was moved away, which can only be read.
        is_for_reading: Whether the caller only reads.
    """
    if not config.is_shared and not config.data.exists():
        raise StoreMisused(
            f"the data folder {config.data} does not exist",
            hint="name the node's data folder with --data, or its settings file with --config",
        )
    if not has_store(config):
        raise StoreMisused(
            f"there is no store in {config.data}",
            hint=f"create a store: sealspace serve --data {config.data}",
        )
    try:
        if may_be_moved or is_for_reading:
            store = open_read_only(config, may_be_moved=may_be_moved)
        else:
            try:
                store = open_store(config)
            except StoreLocked:
                # A node runs on this folder. Only its storekeeper may write, so connect to that.
                store = connect_lmdb(config.data)
        try:
            yield store
        finally:
            await store.close()
    except SpaceError as error:
        raise as_node_error(
            error,
            config,
            what=f"the store in {store_location(config)} failed",
            hint="sealspace doctor",
        ) from error


def run_on_store(config: Config, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Open the store, call a function with the store, and return the result."""

    async def opened() -> Result:
        async with opened_store(config) as store:
            return await work(store)

    return asyncio.run(opened())


def on_store(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Decorate a command so that it receives the settings and an open store."""

    @configured
    @wraps(command)
    def run(config: Config, **arguments: Any) -> None:
        run_on_store(config, lambda store: command(config, store, **arguments))

    return run


async def own_secret(config: Config, store: Store) -> bytes:
    """Load the root secret of a store.

    Raises:
        SecretUnusable: the configured secret cannot be loaded, or belongs to another store.
        StoreMisused: it is a former root secret of the store, or the secret is being replaced
            (RK2).
    """
    secret = load_root_secret(config, None)  # None: there is a store, so no secret may be made
    await _keyring_of(config, store, secret)
    return secret


async def own_keyring(config: Config, store: Store) -> Keyring:
    """Return the keys of a store; raises the errors of `own_secret`."""
    return await _keyring_of(config, store, load_root_secret(config, None))


async def _keyring_of(config: Config, store: Store, secret: bytes) -> Keyring:
    try:
        return await opened_keyring(store, Keyring(secret))
    except WrongSecret as error:
        raise foreign_secret(config, error) from error
    except StartRefused as error:
        raise start_refused(config, error) from error
    except RecordError as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="restore a backup") from error


def foreign_secret(config: Config, error: WrongSecret) -> SecretUnusable:
    """Return the error of a command for a root secret that belongs to another store."""
    return SecretUnusable(
        f"the store belongs to {error.recorded}, but the root secret to {error.offered}",
        hint=wrong_secret_hint(config, error.recorded),
    )


def as_node_error(error: SpaceError, config: Config, *, what: str, hint: str) -> NodeError:
    """Convert a store error to a `NodeError` with a hint."""
    if isinstance(error, StoreMoved):
        return start_refused(config, error)
    return StoreMisused(f"{what}: {error}", hint=hint, code=error.code)
