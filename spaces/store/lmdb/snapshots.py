"""Snapshots of a store, for backups, checks and migrations.

A part contains rows as LMDB stores them, or tombstones. All rows come before the tombstones. The
same rows are always cut into the same parts, on either engine. A read transaction keeps the
snapshot. Meanwhile the store's file grows with each write, because LMDB does not reuse the pages of
the snapshot.
"""

import fcntl
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import lmdb

from ...space_errors import RecordDamaged, StoreFull, StoreUnavailable
from ..contract import MAX_KEY_BYTES, MAX_VALUE_BYTES, Record, Store
from ..durable import NO_SPACE, sync_folder
from ._folder import environment_folder, open_environment
from ._format import TABLE, give_format, open_positions, open_table
from ._rows import Row, charge_of, is_tombstone, position_of, record_of
from .engine import environment_of

PART_ROWS = 128  # at most 64 MiB
_LEAST_ROW_BYTES = 17
_TOMBSTONE_BYTES = 21
_POSITIONS_AT_ONCE = 4096


Part = list[tuple[bytes, Row]]
"""Some rows, or some tombstones, in the order of their keys."""


class ParsedRow(NamedTuple):
    """A decoded row or tombstone.

    Attributes:
        account: the counter that the size of the row was added to, or b"".
    """

    record: Record
    account: bytes
    weight_bytes: int


@dataclass
class StoreSnapshot:
    """A snapshot of the store in one read transaction."""

    _txn: "lmdb.Transaction[bytes]"
    _tombstones: "lmdb._Database"
    _positions: "lmdb._Database | None"

    def parts(self) -> Iterator[Part]:
        """Yield all rows in batches, then the tombstones.

        A tombstone is left out if its key has a row.
        """
        try:
            for entries in (self._entries(), self._tombstones_without_row()):
                while part := list(islice(entries, PART_ROWS)):
                    yield part
        except lmdb.Error as exc:
            raise RecordDamaged(
                f"the pages of the store are damaged ({type(exc).__name__})"
            ) from exc

    def _entries(self, table: "lmdb._Database | None" = None) -> Iterator[tuple[bytes, Row]]:
        """Yield all rows, or all entries of a table."""
        for key, row in self._txn.cursor(table).iternext():
            if key >= TABLE:
                return  # beside the rows, the keys of the format follow (`_format`)
            yield key, row

    def _tombstones_without_row(self) -> Iterator[tuple[bytes, Row]]:
        for key, tombstone in self._entries(self._tombstones):
            if self._txn.get(key) is None:
                yield key, tombstone

    def require_positions(self) -> None:
        """Check that the table of positions lists each row with a position, and no other (ST24).

        Raises RecordDamaged.
        """
        listed_count = 0
        if self._positions is not None:
            listed_count = int(self._txn.stat(self._positions)["entries"])
        row_count = 0
        for entry, _ in _position_entries(self._txn):
            row_count += 1
            if self._positions is None or self._txn.get(entry, None, self._positions) is None:
                raise RecordDamaged("a row is missing in the order of the changes")
        if listed_count != row_count:
            raise RecordDamaged(
                f"the order of the changes lists {listed_count - row_count} rows that do not exist"
            )

    def get(self, key: bytes) -> Record | None:
        """Return a row, or None if it does not exist."""
        row = self._txn.get(key)
        return None if row is None else parse_row(row).record


@contextmanager
def snapshot_in(env: lmdb.Environment) -> Iterator[StoreSnapshot]:
    """Yield a snapshot of an LMDB environment, for the time of a `with` block."""
    table = open_table(env)
    positions = open_positions(env)
    with env.begin() as txn:
        yield StoreSnapshot(txn, table, positions)


class RowSource(Protocol):
    """An interface for reading all rows of a store.

    The store may be in use meanwhile. Backups, checks and migrations use this interface.
    """

    def lock_bodies(self) -> AbstractAsyncContextManager[None]:
        """Block the deletion of value files during a `with` block (BK2).

        Value files contain the bodies that are too large for a row. Any number of processes may
        block their deletion at once.
        """

    def parts(self) -> AsyncGenerator[Part, None]:
        """Yield all rows of one snapshot, in batches."""

    def snapshot(self) -> AbstractAsyncContextManager[StoreSnapshot]:
        """Return a context manager that yields a snapshot of the store."""


