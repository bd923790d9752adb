"""Garbage collection of large values that are no longer referenced.

It runs in the process that holds the lease. It does no harm if two processes run it at once.

- `collect`: a commit deletes the record of an object without references. The file is unlinked an
  hour later, so that clients that have already read the value's row can still read the file. If
  another commit refers to the object first, it changes the record, and the deletion is refused.
- `sweep_orphans`: a file that no record names is queued for removal a day after it was written. A
  commit may still be about to name it, for example in a process that was suspended for a day. So
  the sweep first writes a row whose stamp is checked by every commit that names a file. A commit
  that was planned before that is refused, and gives its file a new name. The record of a commit
  that succeeded before that is found by the reads that follow.
- `sweep_versions`: the versions of a value are removed seven days after it was deleted.
- `sweep_unfinished`: an upload that received no data for an hour is removed, and fails.

The caller of `collect` first tests whether a backup or a check has locked the files (BK2).
"""

from collections.abc import Iterator, Sequence

from capabilities.clock_and_entropy import Entropy
from capabilities.resources import parse_space_id

from .._codec import value_or_empty
from ..expiry import rows_until
from ..keyspace import (
    BODIES_COUNTER,
    DUE_PREFIX,
    ORPHAN_SWEEP_KEY,
    VERSION_DUE_PREFIX,
    micros8,
    object_key,
)
from ..store.contract import (
    Add,
    Commit,
    Put,
    Record,
    Store,
    commit_puts,
    read_row,
)
from .former_values import RESTORABLE_S
from .object_records import (
    UNLINK_AFTER_S,
    ObjectName,
    ObjectRecord,
    ObjectWork,
    due_put,
    object_record_of,
    object_work_of,
)
from .object_store import ObjectStore
from .value_heads import head_key, head_of, versions_in, versions_range
from .value_storage import Values
from .value_writes import Write

ORPHAN_AFTER_S = 86_400.0
UNFINISHED_AFTER_S = 3600.0
# Files looked up in one read and queued in one commit.
_BATCH = 128
# Where the hashes of space and path begin in the key of a deleted value's row: after the due time.
_PATH_ID_OFFSET = len(VERSION_DUE_PREFIX) + 8


async def collect(
    store: Store, files: ObjectStore, *, now: float, entropy: Entropy, limit: int = 256
) -> int:
    """Carry out due deletions of large values, and return how many there were.

    Call this again while it returns more than 0. After a crash, a deletion is processed again,
    which does no harm.

    Args:
        store: contains the work items, and the records of files.
        files: contains the large values.
        now: epoch seconds.
        entropy: for the keys of new work items.
        limit: the most deletions in one call.
    """
    due_rows = await rows_until(store, DUE_PREFIX, micros8(now), limit=limit)
    for key, record in due_rows:
        work = object_work_of(record)
        if work.unlink:
            await files.remove(work)
            # The commit expects the row that was read, so the file is subtracted once, even if
            # another process does the same.
            await store.commit(
                Commit(
                    puts=(Put(key, None, expect=record.stamp),),
                    adds=(Add(BODIES_COUNTER, -work.size_bytes),),
                )
            )
        else:
            await _delete_record(store, work, key, now=now, entropy=entropy)
    return len(due_rows)


async def _delete_record(
    store: Store, work: ObjectWork, work_key: bytes, *, now: float, entropy: Entropy
) -> None:
    """Delete the record of an unreferenced file.

    The file itself is queued for removal. If it is referenced again or has another generation, only
    the work item, with the key `work_key`, is removed.
    """
    key = object_key(work.space16, work.digest)
    record = await read_row(store, key)
    unreferenced = ObjectRecord(work.generation, references=0)
    if record is not None and object_record_of(record) == unreferenced:
        unlink = due_put(
            work,
            due_at=now + UNLINK_AFTER_S,
            unlink=True,
            entropy=entropy,
            size_bytes=work.size_bytes,
        )
        is_deleted = await commit_puts(
            store, Put(key, None, expect=record.stamp), Put(work_key, None), unlink
        )
        if is_deleted:
            return
    # Another commit deleted or replaced the record, and scheduled the removal of this file.
    await commit_puts(store, Put(work_key, None))


async def sweep_orphans(store: Store, files: ObjectStore, *, now: float, entropy: Entropy) -> int:
    """Queue orphaned files for removal, and return their number.

    A file is orphaned if it is over a day old and no object record names it.
    """
    queued = 0
    async for names in files.older_than(now - ORPHAN_AFTER_S):
        # This is after the files were listed and before their records are read. A commit that names
        # one of these files, but was planned earlier, is refused because of this row.
        await commit_puts(store, Put(ORPHAN_SWEEP_KEY, b""))
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            keys = [object_key(name.space16, name.digest) for name in batch]
            records = (await store.read(keys)).records
            removals: list[Put] = []
            for name in _orphaned(batch, records):
                due_at = now + UNLINK_AFTER_S
                removals.append(due_put(name, due_at=due_at, unlink=True, entropy=entropy))
            if removals:
                await commit_puts(store, *removals)
            queued += len(removals)
    return queued


def _orphaned(
    names: Sequence[ObjectName], records: Sequence[Record | None]
) -> Iterator[ObjectName]:
    """Yield the names of files that no object record names; there is one record for each name."""
    for name, record in zip(names, records, strict=True):
        object_record = object_record_of(record)
        if object_record is None or object_record.generation != name.generation:
            yield name


async def sweep_unfinished(files: ObjectStore, *, now: float) -> int:
    """Remove uploads that received no data for an hour.

    Returns how many were removed.
    """
    return await files.remove_unfinished(now - UNFINISHED_AFTER_S)


async def sweep_versions(store: Store, values: Values, *, now: float) -> bool:
    """Remove the versions of values that were deleted some days ago (ST20).

    Nothing is removed if the path was written again. Returns whether more may be due.
    """
    due_rows = await rows_until(store, VERSION_DUE_PREFIX, micros8(now), limit=_BATCH)
    for key, deletion in due_rows:
        space_and_path = value_or_empty(deletion).decode("utf-8", "surrogatepass")
        space_text, _, path = space_and_path.partition("\n")
        space = parse_space_id(space_text)
        value_row_key = head_key(space, path)
        snapshot = await store.read((value_row_key,), ranges=(versions_range(space, path),))
        (value_row,) = snapshot.records
        (page,) = snapshot.pages
        versions = versions_in(page)
        # The versions can have been removed before, by a purge. If the path was written again, its
        # versions are former values of the new value.
        if not versions or head_of(value_row, key=value_row_key) is not None:
            await commit_puts(store, Put(key, None))
            continue
        last_replaced_at_micros = max(version.replaced_at for version in versions.values())
        ends_at = last_replaced_at_micros / 1_000_000 + RESTORABLE_S
        if ends_at > now:
            # The path was written and deleted again after this row was written. Or the clocks of
            # two workers differ, and a version has a later time than the delete after it.
            later = VERSION_DUE_PREFIX + micros8(ends_at + 1) + key[_PATH_ID_OFFSET:]
            await commit_puts(store, Put(key, None), Put(later, deletion.value))
            continue
        # The draft deletes the deleted value once more. So the commit is refused if the path is
        # written meanwhile.
        draft = await values.draft(
            space, (Write(path, None),), snapshot.records, removed=versions, is_change=False
        )
        plan = await draft.finalize(now=now)
        puts = (*plan.puts, Put(key, None))
        await store.commit(Commit(puts=puts, checks=plan.checks, adds=plan.adds))
    return len(due_rows) == _BATCH
