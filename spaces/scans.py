"""Stored positions of scans that read all rows of one kind, one page at a time.

Sweeps use them for rows that are not ordered by time.

The position of a scan is stored in a row, so that the next holder of the lease continues there. Two
concurrent scans read some rows twice.

Example:
    place = await walk_position(store, "aliases")
    page = await read_page(store, Range(ALIASES_PREFIX, after=place, limit=100))
    puts = [Put(key, None, expect=record.stamp) for key, record in page.rows if is_over(record)]
    await store.commit(Commit(puts=(*puts, walk_put("aliases", page.place))))
"""

from .keyspace import walk_key
from .store.contract import Put, Store, read_row


async def walk_position(store: Store, name: str) -> bytes | None:
    """Return the row key after which a scan continues, or None to begin at the first row."""
    mark = await read_row(store, walk_key(name))
    return None if mark is None else mark.value


def walk_put(name: str, place: bytes | None) -> Put:
    """Return the write operation that stores a scan's position. None restarts the scan."""
    return Put(walk_key(name), place)
