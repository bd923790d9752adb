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
from attacks.parties import DECRYPT, DELETE, GET, PUT, Delegate, Owner, Stage, policy_for, stage_on
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from history.checker import Call, Did, Said, faults
from postgres_relay import Loss, Relay, relayed
from running_node import Reply, exchange, key_token, network_path, new_key, wallet_token
from trust_settings import trusting_config
from wire_replay import token_id

from node.config.tree import Hosting, Limits, Secret, Store

LIMIT_BYTES = 2000
SPACES_OF_AN_OWNER = 12
_KEYS = ("a", "b", "c")
_SIZES = (400, 700, 900)
_CALLS = 8
_CALLERS = 3
_LONGEST_HOLD_S, _HELD = 0.06, 0.25
_PROGRAM = "approved"


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


@dataclass
class Party:
    """An owner with a secret, an attested delegate, and a reader, for some interleavings."""

    nodes: Nodes
    stage: Stage
    owner: Owner
    delegate: Delegate
    reader: Delegate
    reading: str

    def space(self, at: int) -> str:
        """Id of the space of one interleaving."""
        return f"tinycloud:{self.owner.wallet.did.removeprefix('did:')}:space-{at}"


async def new_party(nodes: Nodes, clients: AsyncExitStack, chance: random.Random) -> Party:
    """Sign in an owner and attest a delegate of that owner."""
    stage = await stage_on(chance.choice(nodes.urls), nodes.platform, clients)
    owner = await stage.owner()
    delegate, reader = Delegate(new_key()), Delegate(new_key())
    delegate.proofs.append(
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for(_PROGRAM)))
    )
    await stage.attest(delegate, owner.network, program=_PROGRAM)
    party = Party(nodes, stage, owner, delegate, reader, "")
    spaces = {f"{party.space(at)}/kv": [GET] for at in range(SPACES_OF_AN_OWNER)}
    party.reading = await stage.register(wallet_token(owner.wallet, reader.did, spaces))
    return party


class Interleaving:
    """The calls of several callers about one space."""

    def __init__(self, party: Party, at: int, chance: random.Random) -> None:
        self._party = party
        self._space = party.space(at)
        self._chance = chance
        self._count = 0
        self._grant = ""
        self.history: list[Call] = []

    async def run(self) -> None:
        """Register the grant, run the callers, and read everything at both nodes."""
        party, chance = self._party, self._chance
        abilities = {f"{self._space}/kv": [PUT, GET, DELETE], party.owner.network: [DECRYPT]}
        self._grant = wallet_token(
            party.owner.wallet, party.delegate.did, abilities, policy=policy_for(_PROGRAM)
        )
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
            *[self._send(Did.GET, key, node=node, under_grant=False) for key in _KEYS]
        )

    def _drawn(self) -> Did:
        return self._chance.choice(
            (Did.PUT, Did.PUT, Did.PUT, Did.DELETE, Did.GET, Did.GET, Did.DECRYPT, Did.DECRYPT)
        )

    async def _call_in_turn(self, calls: Sequence[Did]) -> None:
        for did in calls:
            key, under_grant = (
                self._chance.choice(_KEYS),
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
            for key in self._chance.sample(_KEYS, 2):
                beside.create_task(self._send(Did.PUT, key, node=1 - node, under_grant=True))
            await self._send(Did.REVOKE, "", node=node, under_grant=True)
            await self._read_all(node)

    async def _send(self, did: Did, key: str, *, node: int, under_grant: bool) -> None:
        """Send one call, and sometimes its token to the other node at the same time."""
        self._count += 1
        size_bytes = self._chance.choice(_SIZES) if did is Did.PUT else 0
        value = f"{key}{self._count}".ljust(size_bytes, ".") if did is Did.PUT else None
        path, token, body = self._request(did, key, value, under_grant=under_grant)
        asked = Call(did, Said.UNKNOWN, 0, 0, self._count, key, value, size_bytes, under_grant)
        copies = 2 if did is not Did.REVOKE and self._chance.random() < 0.15 else 1
        await asyncio.gather(
            *[self._recorded(asked, (node + at) % 2, path, token, body) for at in range(copies)]
        )

    def _request(
        self, did: Did, key: str, value: str | None, *, under_grant: bool
    ) -> tuple[str, str, bytes | None]:
        party = self._party
        delegate = party.delegate
        if did is Did.REVOKE:
            target = {f"urn:cid:{token_id(self._grant)}": ["tinycloud.delegation/revoke"]}
            return "/revoke", key_token(delegate.signer, delegate.did, target), None
        if did is Did.DECRYPT:
            asked = party.stage.decrypt(delegate, party.owner, proofs=[self._grant])
            return network_path(asked.network, "decrypt"), asked.token, asked.body
        ability = {Did.PUT: PUT, Did.GET: GET, Did.DELETE: DELETE}[did]
        who, proof = (delegate, self._grant) if under_grant else (party.reader, party.reading)
        resource = {f"{self._space}/kv/{key}": [ability]}
        token = key_token(who.signer, who.did, resource, proofs=[proof])
        return "/invoke", token, None if value is None else value.encode()

    async def _recorded(
        self, asked: Call, node: int, path: str, token: str, body: bytes | None
    ) -> None:
        asked_at = time.monotonic()
        reply = await self._post(node, path, token, body)
        said = _said(asked.did, reply)
        value = reply.text if asked.did is Did.GET and said is Said.DONE else asked.value
        self.history.append(
            replace(asked, said=said, asked_at=asked_at, answered_at=time.monotonic(), value=value)
        )

    async def _post(self, node: int, path: str, token: str, body: bytes | None) -> Reply:
        nodes = self._party.nodes
        return await exchange(nodes.session, nodes.urls[node], "POST", path, token=token, body=body)


def _said(did: Did, reply: Reply) -> Said:
    """Convert an answer, and fail for one that no history can contain."""
    match reply.status:
        case 200:
            return Said.DONE
        case 404 if did in (Did.GET, Did.DELETE):
            return Said.NOTHING_THERE
        case 401 if "revoked" in reply.text:
            return Said.NOT_ALLOWED
        case 402 | 413 if did is Did.PUT:
            return Said.NO_FREE_SPACE
        case 409 if "duplicate" in reply.text:
            return Said.USED_BEFORE
        case 503:
            return Said.UNKNOWN
    raise AssertionError((did, reply.said))


async def run(
    database: str,
    folder: Path,
    *,
    interleavings: int,
    seed: int,
    at_once: int = 3,
    loss: float = 0.0,
) -> Report:
    """Run interleavings, and check the history of each one.

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
                    party = await new_party(nodes, clients, chance)
                    for at in range(SPACES_OF_AN_OWNER):
                        number = next(numbers, None)
                        if number is None:
                            return
                        if chance.random() < loss:
                            chance.choice(nodes.relays).lose(
                                chance.choice((Loss.ANSWER, Loss.QUESTION))
                            )
                            report.lost += 1
                        interleaving = Interleaving(party, at, chance)
                        await interleaving.run()
                        _judge(
                            report,
                            interleaving.history,
                            f"seed {seed}, worker {worker}, interleaving {number}",
                        )

        async with asyncio.TaskGroup() as group:
            for worker in range(at_once):
                group.create_task(work(worker))
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
