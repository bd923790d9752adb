"""Tombstones are stored in a table of their own beside the rows, so that a walk through the rows meets none of them.

    rows     key            stamp, value
             TABLE          the table itself, as LMDB keeps it
             TABLE ‖ 0xFE   the format version of the environment (`_format`)
    table    key            tombstone

A row hides the tombstone of its key: a lookup searches the rows first, and the tombstone need not be removed when the
row is written again. The sweep reads only the table. TABLE is longer than a store's keys may be and sorts after all of
them, so no key collides with it, and every range ends before it.
"""

from collections.abc import Iterator
from contextlib import closing
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter
from typing import Final

import lmdb

from ...errors import StoreUnavailable
from ..contract import MAX_KEY_BYTES
from ._rows import keys_of_old

TABLE: Final = b"\xff" * (MAX_KEY_BYTES + 1)
MAX_TABLES: Final = 1  # what every process that opens the environment has to allow


def open_table(env: lmdb.Environment) -> "lmdb._Database":
    """Open the table.

    Raises:
        StoreUnavailable: it does not open; a new environment has none until it was opened for writing.
    """
    try:
        return env.open_db(TABLE, create=False)
    except lmdb.Error as exc:
        raise StoreUnavailable("the table of tombstones does not open") from exc


def rows_and_tombstones(env: lmdb.Environment, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every row and tombstone after a key, in the order of the keys."""
    tables = (None, open_table(env))
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
