"""Access to the configured store, LMDB or PostgreSQL.

LMDB is in the data folder; several machines may share a database. The database client is imported
only if a database is configured, so LMDB works without it.
"""

import errno
import stat
from pathlib import Path
from shlex import quote

from sealspace.service.command_errors import BesideOriginal, ConfigurationError, StoreMisused
from spaces.identity import recorded_identity
from spaces.keyspace import HOSTING_MODE_KEY, RESTORED_KEY
from spaces.space_errors import (
    RotationUnfinished,
    SchemaMismatch,
    SecretReplaced,
    SpaceError,
    StartRefused,
    StoreMoved,
)
from spaces.store.contract import Store, read_row
from spaces.store.lmdb.engine import open_lmdb, read_lmdb
from spaces.store.lmdb.snapshots import LmdbRows, RowSource

from ..config.tree import Config

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def open_store(config: Config) -> Store:
    """Open the configured store for reading and writing in this process.

    The operator's commands do this, for example, while no node is running.
    """
    if config.is_shared:
        return shared_store(config)
    return open_lmdb(config.data, max_bytes=config.store.max_bytes)


def open_read_only(config: Config, *, may_be_moved: bool) -> Store:
    """Open the store for reading only.

    A node may be running meanwhile. A store that was moved away is opened only with `may_be_moved`.
    """
    if config.is_shared:
        return shared_store(config, may_be_moved=may_be_moved)
    return read_lmdb(config.data, may_be_moved=may_be_moved)


def rows_of(config: Config, store: Store) -> RowSource:
    """Return a reader for all rows of the configured store."""
    if config.store.url is None:
        return LmdbRows(store, config.data)
    from spaces.store.postgres.copying import PostgresRows

    return PostgresRows(config.store.url)


def start_refused(config: Config, error: StartRefused) -> StoreMisused:
    """Return the error for a store that this node cannot use (ST12, RK2).

    The store was moved, has a different schema version, or its root secret was replaced.
    """
    if isinstance(error, SecretReplaced):
        hint = (
            "use the present root secret: serve --secret-file FILE, or the settings secret.file,"
            " secret.value or secret.platform_path; if the command admin root rotate was"
            " interrupted, run it again"
        )
        return StoreMisused(str(error), hint=hint, code=error.code)
    if isinstance(error, RotationUnfinished):
        hint = "run sealspace admin root rotate again, with the same options, to finish it"
        return StoreMisused(str(error), hint=hint, code=error.code)
    if isinstance(error, SchemaMismatch) and error.can_upgrade:
        where = "" if config.is_shared else f" --data {quote(str(config.data))}"
        return StoreMisused(
            str(error),
            hint="stop every node on this store, make a backup with sealspace admin backup, and"
            f" run: sealspace admin upgrade{where}",
        )
    if not isinstance(error, StoreMoved):
        return StoreMisused(str(error), hint="start the version of sealspace that wrote the store")
    if config.is_shared:
        hint = "on that machine, unset store.url and run: sealspace serve --data FOLDER"
    else:
        hint = "serve that database: sealspace serve --store postgresql://…"
    return StoreMisused(f"{store_location(config)}: {error}", hint=hint, code=error.code)


def shared_store(config: Config, *, may_be_moved: bool = False) -> Store:
    """Open the PostgreSQL database at the configured URL."""
    assert config.store.url is not None  # the caller checks it
    from spaces.store.postgres.engine import open_postgres

    return open_postgres(
        config.store.url,
        longest_life_s=longest_life_s(config),
        may_be_moved=may_be_moved,
    )


def longest_life_s(config: Config) -> int:
    """Return the maximum lifetime of tokens and challenges in seconds.

    The result includes one minute for differing clocks.
    """
    from encryption_network.requests import MAX_LIFETIME_S

    return max(config.invocation.max_lifetime_s, config.release.challenge_s, MAX_LIFETIME_S) + 60


def store_location(config: Config) -> str:
    """Describe the store's location, without the database password."""
    return "the database of store.url" if config.is_shared else str(config.data)


async def refuse_unsafe_copy(config: Config, store: Store) -> None:
    """Refuse to serve a restored store while the original exists, or open to everyone.

    Two nodes on copies of one store would accept the same token twice (BK6). A restored store has
    no settings, so strangers could sign up at a node of few owners (ST18).

    Raises:
        BesideOriginal: the original is still in its folder, or the folder cannot be read.
        ConfigurationError: no setting states the hosting mode, and the last start had another one.
        StoreUnavailable, RecordDamaged: this store cannot be read.

    Does not check:
        An original on another machine, in another container, or in a folder that was renamed.
    """
    mode = await recorded_text(store, HOSTING_MODE_KEY)
    # A store that was never served has no mode. After `auto`, no other mode would let more owners
    # sign up, so the settings need not state one.
    is_other_mode = mode not in ("", "auto", config.hosting.mode)
    if is_other_mode and not config.hosting.is_mode_stated:
        raise ConfigurationError(
            f"this store was last served with hosting.mode = {mode}, but hosting.mode is not set"
            " now, and the default would let everyone sign up",
            hint="add --hosting permit to sealspace serve, or set hosting.mode in the settings"
            " file; the mode auto lets everyone sign up",
        )
    original = await recorded_text(store, RESTORED_KEY)
    if not original:  # the store was not restored from a backup
        return
    folder = Path(original)
    identity = await recorded_identity(store)
    # A store that was restored into the original's folder has replaced the original.
    is_here = folder == config.data.resolve() and not config.is_shared
    if not is_here and identity is not None and await _contains_store(folder, identity.store_id):
        raise BesideOriginal(
            f"this store was restored from a backup of {folder}, and that folder still contains the"
            " original store",
            hint="to replace the original store with the restored one: stop the original's node,"
            f" then mv {quote(str(folder))} {quote(str(folder) + '.old')}; to serve both"
            " stores, restore the backup again with --as-new",
        )


async def recorded_text(store: Store, key: bytes) -> str:
    """Return a row that contains text, or "" if the row is missing."""
    row = await read_row(store, key)
    if row is None or row.value is None:
        return ""
    return row.value.decode("utf-8", "replace")


async def _contains_store(folder: Path, store_id: bytes) -> bool:
    """Return whether a folder contains the store with this id.

    Return True if this cannot be determined.
    """
    try:
        if not stat.S_ISDIR((folder / "store").stat().st_mode):
            return False
        original = read_lmdb(folder)
        try:
            identity = await recorded_identity(original)
        finally:
            await original.close()
    except ValueError:  # a path that contains NUL is not a folder
        return False
    except (SpaceError, OSError) as error:
        # A missing folder, or a path that is too long, has no store. After any other error the
        # original may be there, so the start is refused.
        is_absent = getattr(error, "errno", None) in _NOT_THERE
        return not is_absent
    return identity is not None and identity.store_id == store_id
