"""Rows in the order of a time, read up to that time: what the sweeps go through.

A swept row leaves a tombstone for a day, so the beginning of such a range is mostly tombstones;
reading continues past them.
"""

from .store.contract import Commit, Put, Range, Record, Store, pages_of


async def rows_until(
    store: Store, prefix: bytes, end: bytes, *, limit: int, keys_only: bool = False
) -> tuple[tuple[bytes, Record], ...]:
    """Return the first live rows whose key is at most `prefix ‖ end`, whatever follows it."""
    last = prefix + end
    async for page in pages_of(store, Range(prefix, limit=limit, keys_only=keys_only)):
        if page.rows or (page.last_key or b"")[: len(last)] > last:
            return tuple([row for row in page.rows if row[0][: len(last)] <= last])
    return ()


async def remove_until(store: Store, prefix: bytes, end: bytes, *, limit: int) -> int:
    """Remove the rows that `rows_until` returns; return how many."""
    rows = await rows_until(store, prefix, end, limit=limit, keys_only=True)
    if rows:
        await store.commit(Commit(puts=tuple([Put(key, None) for key, _ in rows])))
    return len(rows)
