"""Comparison of a node with the oracle, case by case, with a count of what was covered.

The node runs in this process. Its own operations judge signed tokens: the registration of
delegations, the revocation, and the authorisation of a call.

Example:
    report = await compare(folder, cases=500, seed="1")
    assert report.differences == []
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from embedded_node import embedded_node
from engines import store_at
from matrix.cases import AXES, Case, Cases, Token, Wait
from matrix.oracle import Oracle
from matrix.oracle_places import Refused
from matrix.signing import People
from tests_support import FixedClock

from capabilities.capability_errors import CapabilityError, MalformedToken
from node.config.tree import Config, Hosting, Http, Limits
from node.operations.authorise import admit_token, read_call
from node.operations.delegations.delegate import register
from node.operations.delegations.revoke import revoke
from node.refusal import Refusal
from node.services import Services
from spaces.space_errors import StoreBusy

ADMITTED = "admitted"
_CASES_OF_ONE_GROUP = 100
_ENOUGH_BYTES = 1 << 40


@dataclass
class Report:
    """The result of a comparison.

    Attributes:
        requests: how many requests were judged; a case has one.
        admitted: how many of them were admitted.
        steps: how many tokens were judged in all.
        axes: for each axis and value, how many requests had it and how many of these were admitted.
        answers: how often each kind of request got each class of answer.
        differences: the cases in which node and oracle disagree, as text.
    """

    requests: int = 0
    admitted: int = 0
    steps: int = 0
    axes: dict[str, dict[str, Counter[bool]]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def note(self, case: Case, answer: str) -> None:
        """Count the request of a case."""
        is_admitted = answer == ADMITTED
        self.requests += 1
        self.admitted += is_admitted
        for axis, value in case.axes.items():
            counted = self.axes.setdefault(axis, {}).setdefault(value, Counter())
            counted[is_admitted] += 1
        self.answers[f"{case.axes['kind']}: {class_of(answer)}"] += 1

    def missing(self, *, fewest: int = 1) -> list[str]:
        """Return the values that fewer requests had."""
        missing = []
        for axis, values in AXES.items():
            for value in values:
                if self.axes.get(axis, {}).get(value, Counter()).total() < fewest:
                    missing.append(f"{axis}: {value}")
        return missing

    def __str__(self) -> str:
        lines = [f"{self.requests} requests, {self.admitted} admitted; {self.steps} tokens judged"]
        for axis, values in self.axes.items():
            lines.append(f"{axis}: {len(values)} values")
            for value, counted in sorted(values.items()):
                lines.append(f"    {value}: {counted.total()}, {counted[True]} admitted")
        lines.append(f"answers: {len(self.answers)} classes")
        lines += [f"    {answer}: {number}" for answer, number in sorted(self.answers.items())]
        return "\n".join(lines)


def class_of(answer: str) -> str:
    """Return a refusal's text without the parts that name this token."""
    reason = re.match(r"(child|invocation)-caveats[a-z-]*: [a-z-]+", answer)
    return reason.group() if reason is not None else re.split("[:=]", answer)[0]


async def compare(folder: Path, *, cases: int, seed: str) -> Report:
    """Run this many cases against a node in a folder and against the oracle."""
    clock = FixedClock()
    enough = {
        f"{whose}_bytes_per_{what}": _ENOUGH_BYTES
        for whose in ("delegation", "unhosted")
        for what in ("signer", "address")
    }
    config = Config(
        http=Http(port=0, drain_s=0),
        store=store_at(folder),
        hosting=Hosting(mode="explicit"),
        limits=Limits(unauthenticated_per_minute=0, **enough),
    )
    report = Report()
    async with embedded_node(config, clock=clock) as node:
        services = node.services
        for number in range(0, cases, _CASES_OF_ONE_GROUP):
            salt = f"{seed}/{number}"
            people = People(salt)
            drawn = Cases(people.names, services.keyring.node_did, Random(salt))
            for at in range(min(_CASES_OF_ONE_GROUP, cases - number)):
                case = drawn.draw()
                await _Comparison(services, clock, people, report).run(
                    case, f"seed {seed}, case {number + at}", nonce=f"c{number + at}"
                )
    return report


class _Comparison:
    """The comparison of one case."""

    def __init__(
        self, services: Services, clock: FixedClock, people: People, report: Report
    ) -> None:
        self._services, self._clock, self._people, self._report = services, clock, people, report
        clock.time = float(int(clock.time) + 1)
        self._start = int(clock.time)
        people.cids.clear()
        self._signed: dict[int, str] = {}
        self._oracle = Oracle(
            names=people.names.values(), node=services.keyring.node_did, cids=people.cids
        )

    async def run(self, case: Case, name: str, *, nonce: str) -> None:
        """Send all steps of a case, and compare each answer."""
        answer = ""
        for step in case.steps:
            if isinstance(step, Wait):
                self._clock.advance(step.seconds)
                self._oracle.now += step.seconds
                continue
            header = self._signed.get(step.label)
            if header is None:
                header = self._people.sign(step, start=self._start, nonce=nonce)
                self._signed[step.label] = header
            if not step.is_sent:
                continue
            self._report.steps += 1
            answer = await self._answer(step, header)
            expected = self._expected(step)
            if answer != expected:
                steps = "\n".join(f"    {one}" for one in case.steps)
                self._report.differences.append(
                    f"{name}: the node says {answer!r}, the oracle {expected!r}, at {step}"
                    f"\n    {dict(case.axes)}\n{steps}"
                )
                break
        self._report.note(case, answer)

    def _expected(self, token: Token) -> str:
        judge: Callable[[Token], None] = {
            "grant": self._oracle.register,
            "call": self._oracle.call,
            "revocation": self._oracle.revoke,
        }[token.kind]
        try:
            judge(token)
        except Refused as refusal:
            return refusal.text
        return ADMITTED

    async def _answer(self, token: Token, header: str) -> str:
        try:
            await self._judge(token, header)
        except MalformedToken as refusal:
            return refusal.code
        except CapabilityError as refusal:
            return refusal.text
        except (Refusal, StoreBusy) as refusal:
            # The commit of a registration refuses what an absent check let through.
            return refusal.code
        return ADMITTED

    async def _judge(self, token: Token, header: str) -> None:
        services = self._services
        if token.kind == "grant":
            await register(services, header, client=None)
        elif token.kind == "revocation":
            await revoke(services, header)
        else:
            now = services.now()
            await read_call(services, admit_token(header, now=now, max_lifetime_s=300))
