"""Tests of rules TM1 to TM4, members of teams at the gate."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import altered

from capabilities.chain import Marker
from capabilities.memberships import MAX_LIFE_S
from encryption_network.gate import admit
from encryption_network.policy import Policy

ROLES = ("admin", "writer", "reader")
NAMES = st.sets(st.sampled_from(["ONE", "TWO", "THREE"]))


def ask(world: Any, *proofs: Any, name: str = "ONE", **more: Any) -> Any:
    """Return a request for a key that is stored at the path of a secret."""
    paths = {world.path(name): world.row(name)}
    return world.request(world.session, proofs, **{"key_paths": paths} | more)


def signed_in(world: Any, membership: Any, **more: Any) -> Any:
    """Return the member's sign-in to the session's key."""
    given = {"wallet": world.MEMBER, "parents": [membership], "read": False, "lifetime_s": 3_600}
    return world.sign_in(world.session, **given | more)


def admitted_by_team(world: Any, role: Any, *names: str) -> Any:
    """Return a membership that the team signed."""
    return world.member(role, *names)


def admitted_by_admin(world: Any, role: Any, *names: str) -> Any:
    """Return a membership that an admin signed."""
    admin = world.member("admin", wallet=world.ADMIN)
    return world.member(role, *names, by=admin, signer=world.ADMIN)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["delegates", "off"])
def test_TM4_a_member_opens_secrets(world: Any, role: Any, mode: str) -> None:
    """A member for all secrets opens every key that was stored as secrets alone (TM4)."""
    world.record = altered(world.record, mode=mode)
    membership = world.member(role)
    request = ask(world, signed_in(world, membership))
    permit = admit(request)
    assert permit.ground == "member"
    assert permit.holder.statement.member == world.MEMBER.did
    assert membership.delegation.content_key in permit.live
    assert request.key_owner.row in permit.checks
    at_two = altered(request, key_owner=world.key_owner(is_at_two_paths=True))
    assert admit(at_two).ground == "member"
    for owner_of_key in (None, world.key_owner(world.path("ONE"), is_secret=False)):
        assert world.reason_of(altered(request, key_owner=owner_of_key)) == "path"


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
        {"policies": [Policy()]},
        {"lifetime_s": 31 * 86_400},
        {"age_s": -3_000},
    ],
)
def test_TM3_the_form_of_a_members_sign_in(world: Any, changes: dict[str, Any]) -> None:
    """What is not in the form of a sign-in gives no ground as a member (TM3)."""
    membership = world.member("reader")
    if "lifetime_s" in changes:
        link = signed_in(world, membership)
        token = altered(link.delegation, expires_at=link.delegation.issued_at + 31 * 86_400)
        request = ask(world, link)
        links = {**request.owner.facts.links, token.content_key: altered(link, delegation=token)}
        request = world.with_facts(request, links=links)
    elif "audience" in changes:
        link = signed_in(world, membership)
        token = altered(link.delegation, audience=link.delegation.delegate)
        request = ask(world, link)
        links = {**request.owner.facts.links, token.content_key: altered(link, delegation=token)}
        request = world.with_facts(request, links=links)
    else:
        request = ask(world, signed_in(world, membership, **changes))
    assert world.reason_of(request) == "no_policy"


@pytest.mark.parametrize(
    "changes",
    [
        {"member": "did:pkh:eip155:1:0x0000000000000000000000000000000000000001"},
        {"role": "owner"},
        {"end": 1},
        {"paths": ["tinycloud:pkh:eip155:1:0x00:secrets/kv/vault/secrets/ONE"]},
        {"more": 1},
    ],
)
def test_TM1_a_release_checks_the_statement(world: Any, changes: dict[str, Any]) -> None:
    """A stored membership that is not as TM1 says opens nothing, whatever else is true."""
    sign_in = signed_in(world, world.member("reader", changes=changes))
    request = ask(world, sign_in, evidence=world.evidence(world.session))
    assert world.reason_of(request) == "chain"


def test_TM1_the_longest_life_is_from_the_registration(world: Any) -> None:
    """A membership that was registered long before its end is refused (TM1)."""
    membership = world.member("reader", registered_at=world.now - MAX_LIFE_S)
    assert world.reason_of(ask(world, signed_in(world, membership))) == "chain"


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_TM2_only_an_admin_admits(world: Any, role: Any) -> None:
    """A membership below one that is no admin's opens nothing (TM2)."""
    above = world.member(role, wallet=world.ADMIN)
    below = world.member("reader", by=above, signer=world.ADMIN)
    assert world.reason_of(ask(world, signed_in(world, below))) == "chain"


def test_TM2_an_admins_member_and_its_end(world: Any) -> None:
    """An admin's member reads until the admin is removed."""
    membership = admitted_by_admin(world, "reader", "ONE")
    sign_in = signed_in(world, membership)
    request = ask(world, sign_in)
    assert admit(request).ground == "member"
    for member in sign_in.closure:
        marks = {**world.marks, member.content_key: Marker.REVOKED}
        assert world.reason_of(world.with_facts(request, marks=marks)) == "chain"


