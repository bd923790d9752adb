"""A checker of recorded histories against the contract of the store.

A history is what callers saw of one space with a few keys, one grant and one limit of bytes: for
each call when it was sent and when its answer was there, on one clock, and what the answer was. It
passes when there is an order of the calls that fits these times, in which each call does and says
what it would do alone: a put is written while the grant stands and the space has room, a read gives
the last value written, a conditional write is written over the value that it names and over no
other, a revocation ends the grant. Nothing of the product is imported: the rules
are those of spec/store.md (ST1, ST2, ST4, ST7), written once more.

A call whose outcome is unknown may be put anywhere after its sending, or left out.
"""

import enum
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class Did(enum.Enum):
    """The request of a call."""

    PUT = enum.auto()
    DELETE = enum.auto()
    GET = enum.auto()
    DECRYPT = enum.auto()
    REVOKE = enum.auto()


class Said(enum.Enum):
    """The answer to a call.

    TURNED_AWAY is a refusal that no other call explains: a full disk, or a clock by which the
    token's replay record may have been deleted. The call had no effect.
    """

    DONE = enum.auto()
    NOTHING_THERE = enum.auto()
    NOT_ALLOWED = enum.auto()
    NO_FREE_SPACE = enum.auto()
    USED_BEFORE = enum.auto()
    CONDITION_FAILED = enum.auto()
    TURNED_AWAY = enum.auto()
    UNKNOWN = enum.auto()


_WITH_AUTHORITY = frozenset(
    {Said.DONE, Said.NOTHING_THERE, Said.NO_FREE_SPACE, Said.CONDITION_FAILED}
)
"""Answers that a node gives only if the grant is live."""
MOST_STATES = 2_000_000
"""States after which the search for an order ends. Such a history is reported as a fault."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The condition of a conditional write: the value that it replaces; None: nothing."""

    value: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """A call as its caller observed it.

    Attributes:
        did: what was asked for.
        said: the answer.
        asked_at, answered_at: on one clock; an unknown outcome has no end.
        token: names the token that was sent; two sendings of one token have the same.
        key: of a value.
        value: that was put or was read; None: nothing.
        size_bytes: of the value that was put.
        under_grant: whether the call rests on the grant that is revoked.
        expected: the condition of a conditional write; None: unconditional.
    """

    did: Did
    said: Said
    asked_at: float
    answered_at: float
    token: int
    key: str = ""
    value: str | None = None
    size_bytes: int = 0
    under_grant: bool = True
    expected: Expected | None = None

    @property
    def ended_at(self) -> float:
        """The latest time at which the call can have taken effect."""
        return math.inf if self.said is Said.UNKNOWN else self.answered_at


@dataclass(frozen=True, slots=True)
class State:
    """The contents of the store: whether the grant is live, and each key's value with its size."""

    stands: bool = True
    values: tuple[tuple[str, str, int], ...] = ()

    def value(self, key: str) -> str | None:
        """Return the value of a key."""
        return next((value for held, value, _ in self.values if held == key), None)

    def used_bytes(self, *, without: str = "") -> int:
        """Return the total size of all values but one."""
        return sum(size for held, _, size in self.values if held != without)

    def with_value(self, key: str, value: str | None, size_bytes: int) -> "State":
        """Return the state after a write."""
        others = [row for row in self.values if row[0] != key]
        rows = others if value is None else [*others, (key, value, size_bytes)]
        return State(self.stands, tuple(sorted(rows)))


def faults(
    history: Sequence[Call],
    *,
    limit_bytes: int,
    slack_bytes: int = 0,
    has_restarts: bool = False,
) -> list[str]:
    """Return the faults of a history; empty if an order of the calls explains it.

    Args:
        history: all calls about one space, in any order.
        limit_bytes: of the space.
        slack_bytes: by how much the values together may go beyond it.
        has_restarts: whether the machine or the database may have restarted. Only the replay
            records of commits survive that (ST4), so a token that wrote nothing may be used again.
    """
    found = [
        *_late_effects(history),
        *_spent_twice(history, has_restarts=has_restarts),
        *_foreign_values(history),
    ]
    if not _has_order(history, limit_bytes, slack_bytes):
        found.append("no order of the calls explains the answers")
    return found


