"""Deletion of the oldest audit log entries (RC27, RC28).

The last deleted entry always has a signed head. That head is kept, and the remaining entries are
verified from it. Entries are pruned only after they were exported, and the export was verified and
compared with the chain, unless the operator waived that. One row records the last exported and the
last pruned entry. It is written before the first entry is removed.
"""

import msgspec

from capabilities.clock_and_entropy import Entropy
from capabilities.frozen_struct import FrozenStruct

from .._codec import Codec
from ..expiry import remove_until
from ..keyspace import (
    AUDIT_HEADS_PREFIX,
    AUDIT_PRUNING_KEY,
    SEALED_PREFIX,
    audit_head_key,
    sealed_key,
)
from ..space_errors import RecordDamaged, StoreBusy
from ..store.contract import (
    Packed,
    Put,
    Range,
    Record,
    Store,
    commit_puts,
    read_page,
    read_row,
    stamp_of,
)
from .audit_records import AuditRecord

PRUNED = "audit.pruned"
_BATCH = 200
_TRIES = 8


class Pruning(Packed):
    """The progress of exporting and pruning the audit chain.

    The fields are the numbers of the last exported and the last pruned entry. 0 means that there is
    no such entry.

    An entry counts as exported when a verified export with it is stored elsewhere.
    """

    exported: int
    pruned: int


_CODEC = Codec(Pruning)


class _SignedHead(FrozenStruct, rename="camel"):
    """A signed hash of the audit chain."""

    number: int
    at_micros: int


async def read_pruning(store: Store) -> Pruning:
    """Read the progress of exporting and pruning the audit chain."""
    return pruning_of(await read_row(store, AUDIT_PRUNING_KEY))


async def note_exported(store: Store, *, number: int, entry: bytes) -> bool:
    """Record that audit log entries were exported and verified.

    All entries up to `number` are contained in the export.

    Args:
        store: contains the chain.
        number: the number of the last entry of a verified export.
        entry: that entry. It has to be equal to the stored entry, so that the export of another
            chain is rejected.
    Returns:
        Whether the entry belongs to this chain.
    Raises:
        RecordDamaged, SpaceError: from reading and writing.
    """
    for _ in range(_TRIES):
        stored = await read_row(store, sealed_key(number))
        if stored is None or stored.value != entry:
            return False
        row = await read_row(store, AUDIT_PRUNING_KEY)
        state = pruning_of(row)
        # ST16: a repeat writes the row too, because a failover can lose one that was only read
        if await _write(store, row, Pruning(max(number, state.exported), state.pruned)):
            return True
    raise StoreBusy("another process is pruning the audit chain at the same time")


async def prune_batch(
    store: Store, *, until: float, needs_export: bool, now: float, entropy: Entropy
) -> bool:
    """Delete some of the oldest audit log entries, and return whether to call again.

    The first call only records which entries will be removed. Each further call removes a batch.
    """
    row = await read_row(store, AUDIT_PRUNING_KEY)
    state = pruning_of(row)
    cut = await _find_cut(store, state, until=until, needs_export=needs_export)
    if cut > state.pruned:
        record = AuditRecord(at=now, action=PRUNED, actor="node", subject=f"entries to {cut}")
        # The cut has to be durable before the first entry is removed: readers begin after it. If
        # another process writes this row first, the next call begins with what it wrote.
        await _write(store, row, Pruning(state.exported, cut), record.put(entropy))
        return True
    if not cut:  # nothing was ever pruned
        return False
    # First the entries up to the cut are removed, then the heads below it. The head at the cut
    # stays, because the remaining entries are verified from it (RC28).
    removed = await remove_until(store, SEALED_PREFIX, sealed_key(cut)[1:], limit=_BATCH)
    if not removed:
        last_head = audit_head_key(cut - 1)[1:]
        removed = await remove_until(store, AUDIT_HEADS_PREFIX, last_head, limit=_BATCH)
    return removed > 0


async def _find_cut(store: Store, state: Pruning, *, until: float, needs_export: bool) -> int:
    """Return the number of the newest audit log entry that may be deleted.

    This is the last entry that was pruned already, if no more may be deleted. Only one page of
    signed heads is read. The next call continues after the cut.
    """
    page = await read_page(
        store, Range(AUDIT_HEADS_PREFIX, after=audit_head_key(state.pruned), limit=_BATCH)
    )
    cut = state.pruned
    for _, record in page.rows:
        try:
            head = msgspec.json.decode(record.value or b"", type=_SignedHead)
        except (ValueError, RecursionError) as exc:
            raise RecordDamaged("a signed head of the audit chain cannot be decoded") from exc
        if head.at_micros >= until * 1_000_000 or (needs_export and head.number > state.exported):
            break
        cut = head.number
    return cut


def pruning_of(row: Record | None) -> Pruning:
    """Decode a stored record of how far the audit chain was pruned."""
    return _CODEC.read(row) or Pruning(0, 0)


async def _write(store: Store, row: Record | None, state: Pruning, *more: Put) -> bool:
    put = Put(AUDIT_PRUNING_KEY, _CODEC.encode(state), expect=stamp_of(row))
    return await commit_puts(store, put, *more)
