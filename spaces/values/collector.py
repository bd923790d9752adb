"""Removing bodies that no head refers to. Run by one lease-holder; two at once do no harm.

- `collect`: a record at zero references is deleted by a commit, and its file unlinked an hour
  later, so that a client that read the head before still finds the body. A put that shared the body
  meanwhile changed the record, and the deletion is refused.
- `sweep_orphans`: a file that no record names, a day after it was written, becomes such due work
  too. A put may still be about to name it, for example in a process that was suspended for a day.
  So the sweep first puts a new stamp on a row that every put which names a file checks. A put that
  planned before that is refused and names its file anew; one that committed before is seen by the
  reads that follow.
- Who runs `collect` asks first whether a backup or a check holds the bodies (BK2).
- `sweep_unfinished`: an incoming body that was not written to for an hour is removed; its put
    fails.
"""

from collections.abc import Sequence
from typing import Final

from capabilities.clock_and_entropy import Entropy

from ..expiry import rows_until
from ..keyspace import BODIES_COUNTER, DUE_PREFIX, ORPHAN_SWEEP_KEY, micros8, object_key
from ..store.contract import Add, Commit, Put, Refused, Store, read_row
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

ORPHAN_AFTER_S: Final = 86_400.0
UNFINISHED_AFTER_S: Final = 3600.0
# Files looked up in one read and noted in one commit.
_BATCH: Final = 128


async def collect(
    store: Store, files: ObjectStore, *, now: float, entropy: Entropy, limit: int = 256
) -> int:
    """Do the due work on bodies; return how many items were done. Run it again while it returns
    more than 0.

    A crash between any two steps leaves the item due, and doing an item again does no harm.
    """
    due = await rows_until(store, DUE_PREFIX, micros8(now), limit=limit)
    for key, record in due:
        work = object_work_of(record)
        if work.unlink:
            await files.remove(work)
            # Over the exact row that was read: the file is subtracted once, even if another process
            # does the same.
            await store.commit(
                Commit(
                    puts=(Put(key, None, expect=record.stamp),),
                    adds=(Add(BODIES_COUNTER, -work.size_bytes),),
                )
            )
        else:
            await _delete_record(store, work, key, now=now, entropy=entropy)
    return len(due)


async def _delete_record(
    store: Store, work: ObjectWork, due: bytes, *, now: float, entropy: Entropy
) -> None:
    """Delete the record if it still has this generation and no references; the item is done either
    way."""
    key = object_key(work.space16, work.digest)
    record = await read_row(store, key)
    if record is not None and object_record_of(record) == ObjectRecord(work.generation, 0):
        size_bytes = work.size_bytes
        unlink = due_put(
            work, due_at=now + UNLINK_AFTER_S, unlink=True, entropy=entropy, size_bytes=size_bytes
        )
        outcome = await store.commit(
            Commit(puts=(Put(key, None, expect=record.stamp), Put(due, None), unlink))
        )
        if not isinstance(outcome, Refused):
            return
    await store.commit(Commit(puts=(Put(due, None),)))


async def sweep_orphans(store: Store, files: ObjectStore, *, now: float, entropy: Entropy) -> int:
    """Mark for removal the files that were written over a day ago and that no record names; return
    how many."""
    noted = 0
    async for names in files.older_than(now - ORPHAN_AFTER_S):
        # After the files were listed and before their records are read.
        await store.commit(Commit(puts=(Put(ORPHAN_SWEEP_KEY, b""),)))
        for first in range(0, len(names), _BATCH):
            noted += await _note_orphans(
                store, names[first : first + _BATCH], now=now, entropy=entropy
            )
    return noted


async def _note_orphans(
    store: Store, names: Sequence[ObjectName], *, now: float, entropy: Entropy
) -> int:
    records = (await store.read([object_key(name.space16, name.digest) for name in names])).records
    orphans = []
    for name, found in zip(names, map(object_record_of, records), strict=True):
        if found is None or found.generation != name.generation:
            orphans.append(name)
    if orphans:
        puts = tuple(
            due_put(name, due_at=now + UNLINK_AFTER_S, unlink=True, entropy=entropy)
            for name in orphans
        )
        await store.commit(Commit(puts=puts))
    return len(orphans)


async def sweep_unfinished(files: ObjectStore, *, now: float) -> int:
    """Remove bodies that stopped arriving over an hour ago; return how many."""
    return await files.remove_unfinished(now - UNFINISHED_AFTER_S)
