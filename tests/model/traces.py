"""Running of traces against a node and the model, and shortening of those that differ."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from conformance.raw_http import RawConnection
from model.generator import Generator
from model.people import People
from model.rules import Expected, Model, Refusal
from model.steps import KV, Again, Call, Grant, Revoke, Signed, Step, Wait, references, reported
from tests_support import FixedClock
from wire_replay import Answer

_JSON = (b"{", b"[")
_MOST_REPLAYS = 400


@dataclass(frozen=True, slots=True)
class Divergence:
    """A difference between node and model, at the last of these steps."""

    steps: tuple[Step, ...]
    expected: Expected | Refusal
    answer: Answer

    def __str__(self) -> str:
        lines = [reported(step) for step in self.steps]
        headers = {
            name: value
            for name, value in self.answer.headers
            if name in ("etag", "x-tinycloud-truncated")
        }
        said = f"{self.answer.status} {self.answer.body!r} {headers}"
        return "\n".join([*lines, f"expected: {self.expected!r}", f"answered: {said}"])


class Counts:
    """The numbers of correct answers by status, by operation and by depth of the chain."""

    def __init__(self) -> None:
        self.by_status: Counter[int] = Counter()
        self.by_answer: Counter[str] = Counter()

    def note(self, trace: "Trace", step: Step, signed: Signed, status: int, text: str) -> None:
        """Count one step."""
        self.by_status[status] += 1
        what = type(step).__name__.lower()
        if isinstance(step, Call) and len(step.rows) == 1:
            what = (
                "call"
                f" {step.rows[0].ability.removeprefix(KV)}{'' if step.cursor is None else ' page'}"
            )
        self.by_answer[f"{what} {status} {re.split('[:=]', text)[0]}".strip()] += 1
        cited = signed.parents if isinstance(signed, Grant) else signed.proofs
        depth = max(
            (trace.model.depth(one) for one in cited if one in trace.model.grants), default=0
        )
        self.by_answer[
            f"{type(step).__name__.lower()} {status // 100}xx on a chain of {depth}"
        ] += 1


class Trace:
    """A running trace: its people, its model, and the handles that the node returned."""

    def __init__(
        self, connection: RawConnection, clock: FixedClock, salt: str, counts: Counts
    ) -> None:
        clock.time = float(int(clock.time) + 1)
        self._connection, self._clock, self._counts = connection, clock, counts
        self._start = clock.time
        self._people = People(salt, int(clock.time))
        self.model = Model(self._people.names)
        self.model.start = self._start
        self._signed: dict[int, Signed] = {}
        self._cursors: dict[int, str] = {}
        self._steps: list[Step] = []

    async def take(self, step: Step) -> Divergence | None:
        """Run one step, or skip it if its references are missing."""
        known = self._signed.keys()
        if not known >= set(references(step)) or (
            isinstance(step, Call) and not self._has_cursor(step)
        ):
            return None
        self._steps.append(step)
        if isinstance(step, Wait):
            self.model.now += step.seconds
            self._clock.time = self._start + self.model.now
            return None
        signed = self._signed[step.step] if isinstance(step, Again) else self._dated(step)
        self._signed[signed.label] = signed
        return await self._compare(step, signed)

    def _dated(self, step: Signed) -> Signed:
        """Return a step whose end counts from the trace's beginning, like all other times."""
        return (
            step if isinstance(step, Grant) else replace(step, ends=int(self.model.now) + step.ends)
        )

    def _has_cursor(self, step: Call) -> bool:
        return step.cursor is None or (
            step.cursor in self._cursors and step.cursor in self.model.cursors
        )

    async def _compare(self, step: Step, signed: Signed) -> Divergence | None:
        answer, expect = await self._send(signed)
        try:
            expected: Expected | Refusal = expect()
        except Refusal as refusal:
            expected = refusal
        if not _agrees(answer, expected):
            return Divergence(tuple(self._steps), expected, answer)
        if isinstance(expected, Expected) and expected.has_cursor:
            self._cursors[signed.label] = answer.header("x-tinycloud-next-cursor")
        text = expected.texts[0] if isinstance(expected, Refusal) and expected.texts else ""
        self._counts.note(self, step, signed, answer.status, text)
        return None

    async def _send(self, signed: Signed) -> tuple[Answer, Callable[[], Expected]]:
        people, model = self._people, self.model
        match signed:
            case Grant():
                answer = await self._connection.send(people.grant(signed))
                return answer, lambda: model.delegate(signed, people.cids[signed.label])
            case Revoke():
                answer = await self._connection.send(people.revoke(signed))
                return answer, lambda: model.revoke(signed, people.cids[signed.target])
            case Call():
                answer = await self._connection.send(people.call(signed, self._cursors))
                return answer, lambda: model.call(signed)


def _agrees(answer: Answer, expected: Expected | Refusal) -> bool:
    if answer.status != expected.status:
        return False
    if isinstance(expected, Refusal):
        return not expected.texts or answer.body.decode() in expected.texts
    for name, value in expected.headers.items():
        if answer.header(name) != (value or ""):
            return False
    if bool(answer.header("x-tinycloud-next-cursor")) != expected.has_cursor:
        return False
    if expected.body is not None and expected.body.startswith(_JSON):
        return bool(json.loads(answer.body) == json.loads(expected.body))
    return answer.body == expected.body


def _merged(steps: Iterable[Step]) -> list[Step]:
    """Return steps with consecutive waits merged into one."""
    merged: list[Step] = []
    for step in steps:
        if isinstance(step, Wait) and merged and isinstance(before := merged[-1], Wait):
            merged[-1] = replace(before, seconds=before.seconds + step.seconds)
        else:
            merged.append(step)
    return merged


class Comparison:
    """Random traces on one node, one after the other, each with its own people."""

    def __init__(self, connection: RawConnection, clock: FixedClock, seed: str) -> None:
        self._connection, self._clock, self._seed = connection, clock, seed
        self._replays = 0
        self.counts = Counts()

    async def run(self, number: int, length: int) -> Divergence | None:
        """Draw and run one trace, and return a shortened divergence if there is one."""
        salt = f"{self._seed}.{number}"
        trace = Trace(self._connection, self._clock, salt, self.counts)
        generator = Generator(salt, trace.model)
        for label in range(length):
            if (found := await trace.take(generator.draw(label))) is not None:
                return await self._shortened(found)
        return None

    async def _replayed(self, steps: Sequence[Step]) -> Divergence | None:
        self._replays += 1
        trace = Trace(self._connection, self._clock, f"{self._seed}.again{self._replays}", Counts())
        for step in _merged(steps):
            if (found := await trace.take(step)) is not None:
                return found
        return None

    async def _shortened(self, found: Divergence) -> Divergence:
        """Leave out runs of steps, long ones first, as long as the divergence remains."""
        size = len(found.steps) // 2
        while size and self._replays < _MOST_REPLAYS:
            at, before = 0, len(found.steps)
            while at < len(found.steps) - 1 and self._replays < _MOST_REPLAYS:
                shorter = await self._replayed(found.steps[:at] + found.steps[at + size :])
                if shorter is None:
                    at += size
                else:
                    found = shorter
            if size > 1 or len(found.steps) == before:
                size //= 2
        return found
