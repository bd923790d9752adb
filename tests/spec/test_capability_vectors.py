"""Tests of every vector in spec/vectors/capabilities."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests_support import REPOSITORY

from capabilities.abilities import parse_ability, satisfies
from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.chain import (
    Ancestor,
    Marker,
    Markers,
    Registered,
    check_lifetime,
    hosted_spaces,
    judge_invocation,
    judge_registration,
    judge_revocation,
)
from capabilities.cids import ContentKey, Digest, cid_text, parse_cid
from capabilities.machine_tokens import exchanged_grant, machine_grant
from capabilities.members import check_admitted
from capabilities.memberships import stated_membership
from capabilities.principals import parse_principal, principal_of, same_principal
from capabilities.references import CitedDelegation
from capabilities.resources import (
    OpaqueResource,
    SpaceResource,
    extends,
    parse_network_id,
    parse_resource,
    parse_space_id,
)
from capabilities.successions import check_countersigned, check_senior
from capabilities.tokens import (
    check_window,
    parse_delegation,
    parse_invocation,
    parse_revocation,
    verify_delegation,
    verify_invocation,
    verify_revocation,
)

FOLDER = REPOSITORY / "spec" / "vectors" / "capabilities"
CHAIN = json.loads((FOLDER / "chain.json").read_text("utf-8"))
SUCCESSIONS = json.loads((FOLDER / "successions.json").read_text("utf-8"))["tokens"]
TRUSTS = json.loads((FOLDER / "trusts.json").read_text("utf-8"))["trusts"]


def _cases(name: str) -> list[Any]:
    cases = json.loads((FOLDER / name).read_text("utf-8"))["cases"]
    return [pytest.param(case, id=_name(case)) for case in cases]


def _name(case: Any) -> str:
    """Return rules and name of a case, ASCII."""
    return ascii(f"{'+'.join(case['rules'])} {case['name']}")[1:-1]


def _lines(name: str) -> list[str]:
    return (FOLDER / "identifiers" / f"{name}.txt").read_text("utf-8").splitlines()


PARSERS: dict[str, Callable[[str], object]] = {
    "did": parse_principal,
    "space": parse_space_id,
    "resource": parse_resource,
    "ability": parse_ability,
    "network": parse_network_id,
    "cid": parse_cid,
}


@pytest.mark.parametrize("kind", PARSERS)
def test_valid_identifiers_parse(kind: str) -> None:
    """Every valid identifier parses, and every resource of a space belongs to it (U15)."""
    parsed = [PARSERS[kind](line) for line in _lines(f"{kind}_valid")]
    assert len(parsed) > 0
    if kind == "resource":
        assert all(isinstance(resource, SpaceResource) for resource in parsed)


def test_opaque_resources_lie_in_no_space() -> None:
    """A URI that is not a resource of a space is kept unchanged (U3, U16)."""
    for line in _lines("resource_opaque"):
        assert OpaqueResource(line) == parse_resource(line)


@pytest.mark.parametrize("kind", PARSERS)
def test_invalid_identifiers_are_refused(kind: str) -> None:
    """Every invalid identifier raises the identifier error (U1, U2, U4, U5, U10)."""
    for line in [*_lines(f"{kind}_invalid"), ""]:
        with pytest.raises(InvalidIdentifier):
            PARSERS[kind](line)


@pytest.mark.parametrize("case", _cases("identifiers/canonical.json"))
def test_canonical_spelling(case: Any) -> None:
    """An identifier is rendered in canonical form, or refused with the wire's text."""
    parse = PARSERS[case["kind"]]
    if "error" in case["expect"]:
        with pytest.raises(InvalidIdentifier) as refused:
            parse(case["input"])
        assert case["expect"]["error"] == refused.value.text
        return
    parsed = parse(case["input"])
    assert case["expect"]["text"] == getattr(parsed, "text", parsed)


@pytest.mark.parametrize("case", _cases("identifiers/principals.json"))
def test_principal(case: Any) -> None:
    """Two identities are the same principal exactly if the vector says so."""
    if "field" in case:
        assert case["expect"]["principal"] == principal_of(case["field"])
    else:
        assert case["expect"]["same"] == same_principal(case["one"], case["other"])
        assert case["expect"]["same"] == same_principal(case["other"], case["one"])