def test_TM2_the_team_owns_the_network(world: Any) -> None:
    """A membership of another team opens nothing (TM2)."""
    membership = world.member("reader")
    sign_in = signed_in(world, membership)
    request = ask(world, sign_in)
    foreign = altered(membership.delegation, delegator=world.MEMBER.did)
    links = {**request.owner.facts.links}
    links[membership.delegation.content_key] = altered(membership, delegation=foreign)
    assert world.reason_of(world.with_facts(request, links=links)) == "chain"


@pytest.mark.parametrize(("role", "reason"), [("admin", ""), ("reader", "no_policy")])
def test_TM6_the_list_of_an_admin_counts(world: Any, role: Any, reason: str) -> None:
    """A list that an admin's wallet signed counts as the team's, and no other member's does."""
    membership = world.member(role, wallet=world.ADMIN)
    grant = world.sign_in(
        world.backend,
        read=False,
        wallet=world.ADMIN,
        parents=[membership],
        policies=[world.LIST],
        lifetime_s=3600,
    )
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert world.reason_of(request) == reason


@pytest.mark.parametrize("beside", ["another sign-in", "a passed-on right"])
def test_TM4_the_paths_narrow_what_is_no_request_as_a_member(world: Any, beside: str) -> None:
    """In mode `off`, too, a membership gives the keys of its own secrets alone (TM4)."""
    world.record = altered(world.record, mode="off")
    membership = world.member("reader", "ONE")
    if beside == "another sign-in":
        proofs = [signed_in(world, membership), signed_in(world, membership, age_s=1)]
    else:
        own = world.sign_in(world.backend, wallet=world.MEMBER, parents=[membership], read=False)
        proofs = [world.grant(world.backend, world.session.did, parents=[own])]
    own_key = world.key_owner(world.path("ONE"))
    assert admit(altered(ask(world, *proofs), key_owner=own_key)).ground == "off"
    other_key = world.key_owner(world.path("TWO"))
    assert world.reason_of(altered(ask(world, *proofs, name="TWO"), key_owner=other_key)) == "path"
    assert world.reason_of(altered(ask(world, *proofs), key_owner=other_key)) == "path"
    assert world.reason_of(altered(ask(world, *proofs), key_owner=None)) == "path"
    at_two = world.key_owner(world.path("ONE"), is_at_two_paths=True)
    assert world.reason_of(altered(ask(world, *proofs), key_owner=at_two)) == "path"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    named=NAMES,
    stored=NAMES,
    owning=st.none() | st.sampled_from(["ONE", "TWO", "THREE"]),
    is_at_two_paths=st.booleans(),
    is_secret=st.booleans(),
    is_by_admin=st.booleans(),
    beside=st.sampled_from(["nothing", "nothing", "sign-in", "token"]),
    mode=st.sampled_from(["off", "delegates", "everyone"]),
    demanded=st.none() | st.sampled_from([Policy(), Policy(in_person=False)]),
    revoked=st.integers(-4, 3),
)
def test_TM4_a_member_opens_own_secrets_and_nothing_else(
    new_world: Any,
    named: set[str],
    stored: set[str],
    owning: str | None,
    is_at_two_paths: bool,
    is_secret: bool,
    is_by_admin: bool,
    beside: str,
    mode: str,
    demanded: Policy | None,
    revoked: int,
) -> None:
    """A member opens exactly the keys of the secrets of the membership, unless evidence is demanded
    of everyone, and never with another proof (TM3, TM4)."""
    world = new_world()
    world.record = replace(world.record, mode=mode)
    world.demand(demanded)
    make = admitted_by_admin if is_by_admin else admitted_by_team
    membership = make(world, "reader", *named)
    proofs = [signed_in(world, membership)]
    if beside != "nothing":
        proofs.append(
            world.sign_in(world.session) if beside == "sign-in" else world.machine(world.session)
        )
    request = world.request(
        world.session,
        proofs,
        evidence=world.evidence(world.session),
        key_paths={world.path(name): world.row(name) for name in stored},
    )
    owner_of_key = None
    if owning is not None:
        owner_of_key = world.key_owner(
            world.path(owning), is_at_two_paths=is_at_two_paths, is_secret=is_secret
        )
    request = altered(request, key_owner=owner_of_key)
    closure = proofs[0].closure
    is_revoked = 0 <= revoked < len(closure)
    if is_revoked:
        marks = {**world.marks, closure[revoked].content_key: Marker.REVOKED}
        request = world.with_facts(request, marks=marks)
    if named:
        is_own = bool(stored & named) and owning in named and not is_at_two_paths
    else:
        is_own = owning is not None and is_secret
    opens = (
        beside == "nothing"
        and not is_revoked
        and mode != "everyone"
        and (demanded is None or demanded.in_person)
        and is_own
    )
    reason = world.reason_of(request)
    permit = None if reason else admit(request)
    assert (permit is not None and permit.ground == "member") is opens
    if beside == "nothing":
        assert (permit is not None) is opens
    assert permit is None or set(request.owner.facts.links) <= set(permit.live)
