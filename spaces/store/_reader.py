"""Reads: inline, in one read transaction of microseconds that never lives across an await."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Final

import lmdb

from ..errors import StoreUnavailable
from ..keyspace import claim_key, claim_minute4
from ._first_use import FirstUses
from ._rows import is_tombstone, live_keys, record_of
from .contract import (
    MAX_PAGE_BYTES,
    MAX_PAGE_SCAN,
    Claim,
    Page,
    Range,
    Record,
    Snapshot,
    check_read,
)


class Reader:
    """Reads of one opened environment."""

    def __init__(self, env: lmdb.Environment, first_uses: FirstUses) -> None:
        self._env = env
        self._first_uses = first_uses

    def read(self, keys: Sequence[bytes], claim: Claim | None, ranges: Sequence[Range]) -> Snapshot:
        """See `Store.read`. The claim is made before the moment of the read, so that the read sees what it allows."""
        check_read(keys, claim, ranges)
        first_use = None if claim is None else self._first_uses.claim(claim)
        try:
            # A transaction of its own for each read: it sees every commit acknowledged before now (ST1).
            with self._env.begin(buffers=True) as txn:
                if first_use and claim is not None:
                    first_use = _is_durably_unused(txn, claim)
                rows = [txn.get(key) for key in keys]
                records = tuple([None if row is None else record_of(row) for row in rows])
                pages = tuple([_page(txn, wanted) for wanted in ranges]) if ranges else ()
        except lmdb.Error as exc:
            raise StoreUnavailable("the store cannot be read") from exc
        return Snapshot(first_use=first_use, records=records, pages=pages)


def _is_durably_unused(txn: "lmdb.Transaction[memoryview]", claim: Claim) -> bool:
    """A claim that a commit made durable survives the loss of the unsynced ones (ST4)."""
    return txn.get(claim_key(claim_minute4(claim.expires_at), claim.key[:16])) is None


def _page(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Page:
    if wanted.keys_only and not wanted.reverse and (page := _page_of_keys(txn, wanted)) is not None:
        return page
    return _page_of_rows(txn, wanted)


_KEY_ALONE: Final = Record(value=b"", stamp=b"")
_KEYS_AT_ONCE: Final = 32


def _page_of_keys(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Page | None:
    """Return a page of keys in ascending order; None where tombstones leave room for more rows than were looked at.

    What a listing is made of: rows are taken from the engine many at once, and nothing is called for each of them. The
    last of them may lie beyond the range.
    """
    prefix, size = wanted.prefix, len(wanted.prefix)
    with txn.cursor() as cursor:
        if not _is_at_first(cursor, wanted):
            return Page(rows=(), more=False)
        walk = cursor.iternext()
        keys: list[bytes] = []
        left, is_within = wanted.limit, True
        while left > 0 and is_within:
            keys += live_keys(islice(walk, min(left, _KEYS_AT_ONCE)))
            left -= _KEYS_AT_ONCE
            is_within = cursor.key()[:size] == prefix
        following = next(walk, None) if is_within else None
        if following is not None and following[0][:size] == prefix:
            return _page_with(keys, more=True) if len(keys) == wanted.limit else None
    if keys and not keys[-1].startswith(prefix):
        del keys[bisect_left(keys, True, key=lambda key: not key.startswith(prefix)) :]
    return _page_with(keys, more=False)


def _page_with(keys: list[bytes], *, more: bool) -> Page:
    return Page(rows=tuple(zip(keys, repeat(_KEY_ALONE))), more=more, last_key=keys[-1] if keys else None)


def _page_of_rows(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Page:
    rows: list[tuple[bytes, Record]] = []
    last_key: bytes | None = None
    size_bytes = 0
    walk = _backwards(txn, wanted) if wanted.reverse else _forwards(txn, wanted)
    for scanned, (key, row) in enumerate(walk):
        if len(rows) == wanted.limit or size_bytes >= MAX_PAGE_BYTES or scanned == MAX_PAGE_SCAN:
            return Page(rows=tuple(rows), more=True, last_key=last_key)
        last_key = key
        if is_tombstone(row):  # ST5
            continue
        record = record_of(row, keys_only=wanted.keys_only)
        size_bytes += len(key) + len(record.value or b"")
        rows.append((key, record))
    return Page(rows=tuple(rows), more=False, last_key=last_key)


def _forwards(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Iterator[tuple[bytes, memoryview]]:
    with txn.cursor() as cursor:
        found = _is_at_first(cursor, wanted)
        while found:
            key = bytes(cursor.key())
            if not key.startswith(wanted.prefix):
                return
            yield key, cursor.value()
            found = cursor.next()


def _is_at_first(cursor: "lmdb.Cursor[memoryview]", wanted: Range) -> bool:
    """Go to the first row of an ascending range or beyond it; tell whether there is a row at all."""
    start = wanted.prefix if wanted.after is None else max(wanted.prefix, wanted.after)
    found = cursor.set_range(start)
    if found and start == wanted.after and cursor.key() == start:
        return cursor.next()
    return found


def _backwards(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Iterator[tuple[bytes, memoryview]]:
    with txn.cursor() as cursor:
        end = _after_prefix(wanted.prefix)
        if wanted.after is not None and (end is None or wanted.after < end):
            end = wanted.after
        found = cursor.prev() if end is not None and cursor.set_range(end) else cursor.last()
        while found:
            key = bytes(cursor.key())
            if key < wanted.prefix:
                return
            yield key, cursor.value()
            found = cursor.prev()


def _after_prefix(prefix: bytes) -> bytes | None:
    """The smallest byte string greater than everything with this prefix; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
