"""Random interleavings of calls to two nodes on one database, with their recorded histories.

Both nodes run in this process, each with a store of its own behind a relay of its own, so that one
clock times every call. In an interleaving a delegate puts, gets, deletes and decrypts under a
grant, a reader gets under another one, the grant is revoked, and some tokens are sent to both
nodes; the calls of three callers overlap as the held commits let them. What is drawn follows from
the seed; how the calls meet also depends on the machine.

Example:
    report = await run(url, interleavings=300, seed=1)
    assert report.faults == []
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from history.checker import Call, Did, Said, faults
from history.party import KEYS, SPACES_OF_AN_OWNER, Party, Request, new_party, said_of
from postgres_relay import Loss, Relay, relayed
from running_node import Reply, exchange
from trust_settings import trusting_config

from node.config.tree import Hosting, Limits, Secret, Store
from spaces.archive.checking import check_store
from spaces.store.postgres.copying import PostgresRows
from spaces.values.object_folder import ObjectFolder

LIMIT_BYTES = 2000
_SIZES = (400, 700, 900)
_CALLS = 8
_CALLERS = 3
_LONGEST_HOLD_S, _HELD = 0.06, 0.25


@dataclass
class Report:
    """The result of a run.

    Attributes:
        interleavings: how many were run.
        calls: how many calls they had.
        faults: seed and number of each interleaving that no rule explains, with its calls.
        answers: how often each kind of call was answered how.
        met: interleavings in which a revocation and a call under its grant overlapped.
        lost: connections that were lost on purpose.
        seconds: how long it took.
    """

    interleavings: int = 0
    calls: int = 0
    faults: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    met: int = 0
    lost: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Nodes:
    """Two nodes on one database."""

    urls: tuple[str, str]
    relays: tuple[Relay, Relay]
    platform: SimulatedPlatform
    session: aiohttp.ClientSession


@asynccontextmanager
async def two_nodes(database: str, folder: Path, chance: random.Random) -> AsyncIterator[Nodes]:
    """Run two nodes with one secret, each behind a relay that delays commits."""
    platform = SimulatedPlatform.from_seed(b"platform of the interleavings")
    async with AsyncExitStack() as running:
        urls, relays = [], []
        for name in ("one", "two"):
            address, relay = await running.enter_async_context(relayed(database))
            relay.delay = lambda: _hold(chance)
            config = trusting_config(
                folder,
                platform,
                store=Store(data=str(folder / name), url=address),
                hosting=Hosting(default_quota_bytes=LIMIT_BYTES),
                limits=Limits(unauthenticated_per_minute=0, challenges_per_minute=1_000_000),
                secret=Secret(value="c2VjcmV0IG9mIHRoZSB0d28gbm9kZXMgb2YgdGhlIGludGVybGVhdmluZ3M"),
            )
            urls.append((await running.enter_async_context(embedded_node(config))).url)
            relays.append(relay)
        connector = aiohttp.TCPConnector(limit=64)
        session = await running.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Nodes((urls[0], urls[1]), (relays[0], relays[1]), platform, session)


class Interleaving:
    """The calls of several callers about one space."""

    def __init__(self, nodes: Nodes, party: Party, at: int, chance: random.Random) -> None:
        self._nodes = nodes
        self._party = party
        self._at = at
        self._chance = chance
        self._count = 0
        self._grant = ""
        self.history: list[Call] = []

    async def run(self) -> None:
        """Register the grant, run the callers, and read everything at both nodes."""
        party, chance = self._party, self._chance
        self._grant = party.new_grant(at=self._at)
        reply = await self._post(chance.randrange(2), "/delegate", self._grant, None)
        assert reply.status == 200, reply.said
        calls = [self._drawn() for _ in range(_CALLS)]
        if chance.random() < 0.8:
            calls.insert(chance.randrange(len(calls)), Did.REVOKE)
        await asyncio.gather(*[self._call_in_turn(calls[at::_CALLERS]) for at in range(_CALLERS)])
        for node in range(2):
            await self._read_all(node)

    async def _read_all(self, node: int) -> None:
        await asyncio.gather(
            *[self._send(Did.GET, key, node=node, under_grant=False) for key in KEYS]
        )

    def _drawn(self) -> Did:
        return self._chance.choice(
            (Did.PUT, Did.PUT, Did.PUT, Did.DELETE, Did.GET, Did.GET, Did.DECRYPT, Did.DECRYPT)
        )

    async def _call_in_turn(self, calls: Sequence[Did]) -> None:
        for did in calls:
            key, under_grant = (
                self._chance.choice(KEYS),
                did is not Did.GET or self._chance.random() < 0.5,
            )
            if did is Did.REVOKE:
                await self._revoke_beside_puts()
            else:
                await self._send(did, key, node=self._chance.randrange(2), under_grant=under_grant)

    async def _revoke_beside_puts(self) -> None:
        """Revoke at one node while the other node puts, and read after the acknowledgement."""
        node = self._chance.randrange(2)
        async with asyncio.TaskGroup() as beside:
            for key in self._chance.sample(KEYS, 2):
                beside.create_task(self._send(Did.PUT, key, node=1 - node, under_grant=True))
            await self._send(Did.REVOKE, "", node=node, under_grant=True)
            await self._read_all(node)

    async def _send(self, did: Did, key: str, *, node: int, under_grant: bool) -> None:
        """Send one call, and sometimes its token to the other node at the same time."""
        self._count += 1
        size_bytes = self._chance.choice(_SIZES) if did is Did.PUT else 0
        value = f"{key}{self._count}".ljust(size_bytes, ".") if did is Did.PUT else None
        request = self._party.request(
            did, key, value, grant=self._grant, at=self._at, under_grant=under_grant
        )
        asked = Call(did, Said.UNKNOWN, 0, 0, self._count, key, value, size_bytes, under_grant)
        copies = 2 if did is not Did.REVOKE and self._chance.random() < 0.15 else 1
        await asyncio.gather(
            *[self._recorded(asked, (node + at) % 2, request) for at in range(copies)]
        )

    async def _recorded(self, asked: Call, node: int, request: Request) -> None:
        asked_at = time.monotonic()
        reply = await self._post(node, request.path, request.token, request.body)
        said = said_of(asked.did, reply)
        value = reply.text if asked.did is Did.GET and said is Said.DONE else asked.value
        self.history.append(
            replace(asked, said=said, asked_at=asked_at, answered_at=time.monotonic(), value=value)
        )

    async def _post(self, node: int, path: str, token: str, body: bytes | None) -> Reply:
        nodes = self._nodes
        return await exchange(nodes.session, nodes.urls[node], "POST", path, token=token, body=body)


async def run(
    database: str,
    folder: Path,
    *,
    interleavings: int,
    seed: int,
    at_once: int = 3,
    loss: float = 0.0,
) -> Report:
    """Run interleavings, and check the history of each one, and then the store.

    Args:
        database: address of an empty database.
        folder: for what nodes keep beside it.
        interleavings: how many.
        seed: of everything that is drawn.
        at_once: parties that are at work at the same time.
        loss: share of the interleavings before which a connection to the database is to be lost.
    """
    report, begun = Report(), time.monotonic()
    async with two_nodes(database, folder, random.Random(seed)) as nodes:
        numbers = iter(range(interleavings))

        async def work(worker: int) -> None:
            chance = random.Random(f"{seed}/{worker}")
            while True:
                async with AsyncExitStack() as clients:
                    party = await new_party(chance.choice(nodes.urls), nodes.platform, clients)
                    for at in range(SPACES_OF_AN_OWNER):
                        number = next(numbers, None)
                        if number is None:
                            return
                        if chance.random() < loss:
                            chance.choice(nodes.relays).lose(
                                chance.choice((Loss.ANSWER, Loss.QUESTION))
                            )
                            report.lost += 1
                        interleaving = Interleaving(nodes, party, at, chance)
                        await interleaving.run()
                        _judge(
                            report,
                            interleaving.history,
                            f"seed {seed}, worker {worker}, interleaving {number}",
                        )

        async with asyncio.TaskGroup() as group:
            for worker in range(at_once):
                group.create_task(work(worker))
    objects = ObjectFolder(folder / "objects")  # no value is large enough for a file
    checked = await check_store(PostgresRows(database), objects, folder)
    for finding in checked.findings:
        report.faults.append(f"seed {seed}: {finding.what} {finding.name}: {finding.text}")
    report.seconds = time.monotonic() - begun
    return report


def _judge(report: Report, history: Sequence[Call], name: str) -> None:
    report.interleavings += 1
    report.calls += len(history)
    report.answers.update(f"{call.did.name} {call.said.name}" for call in history)
    revoked = [call for call in history if call.did is Did.REVOKE]
    report.met += any(
        call.under_grant
        and call.asked_at < revocation.answered_at
        and revocation.asked_at < call.answered_at
        for revocation in revoked
        for call in history
        if call is not revocation
    )
    found = faults(history, limit_bytes=LIMIT_BYTES)
    if found:
        calls = "\n".join(map(str, sorted(history, key=lambda call: call.asked_at)))
        report.faults.append(f"{name}: {'; '.join(found)}\n{calls}")


def _hold(chance: random.Random) -> float:
    return chance.uniform(0, _LONGEST_HOLD_S) if chance.random() < _HELD else 0.0
