"""Conditions for calls to a program that uses an owner's secrets (RN40).

The grammar is a part of OutLayer's, with DIDs as accounts:

    C := "AllowAll"
       | {"Owner": {}}
       | {"Whitelist": {"accounts": [DID…]}}
       | {"AccountPattern": {"pattern": regular expression}}
       | {"ValidUntil": {"until": RFC 3339} | {"until_ns": decimal text}}
       | {"WasmHash": {"hash": 64 lower-case hex digits}}
       | {"Logic": {"operator": "And" | "Or", "conditions": [C…]}}
       | {"Not": {"condition": C}}

Every object has exactly these members. A condition with an unreadable part is rejected as a whole;
otherwise a `Not` around that part could admit a call. A verdict is True, False, or None if a leaf
cannot be decided. Only a pattern can be undecided: without the extra `runner`, this module does not
compile patterns. Only True admits a call.

A pattern has RE2's syntax: no look-around, no back-references, and `\\z` instead of `\\Z`. It is
compared with the whole DID in canonical spelling, so an address has its checksum's capitals.

Example:
    condition = parse_condition({"Not": {"condition": {"Whitelist": {"accounts": [invoker]}}}})
    owner = session.owner
    call = Call(caller=owner, owner=owner, wasm_sha256="ab" * 32, now=clock.now())
    assert judge_call(condition, call) is True
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import Principal, parse_principal
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import InvalidInput

MAX_CONDITION_BYTES = 16 * 1024
"""Longest condition as canonical JSON, bytes."""
MAX_CONDITION_DEPTH = 32
"""Deepest nesting of conditions, including the outermost one."""
MAX_PATTERN_BYTES = 256
MAX_PATTERNS = 16
MAX_DID_CHARS = 78
"""Longest DID in canonical spelling: `did:pkh:eip155:`, 20 digits, a colon and an address."""
MAX_PATTERN_STEPS = 25_000
"""Limit on the instructions of a compiled pattern, times the characters of the longest DID.

