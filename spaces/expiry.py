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
    size_bytes = len(last)
    async for page in pages_of(store, Range(prefix, limit=limit, keys_only=keys_only)):
        if page.rows:
            return tuple([(key, record) for key, record in page.rows if key[:size_bytes] <= last])
        # The page has only tombstones. Rows after the end key are not searched.
        if page.last_key is not None and page.last_key[:size_bytes] > last:
            return ()
    return ()


async def remove_until(store: Store, prefix: bytes, end: bytes, *, limit: int) -> int:
    """Delete old rows, and return how many were deleted.

    The rows are those that `rows_until` returns.
    """
    rows = await rows_until(store, prefix, end, limit=limit, keys_only=True)
    if rows:
        await commit_puts(store, *[Put(key, None) for key, _ in rows])
    return len(rows)
