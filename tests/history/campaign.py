"""Histories of callers on a system that has faults, each of which is checked.

Callers work on spaces of their own, a few at a time, while faults are injected after numbers of
answers that follow from the seed. When the last fault is over, each space is read at every node,
revoked grants are used again, and used tokens are sent again. Then each space's history goes to the
checker, and the audit log and the receipts are compared with the calls.

Example:
    report = await run(FolderSystem(folder), Plan(operations=2000, kills=10, seed=1))
    assert report.violations == []
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count

import aiohttp
from blake3 import blake3
from history.checker import Call, Did, Expected, Said, faults
from history.faulty_records import Grant, Sent, read_records, record_faults
from history.faulty_systems import KILLS, LIMIT_BYTES, MOST_AHEAD_S, Fault, FaultySystem
from history.party import (
    KEYS,
    SPACES_OF_AN_OWNER,
    ImpossibleAnswer,
    Party,
    Request,
    new_party,
    said_of,
)
from patience import PATIENCE_S
from running_node import Reply, exchange

_SIZES = (300, 500, 800)
_CALLS, _CALLERS = 18, 3
_AT_ONCE = 10
_MOST_UNKNOWN = 5
"""Unknown outcomes in one history. Each doubles the number of orders that explain it."""
_REPLAYED = 2
_REPLAYED_WITHIN_S = 60
_TOKEN_TTL_S = 90.0 + MOST_AHEAD_S
_GRANT_AGE_S = 60.0
_MOMENT_S = 1.5
_ANSWER_WITHIN_S = 30.0
_OTHERS_FOR_A_KILL = 0.5
_OPERATIONS_OF_A_PARTY = 100
_DRAWN = (
    *(Did.PUT,) * 6,
    Did.DELETE,
    *(Did.GET,) * 4,
    *(Did.DECRYPT,) * 3,
)
_NOT_SENT = (aiohttp.ClientConnectorError,)
_LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class Plan:
    """The size of a run.

    Attributes:
        operations: how many calls there are at least.
        kills: how many faults end a process, a server or the power.
        seed: of everything that is drawn.
        kinds: the faults to draw from; empty: all that the system can have.
    """

    operations: int
    kills: int
    seed: int
    kinds: Sequence[Fault] = ()

    def faults(self, possible: Sequence[Fault], chance: random.Random) -> list[Fault]:
        """Draw the faults of the run: its kills, and others beside them."""
        kinds = [kind for kind in possible if not self.kinds or kind in self.kinds]
        kills = [kind for kind in kinds if kind in KILLS]
        others = [kind for kind in kinds if kind not in KILLS]
        drawn = _spread(kills, self.kills if kills else 0, chance)
        number = round(self.kills * _OTHERS_FOR_A_KILL)
        drawn += _spread(others, number, chance)
        chance.shuffle(drawn)
        return drawn


def _spread(kinds: Sequence[Fault], number: int, chance: random.Random) -> list[Fault]:
    """Draw a number of faults, of each kind about equally many."""
    drawn: list[Fault] = []
    while kinds and len(drawn) < number:
        drawn += chance.sample(kinds, len(kinds))
    return drawn[:number]


@dataclass
class Report:
    """The result of a run.

    Attributes:
        operations: how many calls there were.
        histories: how many spaces they were about.
        faults: how often each fault was injected.
        answers: how often each kind of call was answered how.
        entries, receipts: how many were compared with the calls.
        violations: each with the seed and what broke the rules.
        seconds: how long it took.
    """

    operations: int = 0
    histories: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    receipts: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """How many faults ended a process, a server or the power."""
        return sum(number for kind, number in self.faults.items() if kind in KILLS)

    def add(self, other: "Report") -> None:
        """Add another run."""
        self.operations += other.operations
        self.histories += other.histories
        self.faults += other.faults
        self.answers += other.answers
        self.entries += other.entries
        self.receipts += other.receipts
        self.violations += other.violations
        self.seconds += other.seconds

    def __str__(self) -> str:
        kinds = "; ".join(f"{kind.value}: {number}" for kind, number in self.faults.items())
        answers = ", ".join(f"{name} {number}" for name, number in sorted(self.answers.items()))
        return (
            f"{self.operations} operations in {self.histories} histories, {self.kills} kills,"
            f" {self.entries} audit records and {self.receipts} receipts,"
            f" {len(self.violations)} violations, {self.seconds:.0f} s\n  {kinds}\n  {answers}"
        )


@dataclass
class _Pace:
    """The number of answers so far, for those who wait for more."""

    answered: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        self.answered += 1
        self._changed.set()

    async def reach(self, number: int, within_s: float) -> None:
        """Wait for a number of answers in all, or for a time without any."""
        while self.answered < number:
            self._changed.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait()
            except TimeoutError:
                return


class Cell:
    """The calls of several callers about one space of a system with faults."""

    def __init__(
        self,
        system: FaultySystem,
        session: aiohttp.ClientSession,
        party: Party,
        at: int,
        chance: random.Random,
        pace: _Pace,
    ) -> None:
        self._system = system
        self._session = session
        self._party = party
        self._at = at
        self._chance = chance
        self._pace = pace
        self._tokens = count(1)
        self._latest: dict[str, str | None] = dict.fromkeys(KEYS)
        self._requests: dict[int, Request] = {}
        self._grant = party.new_grant(at=at)
        self.history: list[Call] = []
        self.impossible: list[str] = []

    async def run(self) -> None:
        """Register the grant and run the callers."""
        request = Request(path="/delegate", token=self._grant, body=None)
        async with asyncio.timeout(PATIENCE_S):
            while (reply := await self._tried(request, self._node())) is None or reply.status in (
                503,
                507,
            ):
                await self._wait()
        assert reply.status == 200, reply.said
        calls = [self._chance.choice(_DRAWN) for _ in range(_CALLS)]
        if self._chance.random() < 0.7:
            calls.insert(self._chance.randrange(_CALLS // 2, _CALLS), Did.REVOKE)
        async with asyncio.TaskGroup() as callers:
            for at in range(_CALLERS):
                callers.create_task(self._call_in_turn(calls[at::_CALLERS]))

    async def look_again(self) -> None:
        """Read everything at each node, use a revoked grant, and send used tokens again."""
        for node in range(len(self._system.nodes)):
            for key in KEYS:
                await self._send(Did.GET, key, node=node, under_grant=False)
        if self._has_revoked():
            for did in (Did.PUT, Did.GET, Did.DECRYPT):
                await self._send(did, KEYS[0], node=self._node(), under_grant=True)
        used = [call for call in self.history if self._is_repeatable(call)]
        for call in self._chance.sample(used, min(_REPLAYED, len(used))):
            await self._recorded(call, self._node())

    def _has_revoked(self) -> bool:
        return any(call.did is Did.REVOKE and call.said is Said.DONE for call in self.history)

    def _is_repeatable(self, call: Call) -> bool:
        is_write = call.did in (Did.PUT, Did.DECRYPT) and call.said is Said.DONE
        return is_write and time.monotonic() - call.asked_at < _REPLAYED_WITHIN_S

    async def _call_in_turn(self, calls: Sequence[Did]) -> None:
        for did in calls:
            if sum(call.said is Said.UNKNOWN for call in self.history) >= _MOST_UNKNOWN:
                return
            if did is Did.REVOKE:
                await self._revoke()
            else:
                under_grant = did is not Did.GET or self._chance.random() < 0.5
                key = self._chance.choice(KEYS)
                await self._send(did, key, node=self._node(), under_grant=under_grant)

    async def _revoke(self) -> None:
        """Revoke the grant, again after an unknown outcome, and use it once more."""
        for _ in range(3):
            await self._send(Did.REVOKE, "", node=self._node(), under_grant=True)
            if self._has_revoked():
                break
        did = self._chance.choice((Did.PUT, Did.GET))
        await self._send(did, self._chance.choice(KEYS), node=self._node(), under_grant=True)

    def _node(self) -> int:
        return self._chance.randrange(len(self._system.nodes))

    async def _send(self, did: Did, key: str, *, node: int, under_grant: bool) -> None:
        """Send a call, sometimes its token twice, and sometimes again after an unknown outcome."""
        token = next(self._tokens)
        is_put = did is Did.PUT
        size_bytes = self._chance.choice(_SIZES) if is_put else 0
        value = f"{key}{token}".ljust(size_bytes, ".") if is_put else None
        expected = self._condition(key) if is_put else None
        self._requests[token] = self._party.request(
            did, key, value, grant=self._grant, at=self._at, under_grant=under_grant
        )
        call = Call(
            did=did,
            said=Said.UNKNOWN,
            asked_at=0.0,
            answered_at=0.0,
            token=token,
            key=key,
            value=value,
            size_bytes=size_bytes,
            under_grant=under_grant,
            expected=expected,
        )
        if did in (Did.PUT, Did.DECRYPT) and expected is None and self._chance.random() < 0.1:
            await asyncio.gather(self._recorded(call, node), self._recorded(call, node + 1))
            return
        said = await self._recorded(call, node)
        if said is Said.UNKNOWN and did in (Did.PUT, Did.DECRYPT) and self._chance.random() < 0.5:
            await self._recorded(call, self._node())

    def _condition(self, key: str) -> Expected | None:
        if self._chance.random() < 0.5:
            return None
        return Expected(self._latest[key] if self._chance.random() < 0.8 else None)

    async def _recorded(self, call: Call, node: int) -> Said:
        """Send a call and record its answer; wait where no node can be reached."""
        request = self._requests[call.token]
        headers = _condition_headers(call.expected)
        while True:
            asked_at = time.monotonic()
            try:
                reply = await self._post(request, node, headers)
            except _NOT_SENT:
                await self._wait()
                continue
            except _LOST:
                reply = None
            break
        said = self._answer(call, reply)
        value = call.value
        if reply is not None and call.did is Did.GET and said is Said.DONE:
            value = reply.text
        if said is Said.DONE and call.did in (Did.PUT, Did.DELETE, Did.GET):
            self._latest[call.key] = value
        done_at = time.monotonic()
        self.history.append(
            replace(call, said=said, asked_at=asked_at, answered_at=done_at, value=value)
        )
        self._pace.note()
        if said is Said.UNKNOWN:
            await self._wait()
        return said

    def _answer(self, call: Call, reply: Reply | None) -> Said:
        """Convert an answer; one that no history can contain is a violation."""
        if reply is None:
            return Said.UNKNOWN
        try:
            return said_of(call.did, reply)
        except ImpossibleAnswer as impossible:
            self.impossible.append(str(impossible))
            return Said.UNKNOWN

    async def _tried(self, request: Request, node: int) -> Reply | None:
        try:
            return await self._post(request, node, {})
        except _LOST:
            return None

    async def _post(self, request: Request, node: int, headers: dict[str, str]) -> Reply:
        return await exchange(
            self._session,
            self._system.url(node),
            "POST",
            request.path,
            token=request.token,
            body=request.body,
            headers=headers,
        )

    async def _wait(self) -> None:
        """Wait until no fault is under way, at most for a moment."""
        if self._system.calm.is_set():
            await asyncio.to_thread(lambda: None)
            return
        try:
            async with asyncio.timeout(_MOMENT_S):
                await self._system.calm.wait()
        except TimeoutError:
            return

    def sent(self) -> list[Sent]:
        """Return the calls by token."""
        by_token: dict[int, list[Call]] = {}
        for call in self.history:
            by_token.setdefault(call.token, []).append(call)
        return [
            Sent(token=self._requests[token].token, calls=calls)
            for token, calls in by_token.items()
        ]

    def grant(self) -> Grant:
        """Return the grant with its revocations."""
        revocations = [call for call in self.history if call.did is Did.REVOKE]
        return Grant(token=self._grant, revocations=revocations)


def _condition_headers(expected: Expected | None) -> dict[str, str]:
    if expected is None:
        return {}
    if expected.value is None:
        return {"If-None-Match": "*"}
    return {"If-Match": f'"blake3-{blake3(expected.value.encode()).hexdigest()}"'}


async def run(system: FaultySystem, plan: Plan) -> Report:
    """Run histories on a system, inject the planned faults, and check everything."""
    report, begun = Report(), time.monotonic()
    async with AsyncExitStack() as running:
        await system.start(running)
        connector = aiohttp.TCPConnector(limit=4 * _AT_ONCE)
        session = await running.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
            )
        )
        parties = [
            await new_party(
                system.url(0),
                system.platform,
                running,
                age_s=_GRANT_AGE_S,
                token_ttl_s=_TOKEN_TTL_S,
            )
            for _ in range(_parties(plan))
        ]
        cells = await _calls_and_faults(system, session, parties, plan, report)
        for at in range(0, len(cells), _AT_ONCE):
            async with asyncio.TaskGroup() as readers:
                for cell in cells[at : at + _AT_ONCE]:
                    readers.create_task(cell.look_again())
        _judge_histories(cells, plan, report)
        for node in system.nodes:
            await asyncio.to_thread(node.close)
        await _judge_records(system, cells, parties[0].stage.node_did, plan, report)
    report.seconds = time.monotonic() - begun
    return report


def _parties(plan: Plan) -> int:
    """Return how many parties have enough spaces for a plan; callers go on during each fault."""
    return 2 + plan.operations // _OPERATIONS_OF_A_PARTY + 2 * plan.kills


async def _calls_and_faults(
    system: FaultySystem,
    session: aiohttp.ClientSession,
    parties: Sequence[Party],
    plan: Plan,
    report: Report,
) -> list[Cell]:
    """Run callers and faults beside each other until both are done."""
    pace = _Pace()
    cells: list[Cell] = []
    places = [(party, at) for at in range(SPACES_OF_AN_OWNER) for party in parties]
    chance = random.Random(f"{plan.seed}/faults")
    planned = plan.faults(list(system.faults), chance)
    is_over = asyncio.Event()

    async def work(worker: int) -> None:
        own = random.Random(f"{plan.seed}/{worker}")
        while not (is_over.is_set() and pace.answered >= plan.operations):
            if not places:
                return
            party, at = places.pop()
            cell = Cell(system, session, party, at, own, pace)
            cells.append(cell)
            await cell.run()

    async def answers(number: int) -> None:
        await pace.reach(pace.answered + number, _MOMENT_S)

    async def disturb() -> None:
        between = plan.operations // (len(planned) + 1)
        for fault in planned:
            await pace.reach(pace.answered + between, PATIENCE_S)
            if not places:  # nobody would meet a further fault
                break
            await system.inject(fault, chance, answers)
            report.faults[fault] += 1
        is_over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(disturb())
        for worker in range(_AT_ONCE):
            group.create_task(work(worker))
    return cells


def _judge_histories(cells: Sequence[Cell], plan: Plan, report: Report) -> None:
    for number, cell in enumerate(cells):
        report.histories += 1
        report.operations += len(cell.history)
        report.answers.update(f"{call.did.name} {call.said.name}" for call in cell.history)
        found = faults(cell.history, limit_bytes=LIMIT_BYTES, has_restarts=True)
        found += cell.impossible
        if found:
            calls = "\n".join(map(str, sorted(cell.history, key=lambda call: call.asked_at)))
            report.violations.append(
                f"seed {plan.seed}, history {number}: {'; '.join(found)}\n{calls}"
            )


async def _judge_records(
    system: FaultySystem, cells: Sequence[Cell], node_did: str, plan: Plan, report: Report
) -> None:
    records = await asyncio.to_thread(read_records, system.nodes[0], node_did)
    report.entries += len(records.entries)
    report.receipts += len(records.receipts)
    sent = [one for cell in cells for one in cell.sent()]
    grants = [cell.grant() for cell in cells]
    for fault in record_faults(records, sent, grants):
        report.violations.append(f"seed {plan.seed}, records: {fault}")
