"""Rules IP1, IP2 and RL4: the owner in person at the gate, and the look-up of sessions."""

from typing import Any

import pytest
from tests_support import altered

from capabilities.sign_ins import session_holders
from capabilities.signatures import WalletSigner
from encryption_network.gate import admit
from encryption_network.grounds import policies_in_force
from encryption_network.policy import Policy

# --- in person ------------------------------------------------------------------------------------


def test_the_owners_session_key_needs_no_evidence(world: Any) -> None:
    """IP2: a sign-in that reads the owner's capabilities is the owner in person."""
    sign_in = world.sign_in(world.session)
    permit = admit(world.request(world.session, [sign_in]))
    assert permit.ground == "owner_session"
    assert permit.live == (sign_in.delegation.content_key,)
    assert permit.checks == (world.row("network"), world.row("record"), world.row("withdrawals"))
    assert permit.evidence is None


def test_the_owner_itself_needs_no_evidence(world: Any) -> None:
    """IP1: a did:key that owns the network is in person without any proof."""
    request = world.own_network()
    assert admit(request).ground == "owner"
    assert admit(request).live == ()


def test_an_owner_with_a_fragment_in_the_id_is_still_the_owner(world: Any) -> None:
    """IP1: a fragment in the network's owner is not part of the principal."""
    world.urn = f"urn:tinycloud:encryption:{world.backend.did_url}:default"
    world.network = altered(world.network, network=world.urn)
    assert admit(world.request(world.backend, [])).ground == "owner"


def test_a_sign_in_without_capabilities_read_is_not_in_person(world: Any) -> None:
    """IP2: a wallet's grant of decrypt alone is not the owner in person."""
    sign_in = world.sign_in(world.session, read=False)
    assert world.reason_of(world.request(world.session, [sign_in])) == "no_policy"


def test_the_standing_session_may_be_another_sign_in(world: Any) -> None:
    """IP2: a further grant counts while the key has a session in force."""
    session = world.sign_in(world.session, decrypt=False)
    extra = world.sign_in(world.session, read=False)
    permit = admit(world.request(world.session, [extra], sessions=[session]))
    assert permit.ground == "owner_session"
    assert set(permit.live) == {session.delegation.content_key, extra.delegation.content_key}
    world.revoke(session)
    assert world.reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_an_expired_standing_session_is_none(world: Any) -> None:
    """IP2: an expired session does not count."""
    session = world.sign_in(world.session, decrypt=False, lifetime_s=100)
    extra = world.sign_in(world.session, read=False)
    world.now += 100
    assert world.reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_a_session_of_another_client_does_not_help(world: Any) -> None:
    """IP2: a session of the owner with another key does not count."""
    session = world.sign_in(world.other, decrypt=False)
    extra = world.sign_in(world.session, read=False)
    assert world.reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_reading_capabilities_of_another_space_is_no_session(world: Any) -> None:
    """IP2: the space of a session has to be the owner's."""
    outsider = WalletSigner(b"\x0b" * 32)
    foreign = world.sign_in(
        world.session, wallet=outsider, space=f"tinycloud:{outsider.did[4:]}:default", decrypt=False
    )
    extra = world.sign_in(world.session, read=False)
    assert world.reason_of(world.request(world.session, [extra], sessions=[foreign])) == "no_policy"


LIVES = {
    "thirty days": (30 * 86_400, 0, ""),
    "a second more": (30 * 86_400 + 1, 0, "no_policy"),
    "thirty days, the last one here": (86_400, 29 * 86_400, ""),
    "a second more, the last day here": (86_400, 29 * 86_400 + 1, "no_policy"),
    "thirty days of registration, said to begin later": (30 * 86_400, -300, ""),
    "a second more, said to begin later": (30 * 86_400 + 1, -300, "no_policy"),
    "said to begin too late": (86_400, -301, "no_policy"),
}
"""How long from now it lasts, how long ago it says that it was signed, and what comes of it."""


@pytest.mark.parametrize("cited", [True, False])
@pytest.mark.parametrize(("lifetime_s", "age_s", "reason"), LIVES.values(), ids=LIVES)
def test_both_bounds_of_a_session_s_life(
    world: Any, lifetime_s: float, age_s: float, reason: str, cited: bool
) -> None:
    """IP2: a session ends within 30 days of its issue and of its registration."""
    sign_in = world.sign_in(world.session, lifetime_s=lifetime_s, age_s=age_s)
    if cited:
        assert world.reason_of(world.request(world.session, [sign_in])) == reason
    else:
        extra = world.sign_in(world.session, read=False)
        assert world.reason_of(world.request(world.session, [extra], sessions=[sign_in])) == reason


@pytest.mark.parametrize("age_s", [0, 20 * 86_400])
def test_a_long_grant_does_not_become_a_session_by_being_used_late(
    world: Any, age_s: float
) -> None:
    """IP2: a grant with a longer life is not a session, even near its end."""
    sign_in = world.sign_in(world.session, lifetime_s=31 * world.DAY_S - age_s, age_s=age_s)
    world.now += 10 * world.DAY_S
    assert world.reason_of(world.request(world.session, [sign_in])) == "no_policy"


def test_a_registration_by_a_clock_that_was_ahead_lengthens_nothing(world: Any) -> None:
    """IP2: a registration by a fast clock does not extend a session."""
    sign_in = world.sign_in(
        world.session, lifetime_s=300 * world.DAY_S, registered_at=world.now + 290 * world.DAY_S
    )
    assert world.reason_of(world.request(world.session, [sign_in])) == "no_policy"