A match takes up to 15 ns for each, so a condition with 16 patterns is judged within 6 ms. A pattern
of 256 characters without a counted repetition stays below the limit.
"""
_MAX_COMPILED_BYTES = 64 * 1024

Verdict = bool | None
"""True admits a call; False and None (undecided) do not."""

_HASH = re.compile(r"[0-9a-f]{64}")
_NANOSECONDS = re.compile(r"[0-9]{1,20}")
# Conditions of OutLayer's grammar that this one does not have.
_ON_CHAIN = frozenset({"NearBalance", "FtBalance", "NftOwned", "DaoMember", "Predecessor"})


@frozen(kw_only=True)
class Call:
    """A program call, with the properties used in conditions.

    Attributes:
        caller: principal that calls.
        owner: owner of the secrets.
        wasm_sha256: SHA-256 of the program's bytes, 64 lower-case hex digits. None: one of several
            programs, so a condition on the hash is undecided.
        now: epoch seconds.
    """

    caller: Principal
    owner: Principal
    wasm_sha256: str | None
    now: float


@frozen
class AllowAll:
    """A condition that allows every caller."""


@frozen
class Owner:
    """A condition that allows calls by the owner of the secrets."""


@frozen
class Whitelist:
    """A condition that allows only calls by the listed DIDs.

    The owner is not allowed unless listed. The DIDs are in canonical spelling.
    """

    accounts: tuple[Principal, ...]


@frozen
class AccountPattern:
    """A condition that allows calls by the DIDs that a regular expression matches as a whole."""

    pattern: str


@frozen
class ValidUntil:
    """A condition that allows calls until a given time.

    `until` is the time in epoch seconds, and `text` is the same time as it was written, in RFC 3339
    or as decimal nanoseconds.
    """

    until: float
    text: str


@frozen
class WasmHash:
    """A condition that allows calls to the program with a given hash.

    The hash is written as 64 lower-case hex digits.
    """

    sha256: str


@frozen
class Logic:
    """A conjunction or a disjunction of several conditions.

    Without conditions, `And` allows every call and `Or` allows none.
    """

    operator: Literal["And", "Or"]
    conditions: tuple["Condition", ...]


@frozen
class Not:
    """A condition that negates another condition.

    The negation of an undecided condition is undecided.
    """

    condition: "Condition"


Condition = AllowAll | Owner | Whitelist | AccountPattern | ValidUntil | WasmHash | Logic | Not


def parse_condition(value: Json) -> Condition:
    """Parse a call condition from untrusted JSON.

    Raises:
        InvalidInput: a leaf or member is unknown, a value is not valid for its leaf, or the
            condition is too long or nested too deeply.
    """
    try:
        canonical = canonical_bytes(value)
    except InvalidCanonicalJson as exc:
        raise InvalidInput(f"the condition on callers is not valid JSON: {exc}") from exc
    if len(canonical) > MAX_CONDITION_BYTES:
        raise InvalidInput(f"the condition on callers is longer than {MAX_CONDITION_BYTES} bytes")
    # The patterns are counted in the text (RN210). A string in it cannot contain these bytes,
    # because JSON escapes its quotes.
    if canonical.count(b'{"AccountPattern":') > MAX_PATTERNS:
        raise InvalidInput(f"the condition on callers has more than {MAX_PATTERNS} patterns")
    return _parse_condition(value, MAX_CONDITION_DEPTH)


def condition_json(condition: Condition) -> Json:
    """Convert a call condition to JSON."""
    match condition:
        case AllowAll():
            return "AllowAll"
        case Owner():
            return {"Owner": {}}
        case Whitelist(accounts):
            return {"Whitelist": {"accounts": [str(account) for account in accounts]}}
        case AccountPattern(pattern):
            return {"AccountPattern": {"pattern": pattern}}
        case ValidUntil(text=text):
            return {"ValidUntil": {"until_ns" if text.isdigit() else "until": text}}
        case WasmHash(sha256):
            return {"WasmHash": {"hash": sha256}}
        case Logic(operator, conditions):
            return {
                "Logic": {
                    "operator": operator,
                    "conditions": [condition_json(part) for part in conditions],
                }
            }
        case Not(inner):
            return {"Not": {"condition": condition_json(inner)}}


def judge_call(condition: Condition, call: Call) -> Verdict:
    """Return whether a condition allows a call to a program.

    None means undecided, and counts as a refusal. Parts are judged in the order of the condition,
    until the verdict on the whole is fixed. A pattern over the limit is undecided (RN210).
    """
    match condition:
        case AllowAll():
            return True
        case Owner():
            return call.caller == call.owner
        case Whitelist(accounts):
            return call.caller in accounts
        case AccountPattern(pattern):
            compiled = _compile(pattern)
            # RN210: a grant that was accepted before this limit existed may exceed it.
            if compiled is None or _steps(compiled) > MAX_PATTERN_STEPS:
                return None
            return compiled.fullmatch(call.caller.encode()) is not None
        case ValidUntil(until):
            return call.now < until
        case WasmHash(sha256):
            return None if call.wasm_sha256 is None else call.wasm_sha256 == sha256
        case Logic():
            return _judge_parts(condition, call)
        case Not(inner):
            negated = judge_call(inner, call)
            return None if negated is None else not negated


def _judge_parts(logic: Logic, call: Call) -> Verdict:
    """Return the verdict of a conjunction or disjunction, where None means undecided."""
    # One part with this verdict decides the whole, whatever the others are.
    deciding = logic.operator == "Or"
    verdict: Verdict = not deciding
    for condition in logic.conditions:
        part = judge_call(condition, call)
        if part is deciding:
            return deciding
        if part is None:
            verdict = None
    return verdict


def listed_accounts(condition: Condition) -> tuple[Principal, ...]:
    """Return the DIDs that a condition names, in the order of their first appearance."""
    dids: dict[Principal, None] = {}
    parts: list[Condition] = [condition]
    while parts:
        match parts.pop(0):
            case Whitelist(accounts):
                dids |= dict.fromkeys(accounts)
            case Logic(_, conditions):
                parts += conditions
            case Not(inner):
                parts.append(inner)
    return tuple(dids)


def require_bounded_patterns(condition: Condition) -> None:
    """Check that judging a condition's patterns takes a bounded time (RN210).

    Without the extra `runner` no pattern is compiled, and none is checked.

    Raises:
        InvalidInput: a pattern takes more than MAX_PATTERN_STEPS; the message has both figures.
    """
    match condition:
        case AccountPattern(pattern):
            compiled = _compile(pattern)
            if compiled is not None and _steps(compiled) > MAX_PATTERN_STEPS:
                raise InvalidInput(
                    f'the pattern {pattern[:40]!r} in "AccountPattern" takes {_steps(compiled)}'
                    f" steps for the longest DID; the maximum is {MAX_PATTERN_STEPS}",
                    hint="use smaller counts in the pattern, such as {1,9}, or list the callers"
                    ' with "Whitelist"',
                )
        case Logic(conditions=conditions):
            for part in conditions:
                require_bounded_patterns(part)
        case Not(inner):
            require_bounded_patterns(inner)


def _parse_condition(value: Json, depth: int) -> Condition:
    """Parse a condition, which may contain others on at most `depth` levels, its own included."""
    if depth == 0:
        raise InvalidInput(f"the condition on callers is nested deeper than {MAX_CONDITION_DEPTH}")
    if value == "AllowAll":
        return AllowAll()
    name, members = _read_members(value)
    match [name, *members]:
        case ["Owner"]:
            return Owner()
        case ["Whitelist", ("accounts", list(accounts))]:
            return Whitelist(tuple(map(_parse_account, accounts)))
        # A pattern is compared byte by byte. A character that is not ASCII would be several bytes,
        # and no DID contains one.
        case ["AccountPattern", ("pattern", str(pattern))] if (
            len(pattern) <= MAX_PATTERN_BYTES and pattern.isascii() and pattern.isprintable()
        ):
            _compile(pattern)  # raises for a pattern that does not compile
            return AccountPattern(pattern)
        case ["ValidUntil", ("until", str(text))]:
            try:
                return ValidUntil(parse_rfc3339(text), text)
            except CapabilityError:
                raise InvalidInput(
                    '"until" in "ValidUntil" is not a time such as 2030-01-01T00:00:00Z'
                ) from None
        case ["ValidUntil", ("until_ns", str(text))] if _NANOSECONDS.fullmatch(text):
            return ValidUntil(int(text) / 1e9, text)
        case ["WasmHash", ("hash", str(sha256))] if _HASH.fullmatch(sha256):
            return WasmHash(sha256)
        case ["Logic", ("conditions", list(conditions)), ("operator", "And" | "Or" as operator)]:
            return Logic(operator, tuple(_parse_condition(part, depth - 1) for part in conditions))
        case ["Not", ("condition", inner)]:
            return Not(_parse_condition(inner, depth - 1))
        case _:
            raise InvalidInput(f'the condition "{name}" must have {_EXPECTED[name]}')


def _read_members(value: Json) -> tuple[str, Sequence[tuple[str, Json]]]:
    """Return the name of a condition, and its members in ascending order."""
    if not isinstance(value, dict) or len(value) != 1:
        raise InvalidInput('a condition must be "AllowAll", or an object with one member')
    ((name, content),) = value.items()
    if name in _ON_CHAIN:  # refused by name, because OutLayer knows these conditions (RN211)
        raise InvalidInput(
            f'the condition "{name}" needs a blockchain, which runners do not read',
            hint="name the callers with Whitelist or AccountPattern",
        )
    if name not in _EXPECTED:
        raise InvalidInput(f"unknown condition: {name[:40]!r}")
    if not isinstance(content, dict):
        raise InvalidInput(f'the condition "{name}" must have {_EXPECTED[name]}')
    return name, sorted(content.items())


_EXPECTED = {
    "Owner": "no members",
    "Whitelist": 'the member "accounts", a list of DIDs',
    "AccountPattern": (
        f'the member "pattern", at most {MAX_PATTERN_BYTES} printable ASCII characters'
    ),
    "ValidUntil": (
        'the member "until", such as 2030-01-01T00:00:00Z, or "until_ns", nanoseconds as a decimal'
        " text"
    ),
    "WasmHash": 'the member "hash", 64 lower-case hex digits',
    "Logic": 'the members "operator", "And" or "Or", and "conditions", a list',
    "Not": 'the member "condition"',
}


def _compile(pattern: str) -> Any:
    """Compile a pattern with RE2, which matches in linear time (RN210).

    Returns None without the extra `runner`.
    """
    try:
        import re2
    except ImportError:
        return None
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MAX_COMPILED_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as exc:
        raise InvalidInput(
            f'the pattern {pattern[:40]!r} in "AccountPattern" is not valid'
        ) from exc


def _steps(compiled: Any) -> int:
    """Return the steps for comparing a compiled pattern with the longest DID, at most.

    RE2 keeps up to one state per instruction for each character.
    """
    return int(compiled.programsize) * MAX_DID_CHARS


def _parse_account(value: Json) -> Principal:
    with suppress(CapabilityError):
        if isinstance(value, str) and "#" not in value:
            return parse_principal(value)
    raise InvalidInput('an account in "Whitelist" is not a DID')
