"""Tests of rules TM1 to TM6: memberships, as whom a member asks, and what an admin may state."""

from typing import Any

import pytest
from tests_support import altered

from capabilities.capability_errors import MalformedToken
from capabilities.members import admin_statement, check_admitted, member_of
from capabilities.memberships import MAX_ADMIN_RIGHTS, MAX_MEMBER_PATHS, stated_membership


def signed_in(world: Any, membership: Any, *, wallet: Any = None) -> Any:
    """Return a member's sign-in to the session's key."""
    return world.sign_in(
        world.session,
        wallet=wallet or world.MEMBER,
        parents=[membership],
        read=False,
        lifetime_s=3_600,
    )


def facts_of(world: Any, *proofs: Any) -> Any:
    """Return the facts of a request by the session that cites some delegations."""
    paths = {world.path("ONE"): world.row("ONE")}
    return world.request(world.session, proofs, key_paths=paths).owner.facts


def facts_with(world: Any, *links: Any) -> Any:
    """Return the facts of a request, with further delegations among its links."""
    facts = facts_of(world, world.sign_in(world.session))
    members = {member.content_key for link in links for member in link.closure}
    return altered(facts, links={key: world.links[key] for key in members})


def test_TM3_a_request_of_a_member(world: Any) -> None:
    """A request that cites only a member's sign-in is made as that member (TM3)."""
    sign_in = signed_in(world, world.member("reader", "ONE", changes={"name": "Ada"}))
    member = member_of(facts_of(world, sign_in))
    assert member is not None
    assert (member.team, member.statement.member) == (world.owner, world.MEMBER.did)
    assert (member.name, member.paths) == ("Ada", (world.path("ONE"),))


def test_TM3_a_request_of_somebody_else(world: Any) -> None:
    """The owner, and a request that cites two delegations, are no member (TM3)."""
    sign_in = signed_in(world, world.member("reader"))
    facts = facts_of(world, sign_in)
    assert member_of(altered(facts, invoker=facts.owner)) is None
    assert member_of(facts_of(world, sign_in, world.sign_in(world.session))) is None
    assert member_of(altered(facts, invoker=world.backend.did)) is None


@pytest.mark.parametrize("order", ["before", "after"])
def test_TM3_a_member_of_another_team(world: Any, order: str) -> None:
    """A member's request for another owner is refused, however the two DIDs are ordered (TM3)."""
    facts = facts_of(world, signed_in(world, world.member("reader")))
    other_owner = {"before": "did:a", "after": "did:z"}[order]
    assert (other_owner < facts.invoker) == (order == "before")
    with pytest.raises(MalformedToken, match="one of another team"):
        member_of(altered(facts, owner=other_owner))


def test_TM2_a_membership_by_the_team_cites_nothing(world: Any) -> None:
    """A membership that the team signed is refused if it cites a proof (TM2)."""
    membership = world.member("reader").delegation
    stated = stated_membership(membership, registered_at=world.now)
    check_admitted(membership, stated, [])
    above = world.member("admin", wallet=world.ADMIN)
    by_admin = world.member("reader", by=above, signer=world.ADMIN).delegation
    check_admitted(by_admin, stated, [above])
    citing = altered(membership, parents=by_admin.parents)
    with pytest.raises(MalformedToken, match="cites no proof"):
        check_admitted(citing, stated, [above])
    with pytest.raises(MalformedToken, match="or cites an admin's membership"):
        check_admitted(by_admin, stated, [])


def test_TM2_a_membership_cites_the_first_cid(world: Any) -> None:
    """An admin's membership is cited by the CID under which it was registered first (TM2)."""
    admin = world.member("admin", wallet=world.ADMIN)
    by_admin = world.member("reader", by=admin, signer=world.ADMIN).delegation
    stated = stated_membership(by_admin, registered_at=world.now)
    check_admitted(by_admin, stated, [admin])
    other_encoding = altered(admin.delegation, cid=by_admin.cid)
    with pytest.raises(MalformedToken, match="the CID of its first registration"):
        check_admitted(by_admin, stated, [altered(admin, delegation=other_encoding)])