class LmdbRows:
    """All rows of an LMDB store."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._env = environment_of(store)
        self._folder = folder

    @asynccontextmanager
    async def lock_bodies(self) -> AsyncIterator[None]:
        """Block the deletion of value files during a `with` block (BK2).

        See `RowSource`. The collector removes a body at the earliest an hour after the last
        reference to it was removed. So readers of bodies take the lock before they take their
        snapshot. The kernel releases the lock when the process ends, so no clock is involved.
        """
        # waits only while a collector tests the lock
        with _locked(self._folder, fcntl.LOCK_SH):
            yield

    async def parts(self) -> AsyncGenerator[Part, None]:
        """Yield all rows in batches.

        See `RowSource`.
        """
        with snapshot_in(self._env) as snapshot:
            for part in snapshot.parts():
                yield part

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[StoreSnapshot]:
        """Take a snapshot of all rows.

        See `RowSource`.
        """
        with snapshot_in(self._env) as snapshot:
            yield snapshot


def are_bodies_locked(folder: Path) -> bool:
    """Return whether a process blocks the deletion of value files."""
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except FileNotFoundError:
        return False  # a folder that does not exist contains no value files
    except BlockingIOError:
        return True


@contextmanager
def _locked(folder: Path, operation: int) -> Iterator[None]:
    """Lock a folder during a `with` block. `operation` is that of `flock`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_environment(folder: Path) -> Iterator[Callable[[Part], None]]:
    """Create a store, and yield a function that writes rows.

    The function writes one batch of rows; all batches together are sorted by key, and tombstones
    come last. The folder must not contain a store. The new store cannot be opened before the `with`
    block ends.

    Raises:
        RecordDamaged: from the function, a row has a wrong size, or the rows are not sorted.
        StoreFull: there is no disk space left.
        StoreUnavailable: the rows cannot be written.
    """
    store_folder = environment_folder(folder)
    store_folder.mkdir(mode=0o700, parents=True)
    with open_environment(store_folder, sync=False) as env:

        def write(part: Part) -> None:
            for key, row in part:
                if not 0 < len(key) <= MAX_KEY_BYTES or len(row) < _LEAST_ROW_BYTES:
                    raise RecordDamaged("a row is too short or too long")
            table = None
            _, first_row = part[0]
            if is_tombstone(first_row):
                # All rows were written before. Rows are appended in the order of their keys, and
                # the keys of the format come after those of all rows.
                give_format(env)
                table = open_table(env)
            with env.begin(table, write=True) as txn, txn.cursor() as cursor:
                # A key that does not follow the one before is not written.
                _, written_count = cursor.putmulti(part, dupdata=False, append=True)
                if written_count != len(part):
                    raise RecordDamaged("the rows are not sorted by key")

        try:
            yield write
            give_format(env)  # changes nothing if there were tombstones
            _list_positions(env)
            env.sync(True)
        except lmdb.Error as exc:
            if isinstance(exc, lmdb.MapFullError) or exc.code in NO_SPACE:
                raise StoreFull(f"no disk space left for the store in {folder}") from exc
            raise StoreUnavailable(f"the rows of the store in {folder} cannot be written") from exc
    for changed_folder in (store_folder, folder):
        sync_folder(changed_folder)


def _list_positions(env: lmdb.Environment) -> None:
    """Fill the table of positions from the rows (ST24)."""
    table = open_positions(env)
    with env.begin() as reading:
        entries = _position_entries(reading)
        while part := list(islice(entries, _POSITIONS_AT_ONCE)):
            with env.begin(table, write=True) as txn, txn.cursor() as cursor:
                cursor.putmulti(part)


def _position_entries(txn: "lmdb.Transaction[bytes]") -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries that the table of positions must have, from the rows.

    The key of an entry is the position and the key of a row. Its value is empty.
    """
    for key, row in txn.cursor().iternext():
        if key >= TABLE:
            return
        position = position_of(row)
        if position:
            yield position + key, b""


def parse_row(row: Row) -> ParsedRow:
    """Decode a row or tombstone.

    Raises RecordDamaged if its length is wrong.
    """
    try:
        if is_tombstone(row):
            has_valid_length = len(row) == _TOMBSTONE_BYTES
        else:
            has_valid_length = len(row) >= _LEAST_ROW_BYTES
        record = record_of(row)
        account, weight_bytes = charge_of(row) or (b"", 0)
    except IndexError as exc:
        raise RecordDamaged("a row is too short or too long") from exc
    if not has_valid_length or len(record.value or b"") > MAX_VALUE_BYTES:
        raise RecordDamaged("a row is too short or too long")
    return ParsedRow(record=record, account=account, weight_bytes=weight_bytes)
