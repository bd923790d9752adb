"""Tombstones are stored in a table of their own beside the rows, so that a walk through the rows meets none of them.

    rows     key            stamp, value
             TABLE          the table itself, as LMDB keeps it
             TABLE ‖ 0xFE   the format version of the environment (`_format`)
             TABLE ‖ 0xFF   up to which key tombstones were looked for among the rows: TABLE once there are none
    table    key            tombstone

A row hides the tombstone of its key: a lookup searches the rows first, and the tombstone need not be removed when the
row is written again. The sweep reads only the table. TABLE is longer than a store's keys may be and sorts after all of
them, so no key collides with it, and every range ends before it.

A folder that an earlier version wrote has tombstones among its rows. The process that opens it for writing moves them
first, a fixed number of rows in each transaction, and continues after an interruption where the last one ended. Until
that is done no process reads the store.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter
from typing import Final

import lmdb

from ...errors import StoreUnavailable
from ..contract import MAX_KEY_BYTES
from ._rows import is_tombstone, keys_of_old

TABLE: Final = b"\xff" * (MAX_KEY_BYTES + 1)
MAX_TABLES: Final = 1  # what every process that opens the environment has to allow

_LOOKED_UP_TO_KEY: Final = TABLE + b"\xff"
_ROWS_AT_ONCE: Final = 20_000
_LOG: Final = logging.getLogger(__name__)


def make_table(env: lmdb.Environment) -> None:
    """Make the table where there is none, and move all tombstones into it.

    Raises:
        lmdb.Error: no free space, or the environment cannot be written. What was moved until then stays moved.
    """
    with env.begin() as txn:
        place = txn.get(_LOOKED_UP_TO_KEY, b"")
    if place == TABLE:
        return
    env.open_db(TABLE)
    place = move_some(env, place)
    if place != TABLE:
        # With an argument: the log drops a message without any, because it may quote anyone's data.
        _LOG.warning("tombstones that lie among the rows, as in form %d, are moved; this takes a while, once", 1)
    while place != TABLE:
        place = move_some(env, place)


def move_some(env: lmdb.Environment, start: bytes) -> bytes:
    """Move the tombstones of the next rows; return where to continue, TABLE after the last row."""
    place = start
    found: list[tuple[bytes, bytes]] = []
    with env.begin(buffers=True) as views, closing(views.cursor()) as cursor:
        cursor.set_range(start or b"\0")
        for view, row in islice(cursor.iternext(), _ROWS_AT_ONCE):
            place = bytes(view)
            if place == TABLE:
                break
            if is_tombstone(row):
                found.append((place, bytes(row)))
    table = env.open_db(TABLE, create=False)
    with env.begin(write=True) as txn:
        for key, tombstone in found:
            txn.put(key, tombstone, db=table)
            txn.delete(key)
        txn.put(_LOOKED_UP_TO_KEY, place)
    return place


def open_table(env: lmdb.Environment) -> "lmdb._Database":
    """Open the table.

    Raises:
        StoreUnavailable: not all tombstones are in it.
    """
    try:
        with env.begin() as txn:
            is_whole = txn.get(_LOOKED_UP_TO_KEY) == TABLE
        if is_whole:
            return env.open_db(TABLE, create=False)
    except lmdb.Error as exc:
        raise StoreUnavailable("the table of tombstones does not open") from exc
    raise StoreUnavailable("the store was written by an earlier version and not opened for writing since")


def rows_and_tombstones(env: lmdb.Environment, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every row and tombstone after a key, in the order of the keys, also where not all were moved yet."""
    try:
        tables = [None, env.open_db(TABLE, create=False)]
    except lmdb.NotFoundError:
        tables = [None]
    with env.begin() as txn:
        last = after
        # Of two equal keys the row's comes first.
        for key, row in merge(*[_walk(txn.cursor(table), after) for table in tables], key=itemgetter(0)):
            if key != last:
                yield key, row
            last = key


def last_key(env: lmdb.Environment) -> bytes:
    """Return the last key of a row or tombstone; nothing where there is none."""
    table = open_table(env)
    with env.begin() as txn:
        rows, tombstones = txn.cursor(), txn.cursor(table)
        rows.set_range(TABLE)
        return max(rows.key() if rows.prev() else b"", tombstones.key() if tombstones.last() else b"")


def _walk(cursor: "lmdb.Cursor[bytes]", after: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not cursor.set_range(after + b"\0"):
        return iter(())
    return takewhile(lambda row: row[0] < TABLE, cursor.iternext())


def old_tombstones(
    env: lmdb.Environment, table: "lmdb._Database", start: bytes, *, before_minute: int, looks: int
) -> tuple[list[bytes], bytes]:
    """Return which of the next tombstones are old, and where to continue: at the beginning after the last one."""
    with env.begin() as txn, closing(txn.cursor(table)) as cursor:
        if not cursor.set_range(start or b"\0"):
            return [], b""
        walk = cursor.iternext()
        found = keys_of_old(islice(walk, looks), before_minute=before_minute)
        return found, next(walk, (b"",))[0]
