"""Resumable scans over all database rows of one kind.

A scan reads the rows page by page.

Sweeps use them for rows that are not sorted by time. The position of a scan is stored in a row, so
that the next holder of the lease continues there. Two concurrent scans read some rows twice.

Example:
    position = await walk_position(store, "aliases")
    page = await read_page(store, Range(ALIASES_PREFIX, after=position, limit=100))
    puts = [Put(key, None, expect=record.stamp) for key, record in page.rows if is_expired(record)]
    await store.commit(Commit(puts=(*puts, walk_put("aliases", page.place))))
"""

from .keyspace import walk_key
from .store.contract import Put, Store, read_row


async def walk_position(store: Store, name: str) -> bytes | None:
    """Return the key after which a database scan continues, or None.

    None means that the scan begins at the first row.
    """
    row = await read_row(store, walk_key(name))
    return None if row is None else row.value


def walk_put(name: str, position: bytes | None) -> Put:
    """Return the write operation that stores a database scan's position.

    A position of None restarts the scan.
    """
    return Put(walk_key(name), position)