@pytest.mark.parametrize("case", _cases("identifiers/resources.json"))
def test_resource_parts(case: Any) -> None:
    """A resource is split into parts, with absent and empty ones distinguished, and rendered
    unchanged."""
    resource = parse_resource(case["input"])
    assert case["expect"] == {name: getattr(resource, name) for name in case["expect"]}
    assert case["input"] == resource.text


@pytest.mark.parametrize("case", _cases("containment.json"))
def test_containment(case: Any) -> None:
    """One resource extends another exactly if the vector says so."""
    assert case["expect"]["extends"] == extends(
        parse_resource(case["child"]), parse_resource(case["parent"])
    )


@pytest.mark.parametrize("case", _cases("abilities.json"))
def test_ability(case: Any) -> None:
    """One ability satisfies another exactly if the vector says so."""
    assert case["expect"]["satisfies"] == satisfies(case["held"], case["required"])


def _read(kind: str, header: str) -> Any:
    if kind == "delegation":
        return verify_delegation(parse_delegation(header))
    if kind == "invocation":
        return verify_invocation(parse_invocation(header))
    return verify_revocation(parse_revocation(header))


def _member(token: Any, name: str) -> Any:
    """Return a member of a verified token in the form of the vectors."""
    if name == "cid":
        return cid_text(token.cid)
    if name == "content_key":
        return getattr(token, name).hex()
    if name == "capabilities":
        return [
            [held.resource.text, held.ability, dict(held.caveats)] for held in token.capabilities
        ]
    if name == "parents":
        return [parent.echo for parent in token.parents]
    if name == "target":
        return cid_text(token.targets[0].digest)
    if name == "facts":
        return list(token.facts)
    return getattr(token, name)


def _check_refusal(refusal: CapabilityError, expect: Any) -> None:
    assert expect["code"] == refusal.code
    if "text" in expect:
        assert expect["text"] == refusal.text


@pytest.mark.parametrize("case", _cases("tokens.json"))
def test_token(case: Any) -> None:
    """A token is parsed and verified as the vector says, or refused with the vector's code."""
    expect = case["expect"]
    if "code" in expect:
        with pytest.raises(CapabilityError) as refused:
            _read(case["kind"], case["token"])
        _check_refusal(refused.value, expect)
        return
    token = _read(case["kind"], case["token"])
    assert expect == {name: _member(token, name) for name in expect}


@pytest.mark.parametrize("case", _cases("machine_tokens.json"))
def test_machine_token(case: Any) -> None:
    """A machine token grants what the vector says, or is refused with the vector's code."""
    expect, registered_at = case["expect"], case["registered_at"]
    if "code" in expect:
        with pytest.raises(CapabilityError) as refused:
            machine_grant(_read("delegation", case["token"]), registered_at=registered_at)
        _check_refusal(refused.value, expect)
        return
    token = _read("delegation", case["token"])
    granted = machine_grant(token, registered_at=registered_at)
    assert granted is not None
    machine: dict[str, Any] = {"name": granted.name, "paths": [*granted.paths]}
    if granted.unbound:
        machine["unbound"] = True
    assert expect == {"terminal": token.terminal, "machine": machine}


@pytest.mark.parametrize("case", _cases("trusts.json"))
def test_trust(case: Any) -> None:
    """A trust and a machine token under it grant what the vector says, or are refused."""
    expect, at = case["expect"], case["registered_at"]
    token, under = _read("delegation", case["token"]), case.get("under")

    def grant() -> Any:
        if under is None:
            return machine_grant(token, registered_at=at)
        trust = _read("delegation", TRUSTS[under])
        return exchanged_grant(token, trust, registered_at=at, trusted_at=at)

    if "code" in expect:
        with pytest.raises(CapabilityError) as refused:
            grant()
        _check_refusal(refused.value, expect)
        return
    granted = json.loads(msgspec.json.encode(grant()))
    assert expect == {name: granted[name] for name in expect}


def _linked(name: str, registered: dict[str, int]) -> Registered:
    """Return a delegation of the succession vectors with those above it."""
    delegation = _read("delegation", SUCCESSIONS[name])
    closure = [Ancestor(delegation.content_key, delegation.cid)]
    accounts = [delegation.delegator]
    for cited in delegation.parents:
        above = _linked(_named(cited.echo), registered)
        closure += above.closure
        accounts += above.accounts
    return Registered(
        delegation=delegation,
        closure=tuple(closure),
        not_before=None,
        expires_at=delegation.expires_at,
        parents=(),
        registered_at=float(registered.get(name, 0)),
        accounts=tuple(accounts),
    )


