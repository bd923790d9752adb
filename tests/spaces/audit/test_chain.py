"""Tests of the audit chain, which contains each record once and can be exported and verified."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from audit_records import audit_records
from fuzz_strategies import damaged_bytes, json_values
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, fuzzed

from capabilities.audit_export import (
    MAX_ENTRY_BYTES,
    VerifiedExport,
    canonical,
    entry_hash,
    genesis_hash,
    verify_export,
)
from capabilities.capability_errors import AuditChainBroken
from capabilities.signatures import Ed25519Signer
from spaces.audit.audit_chain import (
    HEAD_EVERY_S,
    MAX_TEXT_BYTES,
    Chain,
    exported_lines,
    oldest_unsealed_at,
    seal_batch,
)
from spaces.audit.audit_records import AuditRecord, audit_record_of
from spaces.documents.receipt_rows import evidence_inputs_of
from spaces.keyspace import AUDIT_CHAIN_KEY, AUDIT_PREFIX
from spaces.space_errors import RecordDamaged, SpaceError
from spaces.store.contract import ANY, Commit, Committed, Put, Range, Record, Refused, Store

NOW = 1_795_000_000.0
NODE = Ed25519Signer(b"\x71" * 32)
STORE_ID = b"\x17" * 16
CHAIN = Chain(node_did=NODE.did, store_id=STORE_ID, sign=NODE.sign)


def record(number: int, **members: Any) -> AuditRecord:
    """Return an audit record that differs from others."""
    named = {
        "action": "kv.put",
        "actor": "did:key:zA",
        "subject": f"s{number}",
        "token": b"t" * 32,
    } | members
    return AuditRecord(at=NOW + number / 1000, authority=(b"m" * 32,), **named)


async def write(
    store: Store, *records: AuditRecord, entropy: CountingEntropy | None = None
) -> None:
    """Write audit records as operations do, each in its own commit."""
    entropy = entropy or CountingEntropy()
    for one in records:
        assert isinstance(await store.commit(Commit(puts=(one.put(entropy),))), Committed)


async def seal_all(
    store: Store, *, now: float = NOW + 100, is_last: bool = True, limit: int = 100
) -> int:
    """Seal until no record is left; return the number of sealed records."""
    count = 0
    while True:
        sealed = await seal_batch(store, CHAIN, now=now, is_last=is_last, limit=limit)
        count += sealed.appended
        if not sealed.more:
            return count


async def exported(store: Store, *, after: int = 0) -> list[bytes]:
    """Return the lines of an export."""
    return [line async for line in exported_lines(store, CHAIN, after=after)]


def entries(lines: list[bytes]) -> list[Any]:
    """Return the entries among the lines of an export."""
    return [
        value for value in map(json.loads, lines) if value["type"] == "sealspace.audit-entry/v1"
    ]


def verified(lines: list[bytes]) -> VerifiedExport:
    """Verify an export and return its entries."""
    return verify_export(lines, node_did=NODE.did)


async def test_sealing_moves_every_record_once(one_store: Store) -> None:
    """Each record has one number, in the order of time, and the queue is empty (RC1, RC2, RC4)."""
    await write(one_store, *(record(number) for number in range(7)))
    assert await seal_all(one_store, limit=3) == 7
    assert await seal_all(one_store) == 0
    lines = await exported(one_store)
    assert [(entry["number"], entry["subject"]) for entry in entries(lines)] == [
        (n + 1, f"s{n}") for n in range(7)
    ]
    assert (await one_store.read(ranges=(Range(AUDIT_PREFIX),))).pages[0].rows == ()
    assert verified(lines).number == 7
    assert verified(lines).after == 0


async def test_the_oldest_waiting_record_is_reported(one_store: Store) -> None:
    """The time of the oldest unsealed record is reported, or None if all are sealed."""

    async def oldest() -> float | None:
        return await oldest_unsealed_at(one_store, CHAIN, now=NOW + 200, window_s=120)

    assert await oldest() is None
    await write(one_store, *(record(number) for number in range(4)))
    assert await oldest() == pytest.approx(NOW, abs=1e-3)
    await seal_batch(one_store, CHAIN, now=NOW + 100, limit=3)
    assert await oldest() == pytest.approx(NOW + 0.003, abs=1e-6)
    await seal_all(one_store)
    assert await oldest() is None
    await write(one_store, record(90_000))
    assert await oldest() == pytest.approx(NOW + 90, abs=1e-3)


async def test_entries_follow_from_each_other(one_store: Store) -> None:
    """The first entry contains the hash of the store's id, each later one the hash of the previous
    entry (RC2, RC3)."""
    await write(one_store, *(record(number) for number in range(3)))
    await seal_all(one_store)
    previous = genesis_hash(STORE_ID)
    for line in await exported(one_store):
        if json.loads(line)["type"] == "sealspace.audit-entry/v1":
            assert json.loads(line)["previous"] == previous.hex()
            previous = entry_hash(line.rstrip(b"\n"))
    assert verified(await exported(one_store)).hash == previous


async def test_sealed_and_waiting_records_are_one_listing(one_store: Store) -> None:
    """A listing has every record with all its details, sealed or not."""
    entropy = CountingEntropy()
    written = [record(number, detail=b"\x00\xff", request_id="r") for number in range(5)]
    await write(one_store, *written[:3], entropy=entropy)
    await seal_all(one_store)
    await write(one_store, *written[3:], entropy=entropy)
    assert list(await audit_records(one_store)) == written


async def test_heads_are_signed_now_and_then(one_store: Store) -> None:
    """A head is signed a minute after the last one and at each export, also over records that were
    sealed earlier (RC5)."""
    entropy = CountingEntropy()
    kinds = []
    for number, now in enumerate((NOW, NOW + 1, NOW + HEAD_EVERY_S - 1)):
        await write(one_store, record(number), entropy=entropy)
        await seal_all(one_store, now=now, is_last=False)
    kinds = [
        json.loads(line)["type"].split("/")[0].rpartition("-")[2]
        for line in await exported(one_store)
    ]
    assert kinds == ["export", "entry", "head", "entry", "entry"]
    with pytest.raises(AuditChainBroken, match="does not end with a head"):
        verified(await exported(one_store))
    assert await seal_all(one_store, now=NOW + HEAD_EVERY_S, is_last=False) == 0
    assert verified(await exported(one_store)).heads == 2
    assert verified(await exported(one_store)).number == 3


@pytest.fixture
async def holders(tmp_path: Path, engine_kind: Any) -> AsyncIterator[list[Store]]:
    """Three processes' views of one store, on every engine that several processes can open."""
    with engine_kind(tmp_path / "shared") as engine:
        async with AsyncExitStack() as stack:
            first = engine()
            stack.push_async_callback(first.close)
            stores = [first]
            for _ in range(2):
                try:
                    stores.append(engine())
                except SpaceError:  # one process alone has the embedded store
                    stores.append(first)
                else:
                    stack.push_async_callback(stores[-1].close)
            yield stores


