"""Which store the settings name: LMDB in the data folder, or a database that several machines share.

The database's client is imported only where one is named: a node on LMDB starts without it.

Example:
    store = worker_store(config)
    try: ...
    finally: await store.close()
"""

from capabilities.ambient import Clock
from spaces.errors import StoreMoved
from spaces.store.contract import Store
from spaces.store.lmdb.engine import connect_lmdb, open_lmdb, read_lmdb

from ..config.tree import Config
from ..errors import ConfigurationError, StoreMisused


def is_shared(config: Config) -> bool:
    """Return whether the store is a database; then no storekeeper runs, and each process writes by itself."""
    return config.store.url is not None


def worker_store(config: Config) -> Store:
    """Open the store for a worker: through the storekeeper, or by a connection of its own.

    Raises:
        StoreUnavailable: the storekeeper was never ready on this folder.
        ConfigurationError: see `shared_store`.
    """
    return shared_store(config) if is_shared(config) else connect_lmdb(config.data)


def embedded_store(config: Config, *, clock: Clock | None = None) -> Store:
    """Open the store for a process that runs alone: it writes by itself.

    Raises:
        StoreLocked, StoreUnavailable: see `open_lmdb`.
        ConfigurationError: see `shared_store`.
    """
    if is_shared(config):
        return shared_store(config, clock=clock)
    return open_lmdb(config.data, max_bytes=config.store.max_bytes, clock=clock)


def left_store(config: Config) -> Store:
    """Open a store that was moved away, for reading alone.

    Raises:
        StoreUnavailable: see `read_lmdb`.
        ConfigurationError: see `shared_store`.
    """
    return shared_store(config, may_be_moved=True) if is_shared(config) else read_lmdb(config.data)


def moved_error(config: Config, error: StoreMoved) -> StoreMisused:
    """Return what to say of a store that was moved away: where it went, and how to start there (ST12)."""
    if is_shared(config):
        hint = "start without store.url, on that machine: sealspace serve --data with that folder"
    else:
        hint = "sealspace serve --store postgresql://…, with the address of that database"
    moved = StoreMisused(f"{place_of(config)}: {error}", hint=hint)
    moved.code = error.code
    return moved


def shared_store(config: Config, *, clock: Clock | None = None, may_be_moved: bool = False) -> Store:
    """Open the database that `store.url` names.

    Raises:
        ConfigurationError: no database is named.
    """
    if config.store.url is None:
        raise ConfigurationError("store.url names no database", hint="set store.url to postgresql://…")
    from encryption_network.requests import MAX_LIFETIME_S
    from spaces.store.postgres.engine import open_postgres

    # How long before its expiry a token or a challenge may be claimed here; a minute for the reading of clocks.
    longest_life_s = max(config.invocation.max_lifetime_s, config.release.challenge_s, MAX_LIFETIME_S) + 60
    return open_postgres(config.store.url, clock=clock, longest_life_s=longest_life_s, may_be_moved=may_be_moved)


def place_of(config: Config) -> str:
    """Return words for where the store is; never the address, which may hold a password."""
    return "the database of store.url" if is_shared(config) else str(config.data)
