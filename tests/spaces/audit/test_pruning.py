"""Tests of pruning the audit chain, after which the rest still verifies."""

import asyncio
import json
from typing import Any

import pytest
from audit_records import audit_records
from tests_support import CountingEntropy

from capabilities.audit_export import verify_export
from capabilities.capability_errors import AuditChainBroken
from capabilities.signatures import Ed25519Signer
from spaces.audit.audit_chain import Chain, exported_lines, seal_batch
from spaces.audit.audit_records import AuditRecord
from spaces.audit.pruning import PRUNED, note_exported, prune_batch, read_pruning
from spaces.keyspace import AUDIT_HEADS_PREFIX, AUDIT_PRUNING_KEY, SEALED_PREFIX, audit_head_key
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Commit, Committed, Put, Range, Store

NOW = 1_795_000_000.0
DAY_S = 86_400.0
NODE = Ed25519Signer(b"\x71" * 32)
CHAIN = Chain(node_did=NODE.did, store_id=b"\x17" * 16, sign=NODE.sign)


async def days_of_records(
    store: Store, entropy: CountingEntropy, *, days: int = 6, each: int = 5
) -> None:
    """Write and seal some records per day, with a signed head after each day."""
    for day in range(days):
        for number in range(each):
            record = AuditRecord(
                at=NOW + day * DAY_S + number,
                action="kv.put",
                actor="did:key:zA",
                subject=f"day {day}, {number}",
            )
            assert isinstance(await store.commit(Commit(puts=(record.put(entropy),))), Committed)
        while (await seal_batch(store, CHAIN, now=NOW + day * DAY_S + 100, is_last=True)).more:
            pass


async def prune(store: Store, *, until: float, needs_export: bool = True) -> int:
    while True:
        more = await prune_batch(
            store,
            until=until,
            needs_export=needs_export,
            now=NOW + 100 * DAY_S,
            entropy=CountingEntropy(b"prune"),
        )
        if not more:
            return (await read_pruning(store)).pruned


async def exported(store: Store, *, after: int = 0) -> list[bytes]:
    return [line async for line in exported_lines(store, CHAIN, after=after)]


def numbers(lines: list[bytes]) -> list[int]:
    values: list[Any] = [json.loads(line) for line in lines]
    return [value["number"] for value in values if value["type"] == "sealspace.audit-entry/v1"]


async def keep(store: Store, *, upto: int | None = None) -> bool:
    """Record that an export up to a number was stored elsewhere."""
    lines = [
        line
        for line in await exported(store)
        if json.loads(line)["type"] == "sealspace.audit-entry/v1"
    ]
    last = (
        next(line for line in lines if upto in (None, json.loads(line)["number"]))
        if upto
        else lines[-1]
    )
    return await note_exported(
        store, number=json.loads(last)["number"], entry=last.removesuffix(b"\n")
    )


async def test_what_is_left_of_a_cut_chain_verifies(store: Store, entropy: CountingEntropy) -> None:
    """A chain is pruned up to a signed head. An export begins with that head, and the rest follows
    from it (RC27, RC28)."""
    await days_of_records(store, entropy)
    whole = verify_export(await exported(store), node_did=NODE.did)
    assert await keep(store)
    assert await prune(store, until=NOW + 2 * DAY_S) == 10
    lines = await exported(store)
    assert numbers(lines) == list(range(11, 31))
    left = verify_export(lines, node_did=NODE.did)
    assert left.after == 10
    assert left.number == whole.number
    assert left.hash == whole.hash
    assert numbers(await exported(store, after=3)) == numbers(lines)
    assert numbers(await exported(store, after=20)) == list(range(21, 31))
    pages = (await store.read(ranges=(Range(SEALED_PREFIX), Range(AUDIT_HEADS_PREFIX)))).pages
    assert [len(page.rows) for page in pages] == [20, 5]  # and nothing else of what was cut is left