def _named(cid: str) -> str:
    """Return the name of a delegation of the succession vectors."""
    digest = parse_cid(cid).digest32
    (name,) = (
        name for name, token in SUCCESSIONS.items() if _read("delegation", token).cid == digest
    )
    return name


@pytest.mark.parametrize("case", _cases("successions.json"))
def test_succession(case: Any) -> None:
    """A statement of a succession says what the vector says, or is refused (TM16, TM17)."""
    expect, now, registered = case["expect"], float(case["now"]), case["registered"]
    token = _read("delegation", SUCCESSIONS[case["statement"]])

    def judge() -> dict[str, str]:
        stated = stated_membership(token, registered_at=now)
        above = [_linked(_named(cited.echo), registered) for cited in token.parents]
        check_admitted(token, stated, above)
        if stated.countersigns is None:
            check_senior(above, now=now)
            return {"successor": stated.member}
        first = _named(stated.countersigns)
        found = _linked(first, registered) if first in registered else None
        move = check_countersigned(token, stated, above, found, now=now)
        return {"team": move.team, "successor": move.successor}

    if "code" in expect:
        with pytest.raises(CapabilityError) as refused:
            judge()
        _check_refusal(refused.value, expect)
        return
    assert judge() == expect


class _Registry:
    """The registered delegations of a case, by digest and by name."""

    def __init__(self) -> None:
        self._by_digest: dict[Digest, Registered] = {}
        self._names: dict[ContentKey, str] = {}
        self.marks: dict[ContentKey, Marker] = {}

    def register(self, name: str, now: float) -> Registered:
        """Register one of the document's tokens."""
        delegation = _read("delegation", CHAIN["tokens"][name])
        registered = judge_registration(
            delegation, self.cited(delegation.parents), self.marks, now=now
        )
        self._by_digest[delegation.cid] = registered
        self._names[delegation.content_key] = name
        self.marks[delegation.content_key] = Marker.LIVE
        return registered

    def revoke(self, name: str) -> None:
        """Mark one of the registered tokens as revoked."""
        self.marks[_read("delegation", CHAIN["tokens"][name]).content_key] = Marker.REVOKED

    def cited(self, parents: tuple[CitedDelegation, ...]) -> list[Registered | None]:
        """Return the delegation for each proof."""
        return [self.found(parent.digest) for parent in parents]

    def found(self, digest: Digest | None) -> Registered | None:
        """Return the delegation with a digest."""
        return None if digest is None else self._by_digest.get(digest)

    def named(self, keys: Iterator[ContentKey]) -> list[str]:
        """Return the names of content keys."""
        return [self._names[key] for key in keys]


def _judge(case: Any, registry: _Registry) -> dict[str, Any]:
    now, marks = case["now"], dict(registry.marks)
    if case["kind"] == "delegation":
        registered = registry.register(case["token"], now)
        return {
            "closure": registry.named(member.content_key for member in registered.closure),
            "expires_at": registered.expires_at,
            "not_before": registered.not_before,
            "hosts": [space.text for space in hosted_spaces(registered.delegation)],
        }
    token = _read(case["kind"], CHAIN["tokens"][case["token"]])
    if case["kind"] == "revocation":
        targets = [registry.found(target.digest) for target in token.targets]
        acting = judge_revocation(
            token, registry.cited(token.parents), targets, _as_marks(marks), now=now
        )
        return {"acting": acting}
    check_window(token, now)
    if "max_lifetime_s" in case:
        check_lifetime(token, now, case["max_lifetime_s"])
    authority = judge_invocation(token, registry.cited(token.parents), marks, now=now)
    return {"live": registry.named(iter(authority.live)), "dependent": len(authority.dependent)}


def _as_marks(marks: dict[ContentKey, Marker]) -> Markers:
    return marks


@pytest.mark.parametrize("case", _cases("chain.json"))
def test_chain(case: Any) -> None:
    """A token is judged against the registered delegations as the vector says."""
    registry = _Registry()
    for name in case["registered"]:
        registry.register(name, 1_795_000_000)
    for name in case["revoked"]:
        registry.revoke(name)
    expect = case["expect"]
    if "code" in expect:
        with pytest.raises(CapabilityError) as refused:
            _judge(case, registry)
        _check_refusal(refused.value, expect)
        return
    outcome = _judge(case, registry)
    assert expect == {name: outcome[name] for name in expect}
