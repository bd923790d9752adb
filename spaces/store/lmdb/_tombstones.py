"""Tombstones are stored in a table of their own beside the rows, so that a walk through the rows meets none of them.

    rows     key            stamp, value
             TABLE          the table itself, as LMDB keeps it
             TABLE ‖ 0xFE   the format version of the environment (`_format`)
    table    key            tombstone

A row hides the tombstone of its key: a lookup searches the rows first, and the tombstone need not be removed when the
row is written again. The sweep reads only the table. TABLE is longer than a store's keys may be and sorts after all of
them, so no key collides with it, and every range ends before it.
"""

from contextlib import closing
from itertools import islice
from typing import Final

import lmdb

from ...errors import StoreUnavailable
from ..contract import KEYS_END
from ._rows import keys_of_old

TABLE: Final = KEYS_END
MAX_TABLES: Final = 1  # what every process that opens the environment has to allow


def open_table(env: lmdb.Environment) -> "lmdb._Database":
    """Open the table."""
    try:
        return env.open_db(TABLE, create=False)
    except lmdb.Error as exc:
        raise StoreUnavailable("the table of tombstones does not open") from exc


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