def _late_effects(history: Sequence[Call]) -> Iterator[str]:
    """Return violations of ST2: effects of a grant after its acknowledged revocation."""
    ended = min(
        (c.answered_at for c in history if c.did is Did.REVOKE and c.said is Said.DONE),
        default=math.inf,
    )
    for call in history:
        is_allowed = call.said in _WITH_AUTHORITY
        if call.under_grant and call.did is not Did.REVOKE and is_allowed and call.asked_at > ended:
            yield f"{call.did.name} was allowed after the revocation was acknowledged"


def _spent_twice(history: Sequence[Call], *, has_restarts: bool) -> Iterator[str]:
    """Return violations of ST4: tokens that were accepted more than once."""
    sendings: dict[int, list[Call]] = defaultdict(list)
    for call in history:
        sendings[call.token].append(call)
    for calls in sendings.values():
        accepted = 0
        for call in calls:
            if has_restarts:
                accepted += call.said is Said.DONE and call.did is not Did.GET
            else:
                accepted += call.said in _WITH_AUTHORITY
        if accepted > 1:
            yield f"the token of a {calls[0].did.name} was used twice"
        if all(call.said is Said.USED_BEFORE for call in calls):
            yield f"the token of a {calls[0].did.name} was refused as used, but was not used before"


def _foreign_values(history: Sequence[Call]) -> Iterator[str]:
    put = {(call.key, call.value) for call in history if call.did is Did.PUT}
    for call in history:
        if call.did is Did.GET and call.said is Said.DONE and (call.key, call.value) not in put:
            yield "a value was read that was never put"


def _has_order(history: Sequence[Call], limit_bytes: int, slack_bytes: int) -> bool:
    """Return whether some order of the calls explains all their answers."""
    calls = [call for call in history if call.said is not Said.USED_BEFORE]
    seen: set[tuple[frozenset[int], State]] = set()
    open_ends = [(frozenset(range(len(calls))), State())]
    while open_ends:
        left, state = open_ends.pop()
        if all(calls[at].said is Said.UNKNOWN for at in left):
            return True
        if (left, state) in seen:
            continue
        if len(seen) == MOST_STATES:
            return False
        seen.add((left, state))
        earliest_end = min(calls[at].ended_at for at in left)
        for at in left:
            if calls[at].asked_at > earliest_end:
                continue
            for after in _steps(calls[at], state, limit_bytes, slack_bytes):
                open_ends.append((left - {at}, after))
    return False


def _steps(call: Call, state: State, limit_bytes: int, slack_bytes: int) -> Iterator[State]:
    """Yield the states in which a call can leave the store, if its answer fits the current
    state."""
    if call.said is Said.UNKNOWN:
        yield state
        if (not call.under_grant or state.stands) and _meets_condition(call, state):
            yield _after(call, state)
        return
    if call.said is Said.TURNED_AWAY:
        yield state
        return
    is_allowed = state.stands or not call.under_grant
    if call.said is Said.NOT_ALLOWED:
        if not is_allowed:
            yield state
    elif call.said is Said.CONDITION_FAILED:
        if is_allowed and not _meets_condition(call, state):
            yield state
    elif (call.did is Did.REVOKE or is_allowed) and _fits(call, state, limit_bytes, slack_bytes):
        yield _after(call, state)


def _meets_condition(call: Call, state: State) -> bool:
    return call.expected is None or call.expected.value == state.value(call.key)


def _fits(call: Call, state: State, limit_bytes: int, slack_bytes: int) -> bool:
    if call.said is Said.DONE and not _meets_condition(call, state):
        return False
    if call.did is Did.PUT:
        together = state.used_bytes(without=call.key) + call.size_bytes
        grows = together > state.used_bytes()
        if call.said is Said.NO_FREE_SPACE:
            return grows and together > limit_bytes
        return not grows or together <= limit_bytes + slack_bytes
    if call.did is Did.GET:
        return state.value(call.key) == (call.value if call.said is Said.DONE else None)
    return True


def _after(call: Call, state: State) -> State:
    if call.did is Did.REVOKE:
        return State(False, state.values)
    if call.said in (Said.DONE, Said.UNKNOWN) and call.did in (Did.PUT, Did.DELETE):
        return state.with_value(call.key, call.value, call.size_bytes)
    return state
