"""Removing the oldest part of the audit chain, so that what is left can still be verified (RC27, RC28).

The chain is cut at a signed head only: the head stays as the checkpoint that the rest follows from. What is cut was
exported before, and the export was verified and compared with the chain, unless the operator waived that. How far both
have progressed is stored in one row, written before the first entry is removed.
"""

from typing import Final, NamedTuple

import msgspec

from capabilities.ambient import Entropy

from .._codec import Codec
from ..errors import RecordDamaged, StoreBusy
from ..expiry import rows_until
from ..keyspace import AUDIT_HEADS_PREFIX, AUDIT_PRUNING_KEY, SEALED_PREFIX, audit_head_key, sealed_key
from ..store.contract import Commit, Committed, Put, Range, Record, Store, read_page, read_row, stamp_of
from .records import AuditRecord, audit_put

PRUNED: Final = "audit.pruned"
_BATCH: Final = 200
_TRIES: Final = 8


class Pruning(msgspec.Struct, frozen=True, array_like=True):
    """Numbers of entries: up to which a verified export is kept elsewhere, and up to which the chain was cut; or 0."""

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
    return (await _read(store))[1]


async def note_exported(store: Store, *, number: int, entry: bytes) -> bool:
    """Note that every entry up to a number is kept elsewhere.

    Args:
        store: where the chain is.
        number: of the last entry of a verified export.
        entry: that entry; it has to be stored here under the number, so that no other chain's export counts.
    Returns:
        Whether the entry belongs to this chain.
    Raises:
        RecordDamaged, SpaceError: from reading and writing.
    """
    for _ in range(_TRIES):
        held = await read_row(store, sealed_key(number))
        if held is None or held.value != entry:
            return False
        row, state = await _read(store)
        if await _write(store, row, Pruning(max(number, state.exported), state.pruned)):  # ST16: also a repeat
            return True
    raise StoreBusy("others prune the audit chain at the same time")


async def prune_batch(store: Store, *, until: float, needs_export: bool, now: float, entropy: Entropy) -> Pruned:
    """Cut the chain at the last signed head from before a time, and remove some of the entries that were cut off."""
    row, state = await _read(store)
    cut, more_heads = await _last_head(store, state, until=until, needs_export=needs_export)
    if cut > state.pruned:
        record = AuditRecord(at=now, action=PRUNED, actor="node", subject=f"entries to {cut}")
        record_put = audit_put(record, entropy=entropy)
        # The cut is durable before the first entry is removed: readers begin after it from then on.
        moved = await _write(store, row, Pruning(state.exported, cut), record_put)
        return Pruned(cut if moved else state.pruned, more=True)
    removed = await _remove(store, state.pruned)
    return Pruned(state.pruned, more=more_heads or removed)


async def _last_head(store: Store, state: Pruning, *, until: float, needs_export: bool) -> tuple[int, bool]:
    """Return the number of the head to cut at, and whether there are more heads to look at beyond it."""
    wanted = Range(AUDIT_HEADS_PREFIX, after=audit_head_key(state.pruned), limit=_BATCH)
    page = await read_page(store, wanted)
    cut = state.pruned
    for _, record in page.rows:
        head = _head(record)
        if head.at_micros >= until * 1_000_000 or (needs_export and head.number > state.exported):
            return cut, False
        cut = head.number
    return cut, page.more and cut > state.pruned


async def _remove(store: Store, pruned: int) -> bool:
    """Remove entries up to the cut, then heads below it; return whether there were any."""
    if not pruned:
        return False
    entries = await rows_until(store, SEALED_PREFIX, sealed_key(pruned)[1:], limit=_BATCH, keys_only=True)
    rows = entries or await rows_until(
        store, AUDIT_HEADS_PREFIX, audit_head_key(pruned - 1)[1:], limit=_BATCH, keys_only=True
    )
    if rows:
        await store.commit(Commit(puts=tuple(Put(key, None) for key, _ in rows)))
    return bool(rows)


def _head(record: Record) -> _Head:
    try:
        return msgspec.json.decode(record.value or b"", type=_Head)
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged("a head of the audit chain does not decode") from exc


async def _read(store: Store) -> tuple[Record | None, Pruning]:
    row = await read_row(store, AUDIT_PRUNING_KEY)
    return row, pruning_of(row)


def pruning_of(row: Record | None) -> Pruning:
    """Read the row of this module."""
    return _CODEC.read(row) or Pruning(0, 0)


async def _write(store: Store, row: Record | None, state: Pruning, *more: Put) -> bool:
    expect = stamp_of(row)
    put = Put(AUDIT_PRUNING_KEY, _CODEC.encode(state), expect=expect)
    return isinstance(await store.commit(Commit(puts=(put, *more))), Committed)
