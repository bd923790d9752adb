"""The chain rules compared with a second, literal implementation of their list."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import capability_strategies as draw
from capability_cases import NOW
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.abilities import satisfies
from capabilities.capability_errors import CapabilityError, CaveatRefused, ChainError
from capabilities.caveats import Caveats, check_delegated, check_invoked
from capabilities.chain import (
    BOUNDARIES,
    Ancestor,
    Marker,
    Markers,
    Registered,
    judge_invocation,
    judge_registration,
    mentioned_spaces,
)
from capabilities.cids import ContentKey, Digest, cid_text
from capabilities.principals import Principal, is_wallet
from capabilities.resources import extends, root_of
from capabilities.strict_json import Json
from capabilities.tokens import (
    Capability,
    Delegation,
    Invocation,
    check_window,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)
from capabilities.ucan import UcanPayload, encode_ucan

OWNER, _, HOLDER, OTHER = draw.SIGNERS
TERMINAL: dict[str, Json] = {"xyz.tinycloud.policy/delegationMode": "terminal"}
PHOTOS = f"tinycloud:{OWNER.did[4:]}:default/kv/photos"
mostly = st.sampled_from([True] * 12 + [False])
mark = st.sampled_from([Marker.LIVE] * 19 + [Marker.REVOKED, None])
SELECTOR = {"type": "xyz.tinycloud.resource/selector", "kind": "prefix", "value": "a"}
caveats = st.sampled_from(
    [
        [{}],
        [{}],
        [{"k": 1}],
        [{"k": 2}],
        *([SELECTOR | {"value": value}] for value in ("a", "a/b", "photos", PHOTOS)),
    ]
)
begin = st.sampled_from([None] * 9 + [NOW - 60.0, NOW, NOW + 1.0])
end = st.sampled_from([NOW, NOW + 60.0, NOW + 60.0, NOW + 60.0, NOW + 90.0])


@st.composite
def grants(choose):
    """Draw a stored grant, mostly to HOLDER, with its ancestors and window."""
    payload = UcanPayload(
        iss=OWNER.did_url,
        aud=HOLDER.did if choose(mostly) else OTHER.did,
        exp=choose(end),
        nbf=choose(begin),
        fct=None if choose(mostly) else [TERMINAL],
        prf=[],
        att=choose(draw.att) | {PHOTOS: {"tinycloud.kv/get": choose(caveats)}},
    )
    delegation = verify_delegation(parse_delegation(encode_ucan(payload, OWNER)))
    above = choose(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=2, unique=True))
    closure = (
        Ancestor(delegation.content_key, delegation.cid),
        *[Ancestor(ContentKey(name * 32), Digest(name * 32)) for name in above],
    )
    return Registered(
        delegation,
        closure,
        choose(begin),
        choose(st.none() | end),
        (),
        missing_ancestor=not choose(mostly),
    )


@st.composite
def cases(choose):
    """Draw a token of HOLDER or the owner, the stored proofs, and the marks of most members.

    In half of the cases the token requests one capability under one grant, as most real tokens do.
    """
    is_plain = choose(st.booleans())
    cited = choose(st.lists(grants(), min_size=int(choose(mostly)), max_size=1 if is_plain else 3))
    found = [grant if choose(mostly) else None for grant in cited]
    marks = {member.content_key: choose(mark) for grant in cited for member in grant.closure}
    held = {row.resource.text: row for grant in cited for row in grant.delegation.capabilities}
    asked = (
        choose(st.lists(st.sampled_from(sorted(held)), max_size=2)) if held and not is_plain else []
    )
    att = {text: {held[text].ability: [*held[text].caveats.values()] or [{}]} for text in asked}
    att |= {f"{PHOTOS}/cat": {"tinycloud.kv/get": choose(caveats)}}
    signer = HOLDER if choose(mostly) else OWNER
    payload = UcanPayload(
        iss=signer.did_url,
        aud=OTHER.did,
        exp=choose(end),
        nbf=choose(begin),
        prf=[cid_text(grant.delegation.cid) for grant in cited],
        att=att if choose(mostly) else choose(draw.att),
    )
    return (
        encode_ucan(payload, signer),
        found,
        {key: reported for key, reported in marks.items() if reported is not None},
    )


def verdict(judge: Callable[[], object]) -> object:
    """Return the result of a judgement, or the code and text of its refusal."""
    try:
        return judge()
    except CapabilityError as refusal:
        return type(refusal), refusal.text


@given(cases())
@fuzzed(1)
def test_calls_are_judged_as_listed(case: tuple[str, list[Registered | None], Markers]) -> None:
    """An invocation is accepted or refused by the first broken rule of the list."""
    header, found, marks = case
    invocation = verify_invocation(parse_invocation(header))

    def judged() -> object:
        authority = judge_invocation(invocation, found, marks, now=NOW)
        return authority.live, authority.dependent

    assert verdict(judged) == verdict(lambda: listed_call(invocation, found, marks))


def listed_call(
    invocation: Invocation, found: Sequence[Registered | None], marks: Markers
) -> tuple[tuple[ContentKey, ...], tuple[Capability, ...]]:
    """Judge an invocation by I30 to I37 and I39."""
    dependent = dependent_on_proofs(invocation.invoker, invocation.capabilities)
    grants = found_all(found) if found or not dependent else not_found()
    if not dependent:
        refuse_unmet_conditions(invocation.capabilities)
        return (), ()
    if any(grant.delegation.delegate != invocation.invoker for grant in grants):
        raise ChainError("invoker-unauthorized")
    for proof, grant in zip(invocation.parents, grants, strict=True):
        if (fallen := first_fallen(grant, marks)) is not None:
            if fallen is grant.closure[0]:
                raise ChainError("delegation-revoked", proof.echo)
            raise ChainError("ancestor-revoked", cid_text(fallen.cid), f"invoked={proof.echo}")
    if not all(is_open(grant) for grant in grants):
        raise ChainError("action-unauthorized", dependent[0].resource.text, dependent[0].ability)
    for capability in dependent:
        refusals = list(
            refusals_of(capability, [grant.delegation for grant in grants], check_invoked)
        )
        if not refusals:
            raise ChainError("action-unauthorized", capability.resource.text, capability.ability)
        if None not in refusals:
            raise ChainError("caveats-not-contained", BOUNDARIES["invocation"], refusals[-1] or "")
    refuse_unmet_conditions(invocation.capabilities)
    return tuple(
        dict.fromkeys(member.content_key for grant in grants for member in grant.closure)
    ), dependent


def refuse_unmet_conditions(capabilities: Iterable[Capability]) -> None:
    """Judge an invocation by I39, for the caveats that are drawn here."""
    for capability in capabilities:
        if is_on_database(capability):
            continue
        for condition in capability.caveats.values():
            value = condition.get("value") if isinstance(condition, dict) else None
            if not isinstance(value, str):
                raise ChainError(
                    "caveats-not-contained", BOUNDARIES["invocation"], "caveat-not-understood"
                )
            whole = (
                value if value.startswith("tinycloud:") else f"{PHOTOS.rpartition('/')[0]}/{value}"
            )
            if capability.resource.text != whole and not capability.resource.text.startswith(
                f"{whole}/"
            ):
                raise ChainError(
                    "caveats-not-contained", BOUNDARIES["invocation"], "selector-caveat-not-met"
                )


def is_on_database(capability: Capability) -> bool:
    """Return whether the caveats of a capability are those of a database (D32)."""
    resource = capability.resource
    return getattr(resource, "service", "") == "sql" and capability.ability.split("/")[0] == (
        "tinycloud.sql"
    )


@given(cases())
@fuzzed(1)
def test_grants_are_judged_as_listed(case: tuple[str, list[Registered | None], Markers]) -> None:
    """A delegation is registered as listed, or refused by the first broken rule of the list."""
    header, found, marks = case
    delegation = verify_delegation(parse_delegation(header))

    def judged() -> object:
        return judge_registration(delegation, found, marks, now=NOW)

    assert verdict(judged) == verdict(lambda: judge_by_listed_rules(delegation, found, marks))


def judge_by_listed_rules(
    delegation: Delegation, found: Sequence[Registered | None], marks: Markers
) -> Registered:
    """Judge a delegation by a second, slow form of the rules D6, D20 to D30 and D32."""
    check_window(delegation, NOW)
    dependent = dependent_on_proofs(delegation.delegator, delegation.capabilities)
    parents = found_all(found) if found or not dependent else not_found()
    if dependent and any(parent.delegation.delegate != delegation.delegator for parent in parents):
        raise ChainError("delegator-unauthorized", delegation.delegator)
    for proof, parent in zip(delegation.parents, parents, strict=True):
        if (fallen := first_fallen(parent, marks)) is not None:
            if fallen is parent.closure[0]:
                raise ChainError("parent-revoked", proof.echo)
            raise ChainError("ancestor-revoked", cid_text(fallen.cid), f"parent={proof.echo}")
    if dependent:
        if any(parent.delegation.terminal for parent in parents):
            raise ChainError("parent-terminal")
        outlived = [
            parent.delegation
            for parent in parents
            if not ends_before(parent.delegation, delegation)
        ]
        supporting = [outer for outer in outlived if not begins_after(outer, delegation)]
        if not supporting:
            raise ChainError(
                "not-before-precedes-parent"
                if len(outlived) == len(parents)
                else "expiry-exceeds-parent"
            )
        for capability in dependent:
            refusals = list(refusals_of(capability, supporting, check_delegated))
            if not refusals:
                raise ChainError(
                    "capability-unauthorized", capability.resource.text, capability.ability
                )
            if None not in refusals:
                raise ChainError(
                    "caveats-not-contained", BOUNDARIES["delegation"], refusals[-1] or ""
                )
    if any(is_on_database(one) and one.caveats for one in delegation.capabilities):
        # D32: no caveat that is drawn here is one of a database
        raise ChainError("caveats-not-contained", BOUNDARIES["delegation"], "sql-caveat-unknown")
    itself = Ancestor(delegation.content_key, delegation.cid)
    signer = delegation.delegator
    has_account = is_wallet(signer) or signer in [
        space.owner for space in mentioned_spaces(delegation.capabilities)
    ]
    return Registered(
        delegation,
        tuple(
            dict.fromkeys([itself, *(member for parent in parents for member in parent.closure)])
        ),
        max(
            (
                at
                for at in [delegation.not_before, *(p.not_before for p in parents)]
                if at is not None
            ),
            default=None,
        ),
        min(
            (
                at
                for at in [delegation.expires_at, *(p.expires_at for p in parents)]
                if at is not None
            ),
            default=None,
        ),
        tuple(parent.delegation.content_key for parent in parents),
        registered_at=NOW,
        accounts=(signer,) if has_account else (),
    )


def dependent_on_proofs(
    principal: Principal, capabilities: Iterable[Capability]
) -> tuple[Capability, ...]:
    return tuple(
        capability for capability in capabilities if root_of(capability.resource) != principal
    )


def not_found() -> list[Registered]:
    raise ChainError("parent-not-found")


def found_all(found: Sequence[Registered | None]) -> list[Registered]:
    """Return the cited grants if all are stored, complete and distinct."""
    known = [grant for grant in found if grant is not None and not grant.missing_ancestor]
    if len({grant.delegation.content_key for grant in known}) != len(found):
        raise ChainError("parent-not-found")
    return known


def first_fallen(grant: Registered, marks: Markers) -> Ancestor | None:
    for member in grant.closure:
        if member.content_key not in marks:
            raise ChainError("parent-not-found")
        if marks[member.content_key] is Marker.REVOKED:
            return member
    return None


def is_open(grant: Registered) -> bool:
    return (grant.expires_at is None or grant.expires_at > NOW) and (grant.not_before or 0) <= NOW


def ends_before(outer: Delegation, inner: Delegation) -> bool:
    return outer.expires_at is not None and (
        inner.expires_at is None or inner.expires_at > outer.expires_at
    )


def begins_after(outer: Delegation, inner: Delegation) -> bool:
    return outer.not_before is not None and (
        inner.not_before is None or inner.not_before < outer.not_before
    )


def refusals_of(
    capability: Capability, grants: Iterable[Delegation], check: Callable[[Caveats, Caveats], None]
) -> Iterator[str | None]:
    """Yield for each row of the same resource and ability why it does not cover, or None."""
    for grant in grants:
        for row in grant.capabilities:
            if satisfies(row.ability, capability.ability) and extends(
                capability.resource, row.resource
            ):
                try:
                    check(row.caveats, capability.caveats)
                except CaveatRefused as refusal:
                    yield refusal.text
                else:
                    yield None
