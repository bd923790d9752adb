"""Removing the oldest part of the audit chain, so that what is left can still be verified (RC27,
RC28).

The chain is cut at a signed head only: the head stays as the checkpoint that the rest follows from.
What is cut was exported before, and the export was verified and compared with the chain, unless the
operator waived that. How far both have progressed is stored in one row, written before the first
entry is removed.
"""

from typing import Final, NamedTuple

import msgspec

from capabilities.clock_and_entropy import Entropy

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
    Commit,
    Committed,
    Put,
    Range,
    Record,
    Store,
    read_page,
    read_row,
    stamp_of,
)
from .audit_records import AuditRecord, audit_put

PRUNED: Final = "audit.pruned"
_BATCH: Final = 200
_TRIES: Final = 8


class Pruning(msgspec.Struct, frozen=True, array_like=True):
    """Numbers of entries: up to which a verified export is kept elsewhere, and up to which the
    chain was cut; or 0."""

    exported: int
    pruned: int


_CODEC: Final = Codec(Pruning)


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """The fields needed of a signed head."""

    number: int
    at_micros: int


class Pruned(NamedTuple):
    """What one batch did."""

    through: int
    more: bool


async def read_pruning(store: Store) -> Pruning:
    """Return how far the export and the pruning of the chain have progressed."""
    return pruning_of(await read_row(store, AUDIT_PRUNING_KEY))


async def note_exported(store: Store, *, number: int, entry: bytes) -> bool:
    """Note that every entry up to a number is kept elsewhere.

    Args:
        store: where the chain is.
        number: of the last entry of a verified export.
        entry: that entry; it has to be stored here under the number, so that no other chain's
            export counts.
    Returns:
        Whether the entry belongs to this chain.
    Raises:
        RecordDamaged, SpaceError: from reading and writing.
    """
    for _ in range(_TRIES):
        held = await read_row(store, sealed_key(number))
        if held is None or held.value != entry:
            return False
        row = await read_row(store, AUDIT_PRUNING_KEY)
        state = pruning_of(row)
        # ST16: also a repeat
        if await _write(store, row, Pruning(max(number, state.exported), state.pruned)):
            return True
    raise StoreBusy("others prune the audit chain at the same time")


async def prune_batch(
    store: Store, *, until: float, needs_export: bool, now: float, entropy: Entropy
) -> Pruned:
    """Cut the chain at the last signed head from before a time, and remove some of the entries that
    were cut off."""
    row = await read_row(store, AUDIT_PRUNING_KEY)
    state = pruning_of(row)
    cut, more_heads = await _last_head(store, state, until=until, needs_export=needs_export)
    if cut > state.pruned:
        record = AuditRecord(at=now, action=PRUNED, actor="node", subject=f"entries to {cut}")
        # The cut is durable before the first entry is removed: readers begin after it from then on.
        moved = await _write(
            store, row, Pruning(state.exported, cut), audit_put(record, entropy=entropy)
        )
        return Pruned(cut if moved else state.pruned, more=True)
    if not cut:
        return Pruned(0, more_heads)
    # Entries up to the cut, then heads below it.
    removed = await remove_until(
        store, SEALED_PREFIX, sealed_key(cut)[1:], limit=_BATCH
    ) or await remove_until(store, AUDIT_HEADS_PREFIX, audit_head_key(cut - 1)[1:], limit=_BATCH)
    return Pruned(cut, more=more_heads or removed > 0)


async def _last_head(
    store: Store, state: Pruning, *, until: float, needs_export: bool
) -> tuple[int, bool]:
    """Return the number of the head to cut at, and whether there are more heads to look at beyond
    it."""
    page = await read_page(
        store, Range(AUDIT_HEADS_PREFIX, after=audit_head_key(state.pruned), limit=_BATCH)
    )
    cut = state.pruned
    for _, record in page.rows:
        try:
            head = msgspec.json.decode(record.value or b"", type=_Head)
        except (ValueError, RecursionError) as exc:
            raise RecordDamaged("a head of the audit chain does not decode") from exc
        if head.at_micros >= until * 1_000_000 or (needs_export and head.number > state.exported):
            return cut, False
        cut = head.number
    return cut, page.more and cut > state.pruned


def pruning_of(row: Record | None) -> Pruning:
    """Read the row of this module."""
    return _CODEC.read(row) or Pruning(0, 0)


async def _write(store: Store, row: Record | None, state: Pruning, *more: Put) -> bool:
    put = Put(AUDIT_PRUNING_KEY, _CODEC.encode(state), expect=stamp_of(row))
    return isinstance(await store.commit(Commit(puts=(put, *more))), Committed)