async def test_the_first_entry_has_to_follow_from_the_head(
    store: Store, entropy: CountingEntropy
) -> None:
    """An export of a pruned chain fails if its first entry does not follow from the head."""
    await days_of_records(store, entropy)
    await keep(store)
    await prune(store, until=NOW + 2 * DAY_S)
    lines = await exported(store)
    opening = json.loads(lines[0])
    forged = (
        json.dumps({**opening, "after": 11}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    )
    for wrong in (
        [lines[0], lines[1], *lines[3:]],  # the first entry left out
        [forged, lines[1], *lines[3:]],  # and the opening to fit
        [lines[0], lines[-1], *lines[2:]],  # another head
    ):
        with pytest.raises(AuditChainBroken):
            verify_export(wrong, node_did=NODE.did)
    with pytest.raises(AuditChainBroken):
        verify_export(lines, node_did=Ed25519Signer(b"\x72" * 32).did)


async def test_nothing_is_cut_that_is_not_kept_elsewhere(
    store: Store, entropy: CountingEntropy
) -> None:
    """Without a stored export nothing is pruned. With one, nothing after it is pruned (RC27)."""
    await days_of_records(store, entropy)
    assert await prune(store, until=NOW + 99 * DAY_S) == 0
    assert await keep(store, upto=12)
    assert (await read_pruning(store)).exported == 12
    assert await prune(store, until=NOW + 99 * DAY_S) == 10  # the last signed head below it
    assert numbers(await exported(store))[0] == 11


async def test_who_asks_for_it_cuts_without_an_export(
    store: Store, entropy: CountingEntropy
) -> None:
    """The operator may prune without an export; the signed head is kept."""
    await days_of_records(store, entropy)
    assert await prune(store, until=NOW + 99 * DAY_S, needs_export=False) == 30
    lines = await exported(store)
    assert numbers(lines) == []
    assert verify_export(lines, node_did=NODE.did).number == 30


async def test_sealing_goes_on_after_a_cut(store: Store, entropy: CountingEntropy) -> None:
    """New entries follow from the pruned ones, and one of them records the pruning."""
    await days_of_records(store, entropy, days=2)
    await prune(store, until=NOW + 99 * DAY_S, needs_export=False)
    while (await seal_batch(store, CHAIN, now=NOW + 101 * DAY_S, is_last=True)).more:
        pass
    lines = await exported(store)
    assert verify_export(lines, node_did=NODE.did).number == 11
    (record,) = await audit_records(store)
    assert record.action == PRUNED
    assert record.subject == "entries to 10"


async def test_the_export_of_another_chain_counts_nothing(
    store: Store, entropy: CountingEntropy
) -> None:
    """Only an export with the number and hash of an entry in this store counts as an export of its
    chain."""
    await days_of_records(store, entropy, days=1)
    (first, *_) = [line for line in await exported(store) if b"audit-entry" in line]
    assert not await note_exported(store, number=2, entry=first.removesuffix(b"\n"))
    assert not await note_exported(store, number=99, entry=first.removesuffix(b"\n"))
    assert (await read_pruning(store)).exported == 0
    assert await note_exported(store, number=1, entry=first.removesuffix(b"\n"))
    assert await note_exported(store, number=1, entry=first.removesuffix(b"\n"))  # again is no harm


async def test_ST16_an_export_that_was_noted_is_noted_again(
    store: Store, entropy: CountingEntropy
) -> None:
    """A repeated note is written again, since a failover may have lost the first. The number is
    never lowered."""
    await days_of_records(store, entropy)
    assert await keep(store)
    for upto in (None, 1):
        before = (
            (await store.read((AUDIT_PRUNING_KEY,))).records[0],
            (await read_pruning(store)).exported,
        )
        assert await keep(store, upto=upto)
        after = (
            (await store.read((AUDIT_PRUNING_KEY,))).records[0],
            (await read_pruning(store)).exported,
        )
        assert before[0] is not None
        assert after[0] is not None
        assert before[0].stamp != after[0].stamp
        assert before[1] == after[1]


async def test_exports_that_are_noted_at_once_all_count(
    store: Store, entropy: CountingEntropy
) -> None:
    """Concurrent notes of exports are retried, and none replaces a later one."""
    await days_of_records(store, entropy)
    assert all(await asyncio.gather(*[keep(store, upto=number) for number in (4, 12, 7, 9)]))
    assert (await read_pruning(store)).exported == 12


@pytest.mark.parametrize("damage", [b"", b"no head", b'{"number": "x"}', b"[" * 10_000])
async def test_a_damaged_head_stops_the_cut(
    store: Store, entropy: CountingEntropy, damage: bytes
) -> None:
    """A malformed chain head stops the pruning."""
    await days_of_records(store, entropy, days=2)
    await store.commit(Commit(puts=(Put(audit_head_key(5), damage),)))
    with pytest.raises(RecordDamaged):
        await prune(store, until=NOW + 99 * DAY_S, needs_export=False)
    assert (await read_pruning(store)).pruned == 0


async def test_a_cut_chain_without_its_head_is_no_export(
    store: Store, entropy: CountingEntropy
) -> None:
    """An export of a pruned chain without its first head fails."""
    await days_of_records(store, entropy)
    through = await prune(store, until=NOW + 2 * DAY_S, needs_export=False)
    await store.commit(Commit(puts=(Put(audit_head_key(through), None),)))
    with pytest.raises(RecordDamaged, match="the signed head for the last pruned entry"):
        await exported(store)


async def test_a_death_between_cut_and_removal(store: Store, entropy: CountingEntropy) -> None:
    """The new head is durable before entries are removed. After a crash at any point an export
    verifies."""
    await days_of_records(store, entropy)
    await keep(store)
    options: dict[str, Any] = {"needs_export": True, "now": NOW, "entropy": entropy}
    assert await prune_batch(store, until=NOW + 2 * DAY_S, **options)
    assert (await read_pruning(store)).pruned == 10
    assert numbers(await exported(store)) == list(range(11, 31))
    assert verify_export(await exported(store), node_did=NODE.did).after == 10
    assert await prune(store, until=NOW + 2 * DAY_S) == 10