async def test_of_many_who_seal_at_once_none_loses_a_record(holders: list[Store]) -> None:
    """If several processes seal at once while records arrive, each record is sealed exactly once
    (RC4)."""
    count = 60

    async def come() -> None:
        await write(holders[0], *(record(number) for number in range(count)))

    async def seal(store: Store) -> int:
        done = 0
        for _ in range(25):
            done += (await seal_batch(store, CHAIN, now=NOW + 100, limit=4)).appended
        return done

    _, *done = await asyncio.gather(come(), *(seal(store) for store in holders))
    assert sum(done) + await seal_all(holders[-1]) == count  # type: ignore[arg-type]  # only come() answers nothing
    lines = await exported(holders[1])
    assert sorted(entry["subject"] for entry in entries(lines)) == sorted(
        f"s{number}" for number in range(count)
    )
    assert verified(lines).number == count


class Losing:
    """A store in which a chosen commit fails: before it is written, or afterwards, with a lost
    reply."""

    def __init__(self, store: Store, *, at: int, is_done: bool) -> None:
        self._store, self._left, self._is_done = store, at, is_done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> Committed | Refused:
        self._left -= 1
        if self._left >= 0:
            return await self._store.commit(commit)
        if self._is_done:
            await self._store.commit(commit)
        raise ConnectionResetError


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", range(3))
async def test_a_holder_may_die_at_any_commit(one_store: Store, at: int, is_done: bool) -> None:
    """A process that continues after another one died builds the same whole chain (RC4)."""
    await write(one_store, *(record(number) for number in range(8)))
    with pytest.raises(ConnectionResetError):
        await seal_all(Losing(one_store, at=at, is_done=is_done), limit=3)
    await seal_all(one_store)
    assert [entry["subject"] for entry in entries(await exported(one_store))] == [
        f"s{number}" for number in range(8)
    ]
    assert verified(await exported(one_store)).number == 8


async def test_records_that_come_late_are_sealed(one_store: Store) -> None:
    """A record with an earlier time than sealed ones is sealed by the round that covers all
    times."""
    entropy = CountingEntropy()
    await write(one_store, record(5), entropy=entropy)
    await seal_all(one_store)
    await write(one_store, record(1), entropy=entropy)
    assert (await seal_batch(one_store, CHAIN, now=NOW + 200, window_s=99)).appended == 0
    assert (await seal_batch(one_store, CHAIN, now=NOW + 200)).appended == 1
    await write(one_store, record(2), entropy=entropy)
    # a clock that was set back
    assert (await seal_batch(one_store, CHAIN, now=NOW, window_s=99)).appended == 1


async def test_what_waited_while_nobody_sealed_is_sealed_first(one_store: Store) -> None:
    """After a pause of any length the frequent round continues where the last one stopped."""
    entropy = CountingEntropy()
    await write(one_store, record(0), entropy=entropy)
    await seal_all(one_store)
    await write(
        one_store,
        *(msgspec.structs.replace(record(number), at=NOW + 150 + number) for number in range(1, 5)),
        entropy=entropy,
    )
    sealed = [
        (await seal_batch(one_store, CHAIN, now=NOW + 10_000, window_s=10, limit=2)).appended
        for _ in range(3)
    ]
    assert sealed == [2, 2, 0]


