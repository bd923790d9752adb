"""Rows of deleted paths, from which readers of changes learn that a value is gone (CF5).

A delete writes the row, in the commit that removes the value; a write of the path removes it again.
So a path has the row of a value or this one, and never both. The row has a position in the sequence
of the space like that of a value, counts towards the rows of the space (M54), and is removed after
KEPT_DAYS.

The tombstones of the store (ST5) would not do: they are swept after a day, and have no path.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

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
from ..store.contract import (
    Packed,
    Page,
    Put,
    Range,
    Record,
    Store,
    commit_puts,
    read_page,
    read_row,
    stamp_of,
)
from ..store.sequences import NUMBER_BYTES, number_of
from .metadata import path_bytes

KEPT_DAYS = 30
"""How long a reader may wait between two reads without missing a delete."""
_KEPT_S = KEPT_DAYS * 86_400.0
_SWEPT_ROWS = 256
_REMOVED_EARLY = 256  # the most that one write removes, of short paths and of long ones
_SCANS = ((DELETED_PREFIX, "deleted-paths"), (LONG_DELETED_PREFIX, "deleted-long-paths"))


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

    The rows are not sorted by time, so they are scanned: each call reads one page, and the next
    call reads the page after it. The commit that removes rows also records, for each space, the
    highest removed number. A reader that has not come so far must start again.

    Args:
        store: contains the rows.
        now: epoch seconds.
    Returns:
        Whether to call again at once: rows were removed, and their scan is not at its end.
    """
    has_more = False
    for prefix, scan in _SCANS:
        start = await walk_position(store, scan)
        page = await read_page(store, Range(prefix, after=start, limit=_SWEPT_ROWS))
        expired = _expired_rows(page, before=now - _KEPT_S)
        puts: list[Put] = []
        for space16, rows in expired.items():
            puts += await _plan_removal(store, space16, rows)
        if puts or page.place != start:
            await commit_puts(store, *puts, walk_put(scan, page.place))
        if puts and page.place is not None:
            has_more = True
    return has_more


def _expired_rows(page: Page, *, before: float) -> Mapping[bytes, list[tuple[bytes, Record]]]:
    """Return the rows of paths that were deleted before a time, by the hash of their space."""
    expired: dict[bytes, list[tuple[bytes, Record]]] = defaultdict(list)
    for key, record in page.rows:
        if deleted_path_of(record).deleted_at < before:
            expired[key[SPACE16_IN_KEY]].append((key, record))
    return expired


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
    """Choose rows of deleted paths to remove, so that a write gets their room (CF6).

    Deleted values must not keep new ones out. Readers that have not seen these deletes start again.
    NO_REMOVAL is returned if the rows that one write may remove are not enough.

    Args:
        store: contains the rows.
        own: the keys of the space.
        excess_bytes: by how many bytes the space is too full for the write.
        besides: keys of rows that the commit writes anyway.
    """
    rows: list[tuple[bytes, Record]] = []
    freed_bytes = 0
    for prefix, _ in _SCANS:
        page = await read_page(store, Range(prefix + own.space16, limit=_REMOVED_EARLY))
        for key, record in page.rows:
            if freed_bytes < excess_bytes and key not in besides:
                rows.append((key, record))
                freed_bytes += path_bytes(deleted_path_of(record).path)
    if freed_bytes < excess_bytes:
        return NO_REMOVAL  # the write is refused anyway
    puts = await _plan_removal(store, own.space16, rows)
    return EarlyRemoval(puts=tuple(puts), freed_bytes=freed_bytes)


async def _plan_removal(
    store: Store, space16: bytes, rows: Sequence[tuple[bytes, Record]]
) -> list[Put]:
    """Return the writes that remove rows of deleted paths, and record the highest of their numbers.

    Args:
        store: contains the rows.
        space16: the hash of the space that all rows belong to.
        rows: at least one, each with its key.
    """
    feed_start_key = FEED_START_PREFIX + space16
    feed_start = await read_row(store, feed_start_key)
    highest = feed_start_of(feed_start)
    puts: list[Put] = []
    for key, record in rows:
        highest = max(highest, number_of(record.position))
        puts.append(Put(key, None, expect=record.stamp))
    value = highest.to_bytes(NUMBER_BYTES, "big")
    puts.append(Put(feed_start_key, value, expect=stamp_of(feed_start)))
    return puts
