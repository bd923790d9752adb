"""Reading and removal of the former values of a path (ST19, ST20).

A write at a configured path keeps the value that it replaces or deletes, as a version; see
`value_heads`. The versions of a deleted value are removed after some days.
"""

from capabilities.resources import SpaceId

from ..expiry import rows_until
from ..keyspace import (
    VERSION_DUE_PREFIX,
    VERSIONS_PREFIX,
    micros8,
    space_id16,
    versions_prefix,
)
from ..store.contract import Commit, Page, Put, Range, Store, commit_puts, stamp_of
from .value_heads import MOST_VERSIONS, RESTORABLE_S, Head, Values, head_of


def versions_range(space: SpaceId, path: str) -> Range:
    """Return the range of the versions of a path."""
    return Range(versions_prefix(space_id16(space), path), limit=MOST_VERSIONS)


def versions_in(page: Page) -> list[Head]:
    """Decode the versions of a path, the oldest first."""
    return [head for key, record in page.rows if (head := head_of(record, key=key)) is not None]


async def sweep_versions(store: Store, values: Values, *, now: float, limit: int) -> int:
    """Remove the versions of values that were deleted some days ago (ST20).

    Nothing is removed if the path was written again. Returns the number of finished tasks. Run it
    again while it returns `limit`.
    """
    due = await rows_until(store, VERSION_DUE_PREFIX, micros8(now), limit=limit)
    for key, task in due:
        prefix = VERSIONS_PREFIX + key[9:]
        snapshot = await store.read(
            (task.value or b"",), ranges=(Range(prefix, limit=MOST_VERSIONS),)
        )
        (record,), (page,) = snapshot.records, snapshot.pages
        found = versions_in(page)
        is_current = record is not None and record.value is not None
        is_later = any((head.replaced_at or 0) > (now - RESTORABLE_S) * 1_000_000 for head in found)
        if is_current or is_later:
            await commit_puts(store, Put(key, None))
            continue
        plan = await values.removal(key[9:25], found, now=now)
        # Refused if the path is written meanwhile.
        deleted = Put(task.value or b"", None, stamp_of(record))
        puts = (*plan.puts, deleted, Put(key, None))
        await store.commit(Commit(puts=puts, checks=plan.checks, adds=plan.adds))
    return len(due)
