"""All of a store at one moment: its rows one by one, and a copy of its file. For backups and checks.

A read transaction holds the moment: meanwhile the store's file grows by what is written, because no page of the moment
is used again.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from typing import Final

import lmdb

from ...errors import RecordDamaged
from ..contract import MAX_VALUE_BYTES, Record, Store
from ._closed_minutes import with_closed_before as with_closed_before
from ._rows import Row, charge_of, is_tombstone, record_of
from ._tombstones import TABLE, open_table
from .engine import environment_of

PART_BYTES: Final = 16 * 1024 * 1024
_LEAST_ROW_BYTES: Final = 17
_TOMBSTONE_BYTES: Final = 21


ParsedRow = tuple[Record, bytes, int]
"""Value (None in a tombstone) and stamp; the account that a row is charged to, empty for none; with how many bytes."""


class StoreSnapshot:
    """The store as a read transaction sees it."""

    def __init__(self, env: lmdb.Environment, txn: "lmdb.Transaction[bytes]", tombstones: "lmdb._Database") -> None:
        self._env = env
        self._txn = txn
        self._tables: Sequence[lmdb._Database | None] = (None, tombstones)

    def rows(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield the rows with a prefix in the order of their keys, then the tombstones, also under keys of rows.

        Raises:
            RecordDamaged: pages of the store are damaged.
        """
        try:
            for table in self._tables:
                cursor = self._txn.cursor(table)
                if cursor.set_range(prefix or b"\0"):
                    yield from takewhile(lambda row: row[0] < TABLE and row[0].startswith(prefix), cursor.iternext())
        except lmdb.Error as exc:
            raise RecordDamaged(f"the pages of the store are damaged ({type(exc).__name__})") from exc

    def get(self, key: bytes) -> Record | None:
        """Return a row; None where there is none.

        Raises:
            RecordDamaged: it has no possible length.
        """
        row = self._txn.get(key)
        return None if row is None else parse_row(row)[0]

    def file_parts(self) -> Generator[bytes, None, None]:
        """Yield the store's file without free pages, in parts of PART_BYTES; it opens as a store elsewhere.

        LMDB writes the copy into a pipe from a thread of its own. Close the generator before the transaction ends: that
        closes the pipe, and waits for the thread.

        Raises:
            RecordDamaged: pages of the store are damaged.
        """
        read_end, write_end = os.pipe()
        with ThreadPoolExecutor(1) as thread, os.fdopen(read_end, "rb") as pipe:
            copied = thread.submit(self._copy, write_end)
            while part := pipe.read(PART_BYTES):
                yield part
        copied.result()

    def _copy(self, descriptor: int) -> None:
        try:
            self._env.copyfd(descriptor, compact=True, txn=self._txn)
        except lmdb.Error as exc:
            raise RecordDamaged(f"the store's file cannot be copied ({type(exc).__name__})") from exc
        finally:
            os.close(descriptor)


@contextmanager
def snapshot_of(store: Store) -> Iterator[StoreSnapshot]:
    """Hold one moment of a store on LMDB until the block ends.

    Raises:
        StoreUnavailable: the store is not on LMDB.
    """
    env = environment_of(store)
    table = open_table(env)
    with env.begin() as txn:
        yield StoreSnapshot(env, txn, table)


def parse_row(row: Row) -> ParsedRow:
    """Decode a row or tombstone.

    Raises:
        RecordDamaged: it has no possible length.
    """
    try:
        is_whole = len(row) == _TOMBSTONE_BYTES if is_tombstone(row) else len(row) >= _LEAST_ROW_BYTES
        record, (account, weight_bytes) = record_of(row), charge_of(row) or (b"", 0)
    except IndexError as exc:
        raise RecordDamaged("a row has no possible length") from exc
    if not is_whole or len(record.value or b"") > MAX_VALUE_BYTES:
        raise RecordDamaged("a row has no possible length")
    return record, account, weight_bytes
