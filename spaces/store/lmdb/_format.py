"""The format version of an LMDB environment, so that a version which does not know it leaves it alone.

    key             value
    TABLE ‖ 0xFD    where the store was moved to, in UTF-8; missing where it was not
    TABLE ‖ 0xFE    the format version: four bytes, big-endian; its first bit set once the store was moved

    version         format
    1               tombstones are among the rows; the version is not written
    2               they are in a table of their own (`_tombstones`)

Version 2 is written once all tombstones are in that table. A store that was moved has a format version that no version
of sealspace knows, so that none serves it; it may still be read (ST12). The meaning of the rows of a store has a
version of its own, the schema (`identity`).
"""

from typing import Final

import lmdb

from ...errors import SchemaMismatch, StoreMoved
from ._tombstones import TABLE

FORMAT_VERSION: Final = 2

_FORMAT_VERSION_KEY: Final = TABLE + b"\xfe"
_PLACE_KEY: Final = TABLE + b"\xfd"
_MOVED: Final = 1 << 31


def check_format_version(env: lmdb.Environment, *, may_be_moved: bool = False) -> None:
    """Refuse an environment of a format that only a later version knows, or whose store was moved.

    Raises:
        SchemaMismatch: it has such a format.
        StoreMoved: the store was moved, and `may_be_moved` does not hold.
        lmdb.Error: the environment cannot be read.
    """
    with env.begin() as txn:
        stored = txn.get(_FORMAT_VERSION_KEY)
    if stored is None:
        return
    version = int.from_bytes(stored[:5], "big")
    if version & _MOVED and version ^ _MOVED <= FORMAT_VERSION:
        if not may_be_moved:
            raise StoreMoved(moved_to(env) or "another place")
    elif stored != _of(FORMAT_VERSION):
        raise SchemaMismatch(expected=FORMAT_VERSION, got=version)


def write_moved_mark(env: lmdb.Environment, place: str) -> None:
    """Record that the store was moved to a place; durable when this returns.

    Raises:
        lmdb.Error: no free space, or the environment cannot be written.
    """
    with env.begin(write=True) as txn:
        version = int.from_bytes(txn.get(_FORMAT_VERSION_KEY) or _of(1), "big")
        txn.put(_PLACE_KEY, place.encode())
        txn.put(_FORMAT_VERSION_KEY, _of(version | _MOVED))


def moved_to(env: lmdb.Environment) -> str | None:
    """Return where the store was moved to; None where it was not."""
    with env.begin() as txn:
        place = txn.get(_PLACE_KEY)
    return None if place is None else place.decode("utf-8", "replace")


def write_format_version(env: lmdb.Environment) -> None:
    """Record that an environment, whose tombstones were moved, has the format of this version.

    Raises:
        lmdb.Error: no free space, or the environment cannot be written.
    """
    with env.begin() as txn:
        if txn.get(_FORMAT_VERSION_KEY) is not None:
            return
    with env.begin(write=True) as txn:
        txn.put(_FORMAT_VERSION_KEY, _of(FORMAT_VERSION))


def _of(version: int) -> bytes:
    return version.to_bytes(4, "big")