@pytest.mark.parametrize("cited", [True, False])
def test_a_sign_in_names_the_key_s_own_did_url(world: Any, cited: bool) -> None:
    """IP2, J4: a grant to a bare DID is not a sign-in."""
    audience = world.session.did_url
    for other in (
        world.session.did,
        f"{world.session.did}#",
        f"{world.session.did}#{world.other.did[8:]}",
    ):
        grant = world.sign_in(world.session, audience=other)
        spare = world.sign_in(world.session, audience=audience, read=False)
        proofs, sessions = ([grant], []) if cited else ([spare], [grant])
        assert (
            world.reason_of(world.request(world.session, proofs, sessions=sessions)) == "no_policy"
        )
    assert (
        world.reason_of(
            world.request(world.session, [world.sign_in(world.session, audience=audience)])
        )
        == ""
    )


def test_a_sign_in_that_states_a_policy_is_not_in_person(world: Any) -> None:
    """IP2: a message with a policy is not a sign-in, also beside one without."""
    listed, plain = (
        world.sign_in(world.session, policies=[world.LIST]),
        world.sign_in(world.session),
    )
    empty = world.sign_in(world.session, policies=[Policy()])
    for proofs in ([listed], [listed, plain], [plain, listed]):
        assert world.reason_of(world.request(world.session, proofs)) == "not_attested"
    for proofs in ([empty], [plain, empty]):
        assert world.reason_of(world.request(world.session, proofs)) == "no_policy"
    spare = world.sign_in(world.session, read=False)
    assert world.reason_of(world.request(world.session, [spare], sessions=[listed])) == "no_policy"
    assert world.reason_of(world.request(world.session, [spare], sessions=[listed, plain])) == ""


def test_a_key_under_a_policy_does_not_speak_for_the_owner(world: Any) -> None:
    """RL4: a key whose grant has a policy cannot approve code for the owner."""
    sign_in = world.sign_in(world.session, policies=[Policy(min_evaluation_number=1)])
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == "no_policy"
    )


def test_one_proof_that_is_no_sign_in_spoils_it(world: Any) -> None:
    """IP2: every cited proof has to be a sign-in of the owner."""
    sign_in = world.sign_in(world.session)
    parent = world.sign_in(world.other)
    share = world.grant(world.other, world.session.did, parents=[parent])
    assert world.reason_of(world.request(world.session, [sign_in, share])) == "no_policy"


def test_a_sub_delegation_is_not_in_person(world: Any) -> None:
    """IP2: a backend with a grant by the session key is not the owner in person."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert world.reason_of(world.request(world.backend, [grant])) == "no_policy"


def test_a_ucan_of_a_key_that_owns_the_network_is_not_in_person(world: Any) -> None:
    """IP2: the owner has to be a wallet."""
    owner = world.other
    world.urn = f"urn:tinycloud:encryption:{owner.did}:default"
    world.network = altered(world.network, network=world.urn)
    att = {
        world.urn: {"tinycloud.encryption/decrypt": [{}]},
        f"tinycloud:{owner.did[4:]}:default/capabilities/all": {
            "tinycloud.capabilities/read": [{}]
        },
    }
    grant = world.grant(owner, world.backend.did, att=att)
    assert world.reason_of(world.request(world.backend, [grant])) == "no_policy"


def test_a_sign_in_with_parents_is_not_in_person(world: Any) -> None:
    """IP2: a wallet's message that cites a parent is not a sign-in."""
    sign_in = world.sign_in(world.session)
    nested = world.sign_in(world.other, parents=[sign_in])
    assert world.reason_of(world.request(world.other, [nested])) == "no_policy"


# --- what the node asks before --------------------------------------------------------------------


def test_no_session_is_asked_for_where_the_chain_shows_it(world: Any) -> None:
    """The gate looks up no session for a key whose live sign-in is in the chain."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session])
    assert session_holders(world.request(world.session, [session]).owner.facts) == frozenset()
    assert session_holders(world.request(world.backend, [grant]).owner.facts) == frozenset()
    assert policies_in_force(world.LIST, world.record, [grant]) == (world.LIST,)


def test_sessions_are_asked_for_of_those_who_may_speak_for_the_owner(world: Any) -> None:
    """If the chain contains no session, the sessions of invoker and signer are looked up."""
    bare = world.sign_in(world.session, read=False)
    grant = world.grant(world.session, world.backend.did, parents=[bare])
    passed_on = world.grant(world.backend, world.other.did, parents=[grant])
    assert session_holders(world.request(world.session, [bare]).owner.facts) == {world.session.did}
    assert session_holders(world.request(world.backend, [grant]).owner.facts) == {world.session.did}
    assert session_holders(world.request(world.other, [passed_on]).owner.facts) == {
        world.session.did
    }


def test_a_session_that_does_not_stand_is_none(world: Any) -> None:
    """A revoked sign-in in the chain does not prevent the look-up of another session."""
    session = world.sign_in(world.session)
    facts = world.request(world.session, [session]).owner.facts
    world.revoke(session)
    assert session_holders(altered(facts, marks=dict(world.marks))) == {world.session.did}
    assert session_holders(altered(facts, owner=world.session.did)) == frozenset()