def test_TM6_an_admin_makes_a_statement(world: Any) -> None:
    """A statement is an admin's if its wallet or session signed it, and nobody else's (TM6)."""
    admin = world.member("admin", wallet=world.ADMIN)
    by_wallet = world.member("reader", by=admin, signer=world.ADMIN)
    facts = facts_of(world, signed_in(world, by_wallet))
    assert admin_statement(facts, by_wallet)
    assert not admin_statement(facts, admin)
    sign_in = signed_in(world, admin, wallet=world.ADMIN)
    by_session = world.grant(world.session, world.backend.did, parents=[sign_in], att={})
    assert admin_statement(facts_with(world, by_session), by_session)


def test_TM6_another_member_makes_none(world: Any) -> None:
    """What a writer or its session signed is no statement of an admin (TM6)."""
    writer = world.member("writer")
    sign_in = signed_in(world, writer)
    by_session = world.grant(world.session, world.backend.did, parents=[sign_in], att={})
    assert not admin_statement(facts_with(world, by_session), by_session)
    assert not admin_statement(facts_of(world, sign_in), sign_in)


@pytest.mark.parametrize("order", ["before", "after"])
def test_TM6_another_key_cites_an_admins_sign_in(world: Any, order: str) -> None:
    """A delegation is no admin's statement if it cites an admin's sign-in to another key, however
    the DIDs of both keys are ordered (TM6)."""
    sign_in = signed_in(world, world.member("admin", wallet=world.ADMIN), wallet=world.ADMIN)
    by_session = world.grant(world.session, world.backend.did, parents=[sign_in], att={})
    signer = {"before": "did:a", "after": "did:z"}[order]
    assert (signer < world.session.did) == (order == "before")
    by_other = altered(by_session, delegation=altered(by_session.delegation, delegator=signer))
    assert not admin_statement(facts_with(world, by_session), by_other)


def test_TM1_the_statement_is_about_the_delegate(world: Any) -> None:
    """A membership states the DID of its delegate, and this DID is its audience (TM1)."""
    membership = world.member("reader").delegation
    assert stated_membership(membership, registered_at=world.now).member == membership.delegate
    states_another = world.member("reader", changes={"member": world.ADMIN.did}).delegation
    of_fragment = altered(membership, audience=f"{membership.delegate}#key")
    for misfit in (states_another, of_fragment):
        with pytest.raises(MalformedToken, match="for another member than it states"):
            stated_membership(misfit, registered_at=world.now)


def test_TM1_a_list_of_secrets_has_1_to_64(world: Any) -> None:
    """A membership without a list is for all secrets, and an empty list is refused (TM1)."""
    names = [f"SECRET_{number}" for number in range(MAX_MEMBER_PATHS + 1)]
    assert MAX_MEMBER_PATHS == 64
    for count in (0, 1, 64):
        membership = world.member("reader", *names[:count]).delegation
        stated = stated_membership(membership, registered_at=world.now)
        assert stated.paths == tuple(map(world.path, names[:count]))
    empty = world.member("reader", changes={"paths": []}).delegation
    too_long = world.member("reader", *names).delegation
    for misfit in (empty, too_long):
        with pytest.raises(MalformedToken, match="its statement is invalid"):
            stated_membership(misfit, registered_at=world.now)


def test_TM1_an_admin_lists_no_secrets(world: Any) -> None:
    """An admin's membership is for all secrets, so it is refused with a list (TM1)."""
    listing = world.member("admin", changes={"paths": [world.path("ONE")]}).delegation
    with pytest.raises(MalformedToken, match="an admin's membership lists no paths"):
        stated_membership(listing, registered_at=world.now)


def test_TM1_the_rights_of_an_admin_are_bounded(world: Any) -> None:
    """An admin's membership has at most 64 rights (TM1)."""
    membership = world.member("admin").delegation
    assert MAX_ADMIN_RIGHTS == 64
    repeated = (*membership.capabilities, *membership.capabilities[:1] * 64)
    most = altered(membership, capabilities=repeated[:64])
    assert stated_membership(most, registered_at=world.now).role == "admin"
    with pytest.raises(MalformedToken, match="at most 64 rights"):
        stated_membership(altered(membership, capabilities=repeated[:65]), registered_at=world.now)
