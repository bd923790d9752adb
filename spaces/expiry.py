"""Rows in the order of a time, read up to that time: what the sweeps go through.

A swept row leaves a tombstone for a day, so the beginning of such a range is mostly tombstones; reading continues past
them.
"""

from .store.contract import Range, Record, Store, read_page


async def rows_until(
    store: Store, prefix: bytes, end: bytes, *, limit: int, keys_only: bool = False
) -> tuple[tuple[bytes, Record], ...]:
    """Return the first live rows whose key is at most `prefix ‖ end`, whatever follows it."""
    last = prefix + end
    after: bytes | None = None
    while True:
        page = await read_page(store, Range(prefix, after=after, limit=limit, keys_only=keys_only))
        found = tuple([row for row in page.rows if row[0][: len(last)] <= last])
        if found or not page.more or page.rows or page.last_key is None or page.last_key[: len(last)] > last:
            return found
        after = page.last_key
