"""Reading and removal of the former values of a path (ST19, ST20).

A write at a configured path keeps the value that it replaces or deletes, as a version; see
`value_heads`. The versions of a deleted value are removed after some days.
"""

from capabilities.resources import SpaceId, parse_space_id

from ..expiry import rows_until
from ..keyspace import VERSION_DUE_PREFIX, micros8, space_id16, versions_prefix
from ..store.contract import Commit, Page, Put, Range, Store, commit_puts
from .value_heads import MOST_VERSIONS, RESTORABLE_S, Head, Values, Write, head_key, head_of

_BATCH = 64


def versions_range(space: SpaceId, path: str) -> Range:
    """Return the range of the versions of a path."""
    return Range(versions_prefix(space_id16(space), path), limit=MOST_VERSIONS)


def versions_in(page: Page) -> dict[bytes, Head]:
    """Decode the versions of a path by their keys, the oldest first."""
    return {key: head for key, record in page.rows if (head := head_of(record, key=key))}


async def sweep_versions(store: Store, values: Values, *, now: float) -> bool:
    """Remove the versions of values that were deleted some days ago (ST20).

    Nothing is removed if the path was written again. Returns whether more may be due.
    """
    due = await rows_until(store, VERSION_DUE_PREFIX, micros8(now), limit=_BATCH)
    for key, task in due:
        text, _, path = (task.value or b"").decode("utf-8", "surrogatepass").partition("\n")
        space = parse_space_id(text)
        head = head_key(space, path)
        snapshot = await store.read((head,), ranges=(versions_range(space, path),))
        found = versions_in(snapshot.pages[0])
        replaced_at = max((version.replaced_at for version in found.values()), default=0)
        if (
            replaced_at > (now - RESTORABLE_S) * 1_000_000
            or head_of(snapshot.records[0], key=head) is not None
        ):
            await commit_puts(store, Put(key, None))
            continue
        # The head's tombstone is written again: the commit is refused if the path was written.
        draft = await values.draft(space, (Write(path, None),), snapshot.records, removed=found)
        plan = await draft.plan(now=now)
        puts = (*plan.puts, Put(key, None))
        await store.commit(Commit(puts=puts, checks=plan.checks, adds=plan.adds))
    return len(due) == _BATCH
