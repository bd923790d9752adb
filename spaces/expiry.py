"""Lookup and deletion of old rows in time-sorted indexes.

Sweeps use these functions. A swept row leaves a tombstone for a day, so the beginning of such a
range is mostly tombstones. Reading continues past them.
"""

from .store.contract import Put, Range, Record, Store, commit_puts, pages_of


async def rows_until(
    store: Store, prefix: bytes, end: bytes, *, limit: int, keys_only: bool = False
) -> tuple[tuple[bytes, Record], ...]:
    """Return the rows whose keys begin with a prefix, up to an end key.

    At most `limit` rows are returned. The end key is `prefix ‖ end`. Rows are in key order, and
    tombstones are skipped. Bytes of a key beyond the length of `prefix ‖ end` are ignored.
    """
    last = prefix + end
    async for page in pages_of(store, Range(prefix, limit=limit, keys_only=keys_only)):
        if page.rows or (page.last_key or b"")[: len(last)] > last:
            return tuple([row for row in page.rows if row[0][: len(last)] <= last])
    return ()


async def remove_until(store: Store, prefix: bytes, end: bytes, *, limit: int) -> int:
    """Delete old rows, and return how many were deleted.

    The rows are those that `rows_until` returns.
    """
    rows = await rows_until(store, prefix, end, limit=limit, keys_only=True)
    if rows:
        await commit_puts(store, *[Put(key, None) for key, _ in rows])
    return len(rows)