async def test_no_record_stops_the_chain(one_store: Store) -> None:
    """A record with very long texts is sealed under the hashes of the texts (RC2)."""
    entropy = CountingEntropy()
    huge = [
        record(number, subject="\x01" * MAX_TEXT_BYTES, detail=b"d" * 16_384)
        for number in range(90)
    ]
    await write(one_store, record(-1, subject="p" * 300_000), *huge, entropy=entropy)
    assert await seal_all(one_store) == 91
    lines = await exported(one_store)
    assert entries(lines)[0]["subject"].startswith("sha256:")
    assert max(map(len, lines)) < MAX_ENTRY_BYTES
    assert verified(lines).number == 91


async def test_a_damaged_head_stops_sealing(one_store: Store) -> None:
    """If the head is missing or malformed nothing is sealed, because a second chain would hide the
    first."""
    await write(one_store, record(0))
    for value in (b"\x93", None):
        await one_store.commit(Commit(puts=(Put(AUDIT_CHAIN_KEY, value, expect=ANY),)))
        with pytest.raises(RecordDamaged):
            await seal_batch(one_store, CHAIN, now=NOW)


# --- verifying an export --------------------------------------------------------------------------


@pytest.fixture
async def lines(one_store: Store) -> list[bytes]:
    """An export of six entries under two heads."""
    entropy = CountingEntropy()
    for start in (0, 3):
        await write(one_store, *(record(start + number) for number in range(3)), entropy=entropy)
        await seal_all(one_store)
    return await exported(one_store)


async def test_every_flipped_byte_is_found(lines: list[bytes]) -> None:
    """Verification of an export fails if any byte is changed, at the next head at the latest
    (RC6)."""
    text = b"".join(lines)
    assert verified(lines).number == 6
    for position in range(0, len(text), 7):
        damaged = text[:position] + bytes([text[position] ^ 1]) + text[position + 1 :]
        with pytest.raises(AuditChainBroken):
            verified(damaged.splitlines(keepends=True))


async def test_lines_taken_away_moved_or_added(lines: list[bytes]) -> None:
    """Removed, moved or added lines of an export are found, except for a removed tail after a head
    (RC6)."""
    assert [json.loads(line)["type"].rpartition("-")[2][:4] for line in lines] == [
        *("expo", "entr", "entr", "entr", "head", "entr", "entr", "entr", "head")
    ]
    assert verified(lines[:5]).number == 3
    for broken in (
        [],
        lines[1:],
        lines[:4],
        [*lines[:2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[1]],
        [*lines, lines[0]],
        [*lines, b"{}\n"],
        [*lines, canonical({"type": "x"})],
        [lines[0], lines[4]],
        [*lines[:4], lines[8]],
    ):
        with pytest.raises(AuditChainBroken):
            verified(broken)


async def test_another_nodes_export(lines: list[bytes]) -> None:
    """Only the named node's signature counts, and the name has to be one (RC6)."""
    for did in (Ed25519Signer(b"\x72" * 32).did, "did:web:example.org", ""):
        with pytest.raises(AuditChainBroken):
            verify_export(lines, node_did=did)


async def test_a_chain_made_anew_needs_the_nodes_key(lines: list[bytes]) -> None:
    """Rewriting an entry and all hashes after it leaves no valid head over them (RC5)."""
    forged, previous = [lines[0]], genesis_hash(STORE_ID)
    for line in lines[1:]:
        members = json.loads(line)
        if "previous" in members:
            members |= {"previous": previous.hex(), "subject": "forged"}
            previous = entry_hash(canonical(members))
        else:
            members |= {"hash": previous.hex()}
        forged.append(canonical(members) + b"\n")
    with pytest.raises(AuditChainBroken, match="signature"):
        verified(forged)


async def test_a_part_of_the_chain(one_store: Store, lines: list[bytes]) -> None:
    """An export of part of the chain states the number it starts after, and is verified by the
    heads in it (RC6)."""
    part = await exported(one_store, after=3)
    assert verified(part).after == 3
    assert verified(part).number == 6
    assert verified(part).heads == 1
    assert verified(part).hash == verified(lines).hash


@fuzzed()
@given(
    st.lists(
        st.binary(max_size=200)
        | json_values(NODE.did, members=("type", "node", "store", "after")).map(
            lambda v: json.dumps(v).encode()
        )
        | damaged_bytes(
            canonical(
                {
                    "type": "sealspace.audit-export/v1",
                    "node": NODE.did,
                    "store": STORE_ID.hex(),
                    "after": 0,
                }
            )
        ),
        max_size=4,
    )
)
def test_fuzz_exports(lines: list[bytes]) -> None:
    """Any lines are a valid export or raise the error for a broken one."""
    with pytest.raises(AuditChainBroken):
        verify_export(lines, node_did=NODE.did)


@fuzzed()
@given(st.binary(max_size=80))
def test_fuzz_rows(value: bytes) -> None:
    """Any bytes are parsed as a row or raise RecordDamaged."""
    for parse in (audit_record_of, evidence_inputs_of):
        try:
            parse(Record(value, b""))
        except RecordDamaged:
            continue
