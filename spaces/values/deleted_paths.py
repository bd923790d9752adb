"""Rows of deleted paths, from which readers of changes learn that a value is gone (CF5).

A delete writes the row, in the commit that removes the value; a write of the path removes it again.
So a path has the row of a value or this one, and never both. The row has a position in the sequence
of the space like that of a value, counts towards the rows of the space (M54), and is removed after
KEPT_DAYS.

The tombstones of the store (ST5) would not do: they are swept after a day, and have no path.
"""

from collections import defaultdict
from collections.abc import Set

from capabilities.frozen_struct import AcyclicStruct

from .._codec import Codec
from ..keyspace import (
    DELETED_PREFIX,
    FEED_START_PREFIX,
    LONG_DELETED_PREFIX,
    SPACE16_IN_KEY,
    SpaceKeys,
    deleted_key,
)
from ..scans import walk_position, walk_put
from ..store.contract import Packed, Put, Range, Record, Store, commit_puts, read_page, stamp_of
from ..store.sequences import NUMBER_BYTES, number_of
from .metadata import path_bytes

KEPT_DAYS = 30
"""How long a reader may wait between two reads without missing a delete."""
_KEPT_S = KEPT_DAYS * 86_400.0
_SWEPT_ROWS = 256
_REMOVED_EARLY = 256  # the most that one write removes, of short paths and of long ones
_WALKS = ((DELETED_PREFIX, "deleted-paths"), (LONG_DELETED_PREFIX, "deleted-long-paths"))


class DeletedPath(Packed):
    """The row of a deleted path; the time is in epoch seconds."""

    path: str
    deleted_at: int


_CODEC = Codec(DeletedPath)
deleted_path_of = _CODEC.of


def deleted_path_put(own: SpaceKeys, key: bytes, path: str, *, now: float) -> Put:
    """Return the write of the row of a deleted path.

    `key` is the key of the row of its value.
    """
    return Put(
        deleted_key(key),
        _CODEC.encode(DeletedPath(path=path, deleted_at=int(now))),
        weight_bytes=path_bytes(path),
        account=own.rows,
        sequence=own.sequence,
    )


def feed_start_of(record: Record | None) -> int:
    """Return the highest number of a deleted path of a space whose row was removed, or 0."""
    if record is None or record.value is None:
        return 0
    return int.from_bytes(record.value, "big")


async def sweep_deleted_paths(store: Store, *, now: float) -> bool:
    """Remove rows of paths that were deleted more than KEPT_DAYS ago (CF6).

    The rows are not sorted by time, so each call reads one page of all of them, and the next call
    reads the page after it. The same commit records in each space up to which number rows were
    removed. Readers that are behind it have to start again.

    Returns whether to read the next page at once.
    """
    is_any_removed = False
    for prefix, walk in _WALKS:
        place = await walk_position(store, walk)
        page = await read_page(store, Range(prefix, after=place, limit=_SWEPT_ROWS))
        old: dict[bytes, list[tuple[bytes, Record]]] = defaultdict(list)
        for key, record in page.rows:
            if deleted_path_of(record).deleted_at < now - _KEPT_S:
                old[key[SPACE16_IN_KEY]].append((key, record))
        puts: list[Put] = []
        for space16, rows in old.items():
            puts += await _removal(store, space16, rows)
        if puts or page.place != place:
            await commit_puts(store, *puts, walk_put(walk, page.place))
        is_any_removed = is_any_removed or bool(puts and page.place is not None)
    return is_any_removed


class EarlyRemoval(AcyclicStruct):
    """Rows of deleted paths that a commit removes before their time.

    Attributes:
        puts: the writes.
        freed_bytes: by how much the rows of the space shrink (M54).
    """

    puts: tuple[Put, ...] = ()
    freed_bytes: int = 0


NO_REMOVAL = EarlyRemoval()


async def plan_early_removal(
    store: Store, own: SpaceKeys, *, excess_bytes: int, besides: Set[bytes]
) -> EarlyRemoval:
    """Choose rows of deleted paths whose space a write needs (CF6).

    Deleted values must not keep new ones out. Readers that have not seen these deletes start again.

    Args:
        store: contains the rows.
        own: the keys of the space.
        excess_bytes: how many bytes are needed.
        besides: keys of rows that the commit writes anyway.
    """
    rows: list[tuple[bytes, Record]] = []
    freed_bytes = 0
    for prefix, _ in _WALKS:
        page = await read_page(store, Range(prefix + own.space16, limit=_REMOVED_EARLY))
        for key, record in page.rows:
            if freed_bytes < excess_bytes and key not in besides:
                rows.append((key, record))
                freed_bytes += path_bytes(deleted_path_of(record).path)
    if freed_bytes < excess_bytes:
        return NO_REMOVAL  # the write is refused anyway
    return EarlyRemoval(
        puts=tuple(await _removal(store, own.space16, rows)), freed_bytes=freed_bytes
    )


async def _removal(store: Store, space16: bytes, rows: list[tuple[bytes, Record]]) -> list[Put]:
    """Return the writes that remove rows of deleted paths of a space."""
    start_key = FEED_START_PREFIX + space16
    (start,) = (await store.read((start_key,))).records
    numbers = [number_of(record.position) for _, record in rows]
    highest = max(feed_start_of(start), *numbers)
    value = highest.to_bytes(NUMBER_BYTES, "big")
    puts = [Put(key, None, expect=record.stamp) for key, record in rows]
    return [*puts, Put(start_key, value, expect=stamp_of(start))]
