"""Which store the settings name: LMDB in the data folder, or a database that several machines
share.

The database's client is imported only where one is named: a node on LMDB starts without it.
"""

import errno
import stat
from pathlib import Path
from shlex import quote

from capabilities.clock_and_entropy import Clock
from sealspace.cli.command_errors import BesideOriginal, StoreMisused
from spaces.identity import recorded_identity
from spaces.keyspace import RESTORED_KEY
from spaces.space_errors import SpaceError, StartRefused, StoreMoved
from spaces.store.contract import Store, read_row
from spaces.store.lmdb.engine import open_lmdb, read_lmdb
from spaces.store.lmdb.snapshots import LmdbRows, RowSource

from ..config.tree import Config

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def embedded_store(config: Config, *, clock: Clock | None = None) -> Store:
    """Open the store for a process that runs alone: it writes by itself."""
    if config.is_shared:
        return shared_store(config, clock=clock)
    return open_lmdb(config.data, max_bytes=config.store.max_bytes, clock=clock)


def read_store(config: Config, *, may_be_moved: bool = False) -> Store:
    """Open the store for reading alone, whether a node runs or not; one that was moved away only if
    that is said."""
    if config.is_shared:
        return shared_store(config, may_be_moved=may_be_moved)
    return read_lmdb(config.data, may_be_moved=may_be_moved)


def rows_of(config: Config, store: Store) -> RowSource:
    """Return what reads all rows of the store that the settings name."""
    if config.store.url is None:
        return LmdbRows(store, config.data)
    from spaces.store.postgres.copying import PostgresRows

    return PostgresRows(config.store.url)


def start_refused(config: Config, error: StartRefused) -> StoreMisused:
    """Return what to say of a store of another version, or one that was moved away: how to start
    there (ST12)."""
    if not isinstance(error, StoreMoved):
        return StoreMisused(str(error), hint="start the version that wrote the store")
    if config.is_shared:
        hint = "start without store.url, on that machine: sealspace serve --data with that folder"
    else:
        hint = "sealspace serve --store postgresql://…, with the address of that database"
    return StoreMisused(f"{place_of(config)}: {error}", hint=hint, code=error.code)


def shared_store(
    config: Config, *, clock: Clock | None = None, may_be_moved: bool = False
) -> Store:
    """Open the database that `store.url` names."""
    assert config.store.url is not None  # called only where one is named
    from spaces.store.postgres.engine import open_postgres

    life_s = longest_life_s(config)
    return open_postgres(
        config.store.url, clock=clock, longest_life_s=life_s, may_be_moved=may_be_moved
    )


def longest_life_s(config: Config) -> int:
    """Return how long before its expiry a token or a challenge may be claimed; a minute of it is
    for reading clocks."""
    from encryption_network.requests import MAX_LIFETIME_S

    return max(config.invocation.max_lifetime_s, config.release.challenge_s, MAX_LIFETIME_S) + 60


def place_of(config: Config) -> str:
    """Return words for where the store is; never the address, which may hold a password."""
    return "the database of store.url" if config.is_shared else str(config.data)


async def refuse_beside_original(config: Config, store: Store) -> None:
    """Refuse to serve a restored store while the store that the backup was taken of is in its place
    here (BK6).

    Does not check: an original on another machine, in another container, or in a folder that was
    renamed.

    Raises:
        BesideOriginal: it is there, or what is there cannot be read.
        StoreUnavailable, RecordDamaged: from reading this store.
    """
    row = await read_row(store, RESTORED_KEY)
    if row is None or row.value is None:
        return
    folder, identity = Path(row.value.decode("utf-8", "replace")), await recorded_identity(store)
    is_here = folder == config.data.resolve() and not config.is_shared
    if not is_here and identity is not None and await _holds(folder, identity.store_id):
        raise BesideOriginal(
            f"this store was restored from a backup of {folder}, which is still there",
            hint=(
                f"if this one is to take its place: mv {quote(str(folder))}"
                f" {quote(str(folder) + '.old')}; to serve both, restore it again with --as-new"
            ),
        )


async def _holds(folder: Path, store_id: bytes) -> bool:
    """Whether a folder has the store of an id; also when what is there cannot be read."""
    try:
        if not stat.S_ISDIR((folder / "store").stat().st_mode):
            return False
        original = read_lmdb(folder)
        try:
            found = await recorded_identity(original)
        finally:
            await original.close()
    except (SpaceError, OSError, ValueError) as exc:
        # A path that is too long for this machine, or contains NUL, names no folder.
        return not (isinstance(exc, ValueError) or getattr(exc, "errno", None) in _NOT_THERE)
    return found is not None and found.store_id == store_id
