"""Conditions on who may have a program run with an owner's secrets: a part of OutLayer's grammar,
over DIDs (RN40).

    C := "AllowAll" | {"Owner": {}} | {"Whitelist": {"accounts": [DID…]}} | {"ValidUntil": {"until": RFC 3339}}
       | {"WasmHash": {"hash": 64 lowercase hex digits}} | {"Logic": {"operator": "And" | "Or", "conditions": [C…]}}
       | {"Not": {"condition": C}}

Every object has exactly the members above. A condition of which a part cannot be read is refused as
a whole, so that no `Not` around that part turns it into a yes. Judging knows three verdicts: True,
False, and None where a leaf cannot be decided; no leaf of today's is undecided, and the connectives
are ready for one. Only True lets a call pass.

Example:
    condition = parse_condition({"Not": {"condition": {"Whitelist": {"accounts": [invoker]}}}})
    call = Call(caller=session.owner, owner=session.owner, wasm_sha256="ab" * 32, now=clock.now())
    assert judge_call(condition, call) is True
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from capabilities.capability_errors import CapabilityError
from capabilities.principals import Principal, parse_principal
from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import InvalidInput

MAX_CONDITION_BYTES: Final = 16 * 1024
"""Longest condition, as canonical JSON."""
MAX_CONDITION_DEPTH: Final = 32
"""Conditions inside one another, the outermost counted."""

Verdict: TypeAlias = bool | None
"""None: it cannot be decided, which lets nobody pass."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a condition is judged by.

    Attributes:
        caller: the root of what the caller showed.
        owner: of the secrets.
        wasm_sha256: of the program's bytes, 64 lowercase hex digits.
        now: epoch seconds.
    """

    caller: Principal
    owner: Principal
    wasm_sha256: str
    now: float


@dataclass(frozen=True, slots=True)
class AllowAll:
    """Anybody."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of the secrets."""


@dataclass(frozen=True, slots=True)
class Whitelist:
    """One of these DIDs, and no other spelling than the canonical one; none: nobody, the owner
    neither."""

    accounts: tuple[Principal, ...]


@dataclass(frozen=True, slots=True)
class ValidUntil:
    """Strictly before a moment, epoch seconds; `text` is it as it was written."""

    until: float
    text: str


@dataclass(frozen=True, slots=True)
class WasmHash:
    """The program's bytes have this SHA-256, 64 lowercase hex digits."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Logic:
    """All of some conditions (`And`; of none: yes), or one of them (`Or`; of none: no)."""

    operator: Literal["And", "Or"]
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; of what cannot be decided, that."""

    condition: "Condition"


Condition: TypeAlias = AllowAll | Owner | Whitelist | ValidUntil | WasmHash | Logic | Not


def parse_condition(value: Json) -> Condition:
    """Read a condition, untrusted.

    Raises:
        InvalidInput: an unknown leaf or member, a value that its leaf does not take, or it is too
            long or too deep.
    """
    try:
        size_bytes = len(canonical_bytes(value))
    except InvalidCanonicalJson as exc:
        raise InvalidInput(f"the condition on callers is no JSON: {exc}") from exc
    if size_bytes > MAX_CONDITION_BYTES:
        raise InvalidInput(f"the condition on callers has more than {MAX_CONDITION_BYTES} bytes")
    return _condition(value, MAX_CONDITION_DEPTH)


def condition_json(condition: Condition) -> Json:
    """Write a condition as JSON; the opposite of `parse_condition`."""
    match condition:
        case AllowAll():
            return "AllowAll"
        case Owner():
            return {"Owner": {}}
        case Whitelist(accounts):
            return {"Whitelist": {"accounts": [str(one) for one in accounts]}}
        case ValidUntil(text=text):
            return {"ValidUntil": {"until": text}}
        case WasmHash(sha256):
            return {"WasmHash": {"hash": sha256}}
        case Logic(operator, conditions):
            return {
                "Logic": {
                    "operator": operator,
                    "conditions": [condition_json(one) for one in conditions],
                }
            }
        case Not(inner):
            return {"Not": {"condition": condition_json(inner)}}


def judge_call(condition: Condition, call: Call) -> Verdict:
    """Decide whether a condition admits a call; only True does."""
    match condition:
        case AllowAll():
            return True
        case Owner():
            return call.caller == call.owner
        case Whitelist(accounts):
            return call.caller in accounts
        case ValidUntil(until):
            return call.now < until
        case WasmHash(sha256):
            return call.wasm_sha256 == sha256
        case Logic(operator, conditions):
            verdicts = [judge_call(one, call) for one in conditions]
            return all_of(verdicts) if operator == "And" else any_of(verdicts)
        case Not(inner):
            return not_of(judge_call(inner, call))


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Return False where one is, else None where one is, else True; the order does not matter."""
    return False if False in verdicts else None if None in verdicts else True


def any_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Return True where one is, else None where one is, else False; the order does not matter."""
    return True if True in verdicts else None if None in verdicts else False


def not_of(verdict: Verdict) -> Verdict:
    """Return the opposite; of None, None."""
    return None if verdict is None else not verdict


def _condition(value: Json, depth: int) -> Condition:
    if depth == 0:
        raise InvalidInput(f"the condition on callers is nested deeper than {MAX_CONDITION_DEPTH}")
    if value == "AllowAll":
        return AllowAll()
    if not isinstance(value, dict) or len(value) != 1:
        raise InvalidInput('a condition is "AllowAll", or an object with exactly one member')
    ((name, content),) = value.items()
    members = _MEMBERS.get(name)
    if members is None:
        raise InvalidInput(f"no such condition: {name[:40]!r}")
    if not isinstance(content, dict) or content.keys() != set(members):
        raise InvalidInput(
            f'the condition "{name}" has exactly the members: {", ".join(members) or "none"}'
        )
    match [name, *(content[member] for member in members)]:
        case ["Owner"]:
            return Owner()
        case ["Whitelist", list(accounts)]:
            return Whitelist(tuple(map(_account, accounts)))
        case ["ValidUntil", str(text)]:
            return ValidUntil(_time(text), text)
        case ["WasmHash", str(sha256)] if _HASH.fullmatch(sha256):
            return WasmHash(sha256)
        case ["Logic", "And" | "Or" as operator, list(conditions)]:
            return Logic(operator, tuple(_condition(one, depth - 1) for one in conditions))
        case ["Not", inner]:
            return Not(_condition(inner, depth - 1))
        case _:
            raise InvalidInput(f'the condition "{name}" is {_WANTED[name]}')


_MEMBERS: Final[Mapping[str, Sequence[str]]] = {
    "Owner": (),
    "Whitelist": ("accounts",),
    "ValidUntil": ("until",),
    "WasmHash": ("hash",),
    "Logic": ("operator", "conditions"),
    "Not": ("condition",),
}
_WANTED: Final = {
    "Whitelist": "about a list of accounts",
    "ValidUntil": "about a time as 2030-01-01T00:00:00Z",
    "WasmHash": "about 64 lowercase hex digits",
    "Logic": 'an operator, "And" or "Or", and a list of conditions',
}


def _account(value: Json) -> Principal:
    with suppress(CapabilityError):
        if isinstance(value, str) and "#" not in value:
            return parse_principal(value)
    raise InvalidInput('an account in "Whitelist" is no DID')


def _time(text: str) -> float:
    try:
        return parse_rfc3339(text)
    except CapabilityError:
        raise InvalidInput('"until" in "ValidUntil" is no time as 2030-01-01T00:00:00Z') from None
