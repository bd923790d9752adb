"""The parts of a read from LMDB, inside its transaction."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice, repeat

import lmdb

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX
from ..contract import MAX_KEY_BYTES, MAX_PAGE_BYTES, Follow, Page, Range, Record
from ._refused_minutes import is_refused
from ._rows import Row, record_of


def followed_key(row: Row | None, follow: Follow) -> bytes | None:
    """Build a row's key from the value of another row.

    The key is `follow.prefix` followed by that value. None means that `row` has no value, or that
    the key would be too long.
    """
    if row is None:
        return None
    value = record_of(row).value
    if value is None or len(follow.prefix) + len(value) > MAX_KEY_BYTES:
        return None
    return follow.prefix + value


def durable_first_use(txn: "lmdb.Transaction[bytes]", row: bytes) -> tuple[bool, bool]:
    """Search the durable replay records for an earlier use of a token.

    `row` is that of its replay record (`ReplayRecord.row`). Returns `is_first_use` and
    `is_use_unknown` for the `Snapshot`. Durable replay records, and the expiry minutes whose tokens
    are all refused, survive a crash that loses unsynced records (ST4). In a restored store, these
    minutes include the expiry of every token that its original may have accepted (BK5).
    """
    refused_row = txn.get(REPLAY_FLOOR_KEY)
    if refused_row is not None and is_refused(record_of(refused_row).value or b"", row[:4]):
        return False, True
    is_first_use = txn.get(REPLAY_PREFIX + row) is None
    return is_first_use, False


_KEY_ALONE = Record(b"", b"")
_KEYS_AT_ONCE = 32


_EMPTY = Page(rows=(), more=False)


def read_range(
    txn: "lmdb.Transaction[bytes]", range_: Range, positions: "lmdb._Database | None"
) -> Page:
    """Return one page of a range.

    The page ends at the range's limit, or once its rows have MAX_PAGE_BYTES. `positions` is the
    table of positions, or None if there is none.
    """
    if range_.by_number and positions is None:
        return _EMPTY
    cursor = txn.cursor(positions) if range_.by_number else txn.cursor()
    first, end = range_.bounds
    if not cursor.set_range(first):
        return _EMPTY
    if range_.keys_only or range_.by_number:
        return _page_of_keys(cursor.iternext(values=False), range_.limit, end)
    return _page_of_rows(cursor.iternext(), range_.limit, end)


def _page_of_rows(walk: Iterator[tuple[bytes, bytes]], limit: int, end: bytes) -> Page:
    """Return a page of rows before the key `end`."""
    rows: list[tuple[bytes, Record]] = []
    size_bytes = 0
    more = False
    for key, row in walk:
        if key >= end:
            break
        if len(rows) == limit or size_bytes >= MAX_PAGE_BYTES:
            more = True
            break
        record = record_of(row)
        size_bytes += len(key) + len(record.value or b"")
        rows.append((key, record))
    last_key = rows[-1][0] if rows else None
    return Page(rows=tuple(rows), more=more, last_key=last_key)


def _page_of_keys(walk: Iterator[bytes], limit: int, end: bytes) -> Page:
    """Return a page of keys without values.

    Keys are fetched from LMDB many at once, in growing portions, so that few of them are unused.
    """
    keys: list[bytes] = []
    # One key more than the page may have tells whether others follow.
    while len(keys) <= limit:
        count = len(keys)
        portion = max(count, _KEYS_AT_ONCE)
        keys += islice(walk, min(portion, limit + 1 - count))
        is_over = len(keys) == count
        if is_over or keys[-1] >= end:
            del keys[bisect_left(keys, end) :]
            break
    more = len(keys) > limit
    del keys[limit:]
    last_key = keys[-1] if keys else None
    return Page(rows=tuple(zip(keys, repeat(_KEY_ALONE))), more=more, last_key=last_key)
