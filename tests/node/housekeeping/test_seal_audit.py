"""Tests of sealing the audit records by housekeeping, on several processes."""

import asyncio
import json
import time
from typing import Any

import pytest
from tests_support import CountingEntropy, FixedClock

from capabilities.audit_export import verify_export
from node.housekeeping.schedule import JOBS, Housekeeper
from node.housekeeping.seal_audit import (
    DELAYED_S,
    RECENT_S,
    chain_of,
    seal_audit,
    seal_delayed,
    seal_recent,
)
from node.processes.start import claim_store
from node.services import Services
from spaces.audit.audit_chain import MAX_BATCH, exported_lines
from spaces.audit.audit_records import AuditRecord
from spaces.store.contract import Commit

SEALING = tuple(job for job in JOBS if job.name.startswith("seal-audit"))


@pytest.fixture
def clock() -> FixedClock:
    """A clock half a minute slow, so that tests may advance it within a database's limit (ST9)."""
    return FixedClock(time.time() - 30)


async def write(
    services: Services, *subjects: str, entropy: CountingEntropy, at: float | None = None
) -> None:
    """Write audit records as operations do."""
    at = services.clock.now() if at is None else at
    for subject in subjects:
        record = AuditRecord(at=at, action="kv.put", actor="did:key:zA", subject=subject)
        await services.store.commit(Commit(puts=(record.put(entropy),)))


async def sealed(services: Services) -> list[str]:
    """Return the subjects of the sealed records, in the order of the chain."""
    entries = [
        json.loads(line) async for line in exported_lines(services.store, chain_of(services))
    ]
    return [entry["subject"] for entry in entries if entry["type"] == "sealspace.audit-entry/v1"]


async def another(services: Services, clock: Any) -> Services:
    """Return the services of a second process on the same store."""
    return await claim_store(
        services.config,
        store=services.store,
        keyring=services.keyring,
        clock=clock,
        entropy=CountingEntropy(b"another"),
        again=True,
    )


async def test_a_turn_of_the_housekeeping_seals(serve, clock, entropy) -> None:
    """The lease's holder seals new records and signs a head at each turn (RC4, RC5)."""
    async with serve() as node:
        services = node.node.services
        keeper = Housekeeper(services, SEALING)
        await write(services, "one", "two", entropy=entropy)
        assert await keeper.turn()
        assert sorted(await sealed(services)) == ["one", "two"]
        clock.advance(2)
        await write(services, "three", entropy=entropy)
        assert await keeper.turn()
        clock.advance(61)
        assert await keeper.turn()
        lines = [line async for line in exported_lines(services.store, chain_of(services))]
        found = verify_export(lines, node_did=services.keyring.node_did)
        assert found.number == 3
        assert found.heads == 2


async def test_one_of_two_processes_seals(serve, clock, entropy) -> None:
    """Of two processes one seals; when it ends, the other continues the same chain (RC4)."""
    async with serve() as node:
        services = node.node.services
        other = await another(services, clock)
        first, second = Housekeeper(services, SEALING), Housekeeper(other, SEALING)
        await write(services, "one", entropy=entropy)
        assert [await first.turn(), await second.turn()] == [True, False]
        await first.leave()
        clock.advance(2)
        await write(other, "two", entropy=entropy)
        assert await second.turn()
        assert await sealed(services) == ["one", "two"]


async def test_two_who_both_believe_to_hold_the_lease(serve, clock, entropy) -> None:
    """Two processes that both hold the lease, because their clocks differ, seal each record once
    (RC4)."""
    async with serve() as node:
        services = node.node.services
        other = await another(services, clock)
        subjects = [f"s{number}" for number in range(130)]
        await write(services, *subjects, entropy=entropy)

        async def seal(one: Services) -> None:
            while await seal_recent(one):
                pass

        await asyncio.gather(*(seal(one) for one in (services, other, services, other)))
        assert sorted(await sealed(services)) == sorted(subjects)


async def test_a_record_that_was_long_on_its_way_is_found(serve, clock, entropy) -> None:
    """A late record is sealed by the job that looks further back."""
    async with serve() as node:
        services = node.node.services
        await write(services, "first", entropy=entropy)
        assert not await seal_recent(services)
        await write(services, "late", entropy=entropy, at=clock.now() - 2 * RECENT_S)
        assert not await seal_recent(services)
        assert await sealed(services) == ["first"]
        assert not await seal_delayed(services)
        assert await sealed(services) == ["first", "late"]


async def test_one_round_seals_many(serve, clock, entropy) -> None:
    """If the records exceed one commit, a round seals them in several commits."""
    async with serve() as node:
        services = node.node.services
        subjects = [f"s{number:03}" for number in range(2 * MAX_BATCH + 7)]
        await write(services, *subjects, entropy=entropy)
        assert not await seal_recent(services)
        assert sorted(await sealed(services)) == subjects


async def test_a_record_from_long_ago_is_found(serve, clock, entropy) -> None:
    """A record with a far too early time is sealed by the job that looks at all records."""
    async with serve() as node:
        services = node.node.services
        await write(services, "first", entropy=entropy)
        assert not await seal_recent(services)
        await write(services, "late", entropy=entropy, at=clock.now() - 10 * DELAYED_S)
        assert not await seal_recent(services)
        assert await sealed(services) == ["first"]
        assert not await seal_audit(services)
        assert await sealed(services) == ["first", "late"]
