"""The tables and the format version of an LMDB environment.

Tombstones are in a table of their own, so that scans of the rows do not pass them. The positions of
rows in sequences are in another, in their order (ST24).

    rows        key              stamp, value
                TABLE            the table of tombstones itself, as LMDB stores it
                TABLE ‖ 0xFC     the table of positions itself
                TABLE ‖ 0xFE     the format version of the environment
    tombstones  key              tombstone
    positions   position ‖ key   nothing

A row hides the tombstone of its key: a lookup searches the rows first, so the tombstone need not be
removed when the row is written again. The sweep reads only the table. TABLE is longer than a
store's keys may be and sorts after all of them, so no key collides with it, and every range ends
before it.

A version of sealspace that does not know the format version leaves the environment alone.

    key             value
    TABLE ‖ 0xFD    the place that the store was moved to, in UTF-8; only in a moved store
    TABLE ‖ 0xFE    the format version, four bytes big-endian; its first bit is set in a moved store

The format version is 2. An environment with rows but without a version has version 1; versions of
sealspace that write 2 do not read it. A moved store has a format version that no version of
sealspace knows, so none serves it; it can still be read (ST12). The meaning of the rows has a
version of its own, the schema (`identity`).
"""

import lmdb

from ...space_errors import SchemaMismatch, StoreMoved, StoreUnavailable
from ..contract import KEYS_END

TABLE = KEYS_END
POSITIONS_TABLE = TABLE + b"\xfc"
MAX_TABLES = 2  # every process that opens the environment has to allow as many
FORMAT_VERSION = 2

_FORMAT_VERSION_KEY = TABLE + b"\xfe"
_PLACE_KEY = TABLE + b"\xfd"
_MOVED = 1 << 31


def open_table(env: lmdb.Environment) -> "lmdb._Database":
    """Open the table of deleted rows."""
    try:
        return env.open_db(TABLE, create=False)
    except lmdb.Error as exc:
        raise StoreUnavailable("the table of deleted rows in the store cannot be opened") from exc


def open_positions(env: lmdb.Environment) -> "lmdb._Database | None":
    """Open the table of positions.

    None means that the store has none yet: only an earlier version has written it.
    """
    try:
        return env.open_db(POSITIONS_TABLE, create=False)
    except lmdb.NotFoundError:
        return None
    except lmdb.Error as exc:
        raise StoreUnavailable("the table of positions in the store cannot be opened") from exc


def check_format_version(env: lmdb.Environment, *, may_be_moved: bool) -> None:
    """Check the format version of an LMDB environment.

    A moved store is refused unless `may_be_moved` is true. A new environment is empty and passes.
    """
    with env.begin() as txn:
        stored = txn.get(_FORMAT_VERSION_KEY)
        is_new = txn.stat()["entries"] == 0
    if stored == _of(FORMAT_VERSION | _MOVED):
        if not may_be_moved:
            raise StoreMoved(moved_to(env) or "another place")
        return
    if is_new or stored == _of(FORMAT_VERSION):
        return
    version = 1  # the version of an environment with rows that states none
    if stored is not None:
        version = int.from_bytes(stored[:5], "big")  # bounded, because the row may be damaged
    raise SchemaMismatch(expected=FORMAT_VERSION, got=version)


def mark_moved(env: lmdb.Environment, place: str) -> None:
    """Durably record the store's new location.

    The call may be repeated.
    """
    try:
        with env.begin(write=True) as txn:
            txn.put(_PLACE_KEY, place.encode())
            txn.put(_FORMAT_VERSION_KEY, _of(FORMAT_VERSION | _MOVED))
    except lmdb.Error as exc:
        raise StoreUnavailable("the old store could not be marked as moved") from exc


def moved_to(env: lmdb.Environment) -> str | None:
    """Return the store's new location, or None if it was not moved."""
    with env.begin() as txn:
        place = txn.get(_PLACE_KEY)
    return None if place is None else place.decode("utf-8", "replace")


def give_format(env: lmdb.Environment) -> None:
    """Create the tables of an LMDB environment that do not exist yet.

    One transaction creates the tables of a new environment and records the format version. An
    environment that an earlier version wrote gets an empty table of positions: no row has one.
    """
    with env.begin() as txn:
        is_new = txn.get(_FORMAT_VERSION_KEY) is None
        has_positions = txn.get(POSITIONS_TABLE) is not None
    if has_positions:
        return
    with env.begin(write=True) as txn:
        env.open_db(POSITIONS_TABLE, txn=txn)
        if is_new:
            env.open_db(TABLE, txn=txn)
            txn.put(_FORMAT_VERSION_KEY, _of(FORMAT_VERSION))


def _of(version: int) -> bytes:
    return version.to_bytes(4, "big")
