"""Reads: inline, in one read transaction of microseconds that never lives across an await."""

from collections.abc import Iterator, Sequence

import lmdb

from ..errors import StoreUnavailable
from ..keyspace import claim_key, claim_minute4
from ._first_use import FirstUses
from ._rows import is_tombstone, record_of
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
                records = tuple([_record(txn, key) for key in keys])
                pages = tuple([_page(txn, wanted) for wanted in ranges])
        except lmdb.Error as exc:
            raise StoreUnavailable("the store cannot be read") from exc
        return Snapshot(first_use=first_use, records=records, pages=pages)


def _is_durably_unused(txn: "lmdb.Transaction[memoryview]", claim: Claim) -> bool:
    """A claim that a commit made durable survives the loss of the unsynced ones (ST4)."""
    return txn.get(claim_key(claim_minute4(claim.expires_at), claim.key[:16])) is None


def _record(txn: "lmdb.Transaction[memoryview]", key: bytes) -> Record | None:
    row = txn.get(key)
    return None if row is None else record_of(row)


def _page(txn: "lmdb.Transaction[memoryview]", wanted: Range) -> Page:
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
        start = wanted.prefix if wanted.after is None else max(wanted.prefix, wanted.after)
        found = cursor.set_range(start)
        if found and start == wanted.after and cursor.key() == start:
            found = cursor.next()
        while found:
            key = bytes(cursor.key())
            if not key.startswith(wanted.prefix):
                return
            yield key, cursor.value()
            found = cursor.next()


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
