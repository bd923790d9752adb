"""Walking through all rows of a kind, some at a time: for sweeps whose rows are not in the order of
a time.

The position of a walk is stored in a row of its own, so that the next holder of the lease continues
there. Two concurrent walks look at some rows twice.

Example:
    place = await walk_place(store, "aliases")
    page = await read_page(store, Range(ALIASES_PREFIX, after=place, limit=100))
    puts = [Put(key, None, expect=record.stamp) for key, record in page.rows if is_over(record)]
    await store.commit(Commit(puts=(*puts, walk_put("aliases", page.place))))
"""

from .keyspace import walk_key
from .store.contract import Put, Store, read_row


async def walk_place(store: Store, name: str) -> bytes | None:
    """Return the position of a walk; None: at the beginning."""
    mark = await read_row(store, walk_key(name))
    return None if mark is None else mark.value


def walk_put(name: str, place: bytes | None) -> Put:
    """Return the put after which a walk continues behind a place; None: from the beginning."""
    return Put(walk_key(name), place)
