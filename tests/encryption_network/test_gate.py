"""The release gate, case by case."""

import copy
import dataclasses
from typing import Any

import pytest
from tests_support import altered

from capabilities.chain import Authority, Mark
from capabilities.resources import parse_network_id
from capabilities.signatures import WalletSigner
from encryption_network.errors import ReleaseRefused
from encryption_network.gate import (
    MAX_PATHS,
    REASONS,
    Admission,
    ReleaseRequest,
    admit,
    in_person_marks,
    paths_in_force,
    policies_in_force,
    session_holders,
)
from encryption_network.policy import Policy

NARROW = Policy(advisories=("INTEL-SA-00001",))
"""A policy that accepts the sample evidence and names no code."""


def reason_of(request: ReleaseRequest) -> str:
    """Why a request is refused; empty when it is admitted."""
    try:
        admit(request)
    except ReleaseRefused as refusal:
        assert refusal.reason in REASONS
        assert refusal.text == f"release refused: {refusal.reason}"
        return refusal.reason
    return ""


# --- in person -----------------------------------------------------------------------------------------------------


def test_the_owners_session_key_needs_no_evidence(world: Any) -> None:
    """IP2: a sign-in that reads the owner's capabilities is the owner in person."""
    sign_in = world.sign_in(world.session)
    admission = admit(world.request(world.session, [sign_in]))
    assert admission.ground == "owner_session"
    assert admission.live == (sign_in.delegation.content_key,)
    assert admission.checks == (world.row("network"), world.row("record"), world.row("withdrawals"))
    assert admission.audit.quote_sha256 is None


def test_the_owner_itself_needs_no_evidence(world: Any) -> None:
    """IP1: a did:key that owns its network is there in person, without any proof."""
    request = own_network(world)
    assert admit(request).ground == "owner"
    assert admit(request).live == ()


def own_network(world: Any) -> Any:
    """A request of a did:key on its own network."""
    world.owner = world.backend.did
    world.urn = f"urn:tinycloud:encryption:{world.owner}:default"
    world.network = altered(world.network, network_id=parse_network_id(world.urn))
    return world.request(world.backend, [])


def test_an_owner_with_a_fragment_in_the_id_is_still_the_owner(world: Any) -> None:
    """IP1: the fragment of a session-only network's owner is no part of the principal."""
    world.urn = f"urn:tinycloud:encryption:{world.backend.did_url}:default"
    world.network = altered(world.network, network_id=parse_network_id(world.urn))
    assert admit(world.request(world.backend, [])).ground == "owner"


def test_a_sign_in_without_capabilities_read_is_not_in_person(world: Any) -> None:
    """IP2: a wallet's grant of decrypt alone is a delegation to somebody else."""
    sign_in = world.sign_in(world.session, read=False)
    assert reason_of(world.request(world.session, [sign_in])) == "no_policy"


def test_the_standing_session_may_be_another_sign_in(world: Any) -> None:
    """IP2: an extra grant counts while the holder's sign-in stands; its mark is then relied on."""
    session = world.sign_in(world.session, decrypt=False)
    extra = world.sign_in(world.session, read=False)
    admission = admit(world.request(world.session, [extra], sessions=[session]))
    assert admission.ground == "owner_session"
    assert set(admission.live) == {session.delegation.content_key, extra.delegation.content_key}
    world.revoke(session)
    assert reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_an_expired_standing_session_is_none(world: Any) -> None:
    """IP2: the session has to stand now."""
    session = world.sign_in(world.session, decrypt=False, lifetime_s=100)
    extra = world.sign_in(world.session, read=False)
    world.now += 100
    assert reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_a_session_of_somebody_else_does_not_help(world: Any) -> None:
    """IP2: the session has to be from O to I."""
    session = world.sign_in(world.other, decrypt=False)
    extra = world.sign_in(world.session, read=False)
    assert reason_of(world.request(world.session, [extra], sessions=[session])) == "no_policy"


def test_reading_capabilities_of_another_space_is_no_session(world: Any) -> None:
    """IP2: the space has to be one of O's."""
    stranger = WalletSigner(b"\x0b" * 32)
    foreign = world.sign_in(
        world.session, wallet=stranger, space=f"tinycloud:{stranger.did[4:]}:default", decrypt=False
    )
    extra = world.sign_in(world.session, read=False)
    assert reason_of(world.request(world.session, [extra], sessions=[foreign])) == "no_policy"


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
def test_both_bounds_of_a_session_s_life(world: Any, lifetime_s: float, age_s: float, reason: str, cited: bool) -> None:
    """IP2: it ends within 30 days of its own time of issue and of its registration, and is not of the future."""
    sign_in = world.sign_in(world.session, lifetime_s=lifetime_s, age_s=age_s)
    if cited:
        assert reason_of(world.request(world.session, [sign_in])) == reason
    else:
        extra = world.sign_in(world.session, read=False)
        assert reason_of(world.request(world.session, [extra], sessions=[sign_in])) == reason


@pytest.mark.parametrize("age_s", [0, 20 * 86_400])
def test_a_long_grant_does_not_become_a_session_by_being_used_late(world: Any, age_s: float) -> None:
    """IP2: both bounds count from fixed points, not from now."""
    sign_in = world.sign_in(world.session, lifetime_s=31 * world.DAY_S - age_s, age_s=age_s)
    world.now += 10 * world.DAY_S
    assert reason_of(world.request(world.session, [sign_in])) == "no_policy"


def test_a_registration_by_a_clock_that_was_ahead_lengthens_nothing(world: Any) -> None:
    """IP2: what the message says itself bounds it, whatever this node's clock said when it was registered."""
    sign_in = world.sign_in(world.session, lifetime_s=300 * world.DAY_S, registered_at=world.now + 290 * world.DAY_S)
    assert reason_of(world.request(world.session, [sign_in])) == "no_policy"


@pytest.mark.parametrize("cited", [True, False])
def test_a_sign_in_names_the_key_s_own_did_url(world: Any, cited: bool) -> None:
    """IP2, J4: a grant to somebody else names the DID as given, and is not the owner in person."""
    audience = world.session.did_url
    for other in (world.session.did, f"{world.session.did}#", f"{world.session.did}#{world.other.did[8:]}"):
        grant = world.sign_in(world.session, audience=other)
        spare = world.sign_in(world.session, audience=audience, read=False)
        proofs, sessions = ([grant], []) if cited else ([spare], [grant])
        assert reason_of(world.request(world.session, proofs, sessions=sessions)) == "no_policy"
    assert reason_of(world.request(world.session, [world.sign_in(world.session, audience=audience)])) == ""


def test_a_sign_in_that_states_a_policy_is_not_in_person(world: Any) -> None:
    """IP2: whoever states which code may receive keys speaks of code; also beside a sign-in that states none."""
    listed, plain = world.sign_in(world.session, policies=[world.LIST]), world.sign_in(world.session)
    empty = world.sign_in(world.session, policies=[Policy()])
    for proofs in ([listed], [listed, plain], [plain, listed]):
        assert reason_of(world.request(world.session, proofs)) == "not_attested"
    for proofs in ([empty], [plain, empty]):
        assert reason_of(world.request(world.session, proofs)) == "no_policy"
    spare = world.sign_in(world.session, read=False)
    assert reason_of(world.request(world.session, [spare], sessions=[listed])) == "no_policy"
    assert reason_of(world.request(world.session, [spare], sessions=[listed, plain])) == ""


def test_a_key_under_a_policy_does_not_speak_for_the_owner(world: Any) -> None:
    """RL4: what a key approves that was signed in under measurements counts for nothing, whoever it is."""
    sign_in = world.sign_in(world.session, policies=[Policy(min_evaluation_number=1)])
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend))) == "no_policy"


def test_one_proof_that_is_no_sign_in_spoils_it(world: Any) -> None:
    """IP2: every proof cited has to be the owner's sign-in."""
    sign_in = world.sign_in(world.session)
    parent = world.sign_in(world.other)
    share = world.grant(world.other, world.session.did, parents=[parent])
    assert reason_of(world.request(world.session, [sign_in, share])) == "no_policy"


def test_a_sub_delegation_is_not_in_person(world: Any) -> None:
    """IP2: a backend that the session key delegated to is somebody else."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert reason_of(world.request(world.backend, [grant])) == "no_policy"


def test_a_ucan_of_a_key_that_owns_the_network_is_not_in_person(world: Any) -> None:
    """IP2: the owner has to be a wallet."""
    owner = world.other
    world.urn = f"urn:tinycloud:encryption:{owner.did}:default"
    world.network = altered(world.network, network_id=parse_network_id(world.urn))
    att = {
        world.urn: {"tinycloud.encryption/decrypt": [{}]},
        f"tinycloud:{owner.did[4:]}:default/capabilities/all": {"tinycloud.capabilities/read": [{}]},
    }
    grant = world.grant(owner, world.backend.did, att=att)
    assert reason_of(world.request(world.backend, [grant])) == "no_policy"


def test_a_sign_in_with_parents_is_not_in_person(world: Any) -> None:
    """IP2: a wallet that acts on somebody else's grant is not the owner."""
    sign_in = world.sign_in(world.session)
    nested = world.sign_in(world.other, parents=[sign_in])
    assert reason_of(world.request(world.other, [nested])) == "no_policy"


# --- the mode ------------------------------------------------------------------------------------------------------


def test_in_mode_everyone_nobody_is_in_person(world: Any) -> None:
    """Mode everyone refuses the owner's session and the owner without evidence."""
    world.record = altered(world.record, mode="everyone")
    sign_in = world.sign_in(world.session)
    assert reason_of(world.request(world.session, [sign_in])) == "mode"
    assert reason_of(own_network(world)) == "mode"


def test_in_mode_everyone_the_owner_passes_with_evidence(world: Any) -> None:
    """Mode everyone admits approved code, whoever runs it."""
    world.record = altered(world.record, mode="everyone")
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    admission = admit(world.request(world.session, [sign_in], evidence=world.evidence(world.session)))
    assert admission.ground == "attested"
    assert world.row("evidence") in admission.checks


def test_a_policy_can_take_the_owners_way_away(world: Any) -> None:
    """An owner tightens its own network to code only."""
    world.demand(altered(world.LIST, in_person=False))
    sign_in = world.sign_in(world.session)
    assert reason_of(world.request(world.session, [sign_in])) == "policy"
    assert reason_of(world.request(world.session, [sign_in], evidence=world.evidence(world.session))) == ""


def test_mode_off_asks_for_nothing(world: Any) -> None:
    """Mode off admits a delegate where nobody stated a policy."""
    world.record = altered(world.record, mode="off", node_policy=world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    admission = admit(world.request(world.backend, [grant]))
    assert (admission.ground, admission.audit.mode) == ("off", "off")


def test_mode_off_keeps_what_an_owner_stated(world: Any) -> None:
    """An owner only ever tightens: its policy holds on a node that asks for nothing."""
    world.record = altered(world.record, mode="off")
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert reason_of(world.request(world.backend, [grant])) == "not_attested"
    assert (
        reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend, mrtd=bytes(48))))
        == "measurement"
    )


# --- the owner's list ----------------------------------------------------------------------------------------------


def test_a_genuine_quote_alone_is_not_enough(world: Any) -> None:
    """Evidence without an owner's allow-list is refused."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend))) == "no_policy"


def test_the_list_in_the_networks_policy_counts(world: Any) -> None:
    """The owner may state the code in the network."""
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    admission = admit(world.request(world.backend, [grant], evidence=world.evidence(world.backend)))
    assert admission.ground == "attested"
    assert admission.audit.quote_sha256 == "0b" * 32
    assert len(admission.audit.policy_sha256) == 1
    assert set(admission.live) == {grant.delegation.content_key, sign_in.delegation.content_key}


def test_the_list_in_the_wallets_grant_counts(world: Any) -> None:
    """The owner may state the code in a grant to the backend itself."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend))) == ""


def test_the_list_of_the_owners_session_key_counts(world: Any) -> None:
    """O's in-person session key speaks for O in a delegation it signs; its session is then relied on."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert session.delegation.content_key in admit(request).live


def test_the_session_keys_list_falls_with_its_session(world: Any) -> None:
    """K is in person for O only while a session that reads capabilities stands."""
    session = world.sign_in(world.session, decrypt=False)
    extra = world.sign_in(world.session, read=False)
    grant = world.grant(world.session, world.backend.did, parents=[extra], policies=[world.LIST])
    evidence = world.evidence(world.backend)
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"
    admission = admit(world.request(world.backend, [grant], evidence=evidence, sessions=[session]))
    assert session.delegation.content_key in admission.live
    world.revoke(session)
    assert reason_of(world.request(world.backend, [grant], evidence=evidence, sessions=[session])) == "no_policy"


def test_a_delegates_own_list_does_not_count(world: Any) -> None:
    """A backend that passes decrypt on cannot approve code for the owner."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session])
    passed_on = world.grant(world.backend, world.other.did, parents=[grant], policies=[world.LIST], lifetime_s=1000)
    assert reason_of(world.request(world.other, [passed_on], evidence=world.evidence(world.other))) == "no_policy"


def test_a_key_with_a_parent_that_is_no_sign_in_does_not_speak_for_the_owner(world: Any) -> None:
    """K's delegation has to rest on the owner's sign-ins alone."""
    session = world.sign_in(world.session)
    elsewhere = world.sign_in(world.other)
    share = world.grant(world.other, world.session.did, parents=[elsewhere])
    grant = world.grant(
        world.session, world.backend.did, parents=[session, share], policies=[world.LIST], lifetime_s=1000
    )
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend))) == "no_policy"


def test_a_delegates_policy_narrows(world: Any) -> None:
    """Every delegation in the closure adds its policy to the conjunction."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[world.LIST])
    narrow = Policy(min_evaluation_number=20)
    passed_on = world.grant(world.backend, world.other.did, parents=[grant], policies=[narrow], lifetime_s=1000)
    assert reason_of(world.request(world.other, [passed_on], evidence=world.evidence(world.other))) == "evaluation"
    fresh = world.evidence(world.other, evaluation_number=20)
    assert reason_of(world.request(world.other, [passed_on], evidence=fresh)) == ""


def test_a_list_on_another_network_does_not_count(world: Any) -> None:
    """The list has to stand in the chain of this network's decrypt."""
    grant = world.sign_in(world.backend, read=False)
    elsewhere = world.sign_in(
        world.backend, read=False, policies=[world.LIST], network=f"urn:tinycloud:encryption:{world.owner}:other"
    )
    assert (
        reason_of(world.request(world.backend, [grant, elsewhere], evidence=world.evidence(world.backend)))
        == "no_policy"
    )


def test_a_list_dragged_into_the_closure_does_not_count(world: Any) -> None:
    """A delegation that grants nothing may cite anything; what it cites does not become the owner's word."""
    for_somebody_else = world.sign_in(world.other, read=False, policies=[world.LIST])
    grant = world.sign_in(world.backend, read=False)
    empty = world.grant(world.backend, world.backend.did, parents=[for_somebody_else], att={})
    evidence = world.evidence(world.backend)
    assert reason_of(world.request(world.backend, [grant, empty], evidence=evidence)) == "no_policy"
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"


def test_a_list_dragged_in_by_a_parent_does_not_count(world: Any) -> None:
    """A parent that was granted to somebody else is no part of the chain, though the closure holds it."""
    for_somebody_else = world.sign_in(world.other, read=False, policies=[world.LIST])
    empty = world.grant(world.other, world.session.did, parents=[for_somebody_else], att={})
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in, empty])
    assert len(grant.registered.closure) == 4
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend))) == "no_policy"


def test_two_proofs_with_one_ancestor(world: Any) -> None:
    """An ancestor that several proofs share is looked at once, and its list counts for all."""
    sign_in = world.sign_in(world.session, policies=[world.LIST])
    proofs = [world.grant(world.session, world.backend.did, parents=[sign_in]) for _ in range(2)]
    admission = admit(world.request(world.backend, proofs, evidence=world.evidence(world.backend)))
    assert len(admission.audit.policy_sha256) == 1
    world.revoke(sign_in)
    other = world.sign_in(world.session)
    plain = [world.grant(world.session, world.backend.did, parents=[other]) for _ in range(2)]
    assert reason_of(world.request(world.backend, plain, evidence=world.evidence(world.backend))) == "no_policy"


def test_a_parent_that_is_not_among_the_links_is_not_guessed(world: Any) -> None:
    """Where a cited parent is not given, nothing speaks for the owner through it."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    unknown = altered(grant, registered=altered(grant.registered, parents=(bytes(32),)))
    links = {**request.links, grant.delegation.content_key: unknown}
    assert reason_of(altered(request, links=links)) == "no_policy"


def test_a_revoked_list_of_the_owner_does_not_count(world: Any) -> None:
    """A key that owns its network and cites a revoked grant finds no list in it."""
    world.record = altered(world.record, mode="everyone")
    request = own_network(world)
    grant = world.grant(world.backend, world.backend.did, policies=[world.LIST])
    asking = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert request.cited == ()
    assert reason_of(asking) == ""
    assert admit(asking).live == (grant.delegation.content_key,)
    world.revoke(grant)
    assert reason_of(asking) == "no_policy"


def test_the_nodes_list_counts_only_where_it_suffices(world: Any) -> None:
    """An operator's list stands in for the owner's only by the release record."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    evidence = world.evidence(world.backend)
    world.record = altered(world.record, node_policy=world.LIST)
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"
    world.record = altered(world.record, node_policy_suffices=True)
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""
    other_code = world.evidence(world.backend, rtmr3=bytes(48))
    assert reason_of(world.request(world.backend, [grant], evidence=other_code)) == "measurement"


# --- evidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"invoker": "did:key:z6MkSomebody"}, "not_attested"),
        ({"root_ca_sha256": bytes(32)}, "trust_root"),
        ({"key_provider": "local-sgx:aa"}, "key_provider"),
        ({"receiver_public_key": bytes(32)}, "receiver"),
        ({"receiver_mode": "signed"}, "receiver"),
        ({"expires_at": 1_795_000_000.0}, "evidence_expired"),
        ({"attested_at": 1_795_000_061.0}, "evidence_expired"),
        ({"rtmr0": bytes(48)}, "measurement"),
        ({"td_attributes": bytes(8)}, "attributes"),
        ({"tcb_status": "OutOfDate"}, "tcb_status"),
        ({"qe_status": "OutOfDate"}, "tcb_status"),
        ({"advisories": ("INTEL-SA-00002",)}, "advisory"),
    ],
)
def test_evidence_that_does_not_fit(world: Any, changes: dict[str, Any], reason: str) -> None:
    """Evidence of another holder, key, root, code or platform state is refused by its coarse cause."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert reason_of(world.request(world.backend, [grant], evidence=world.evidence(world.backend, **changes))) == reason


def test_no_evidence(world: Any) -> None:
    """A delegate of a network with a list has to attest."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert reason_of(world.request(world.backend, [grant])) == "not_attested"


def test_a_signed_receiver_needs_every_policys_consent(world: Any) -> None:
    """Any receiver key passes only where each policy on the way says so."""
    signed = altered(world.LIST, receiver="signed")
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[signed])
    evidence = world.evidence(world.backend, receiver_mode="signed", receiver_public_key=bytes(32))
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""
    world.demand(NARROW)
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == "receiver"
    world.demand(altered(NARROW, receiver="signed"))
    assert reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""


# --- paths ---------------------------------------------------------------------------------------------------------


def test_a_policy_with_paths_opens_only_keys_that_stand_there(world: Any) -> None:
    """The key has to be in an envelope at one of the paths, of every policy that lists some; in person too."""
    one, two = (f"tinycloud:{world.owner[4:]}:secrets/kv/vault/secrets/{name}" for name in ("ONE", "TWO"))
    world.demand(Policy(paths=(one, two)))
    world.record = dataclasses.replace(world.record, node_policy=Policy(paths=(two,)))
    sign_in = world.sign_in(world.session)
    assert reason_of(world.request(world.session, [sign_in])) == "path"
    assert reason_of(world.request(world.session, [sign_in], key_paths={one: world.row("one")})) == "path"
    admission = admit(world.request(world.session, [sign_in], key_paths={two: world.row("two")}))
    assert world.row("two") in admission.checks


def test_paths_are_bounded(world: Any) -> None:
    """The rows that one release makes the node read are bounded."""
    policy = Policy(paths=tuple(f"tinycloud:{world.owner[4:]}:s/kv/{n}" for n in range(32)))
    distinct = [altered(policy, paths=tuple(f"{path}/{n}" for path in policy.paths)) for n in range(8)]
    assert len(paths_in_force(distinct)) == MAX_PATHS
    with pytest.raises(ReleaseRefused):
        paths_in_force([*distinct, policy])


# --- the chain -----------------------------------------------------------------------------------------------------


def test_a_revoked_or_unknown_mark_refuses(world: Any) -> None:
    """Marks are checked again here: authority does not outlive them."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    for marks in ({}, request.marks | {sign_in.delegation.content_key: Mark.REVOKED}):
        assert reason_of(altered(request, marks=marks)) == "chain"


def test_an_incomplete_closure_refuses(world: Any) -> None:
    """A policy that was not read cannot be skipped."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    links = {grant.delegation.content_key: grant}
    assert reason_of(altered(request, links=links)) == "chain"
    assert reason_of(altered(request, cited=())) == "chain"


def test_a_cited_proof_that_is_not_given_refuses(world: Any) -> None:
    """Of what was not read nobody is in person, no session is looked for, and nothing is released."""
    sign_ins = [world.sign_in(world.session), world.sign_in(world.session)]
    request = world.request(world.session, sign_ins)
    without = altered(request, links={sign_ins[0].delegation.content_key: sign_ins[0]})
    assert in_person_marks(request.presence) is not None
    assert in_person_marks(without.presence) is None
    assert session_holders(without.presence) == frozenset()
    assert reason_of(without) == "chain"


def test_a_missing_ancestor_refuses(world: Any) -> None:
    """A closure that the store says is incomplete supports nothing."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    link = altered(sign_in, registered=altered(sign_in.registered, missing_ancestor=True))
    assert reason_of(altered(request, links={sign_in.delegation.content_key: link})) == "chain"


def test_an_expired_chain_refuses(world: Any) -> None:
    """The closure's window is checked again here."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert reason_of(altered(request, now=world.now + world.DAY_S)) == "chain"


def test_no_proof_refuses_whoever_is_not_the_owner(world: Any) -> None:
    """Without dependent capabilities only the owner itself can stand here."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert reason_of(altered(request, authority=Authority((), ()))) == "chain"


def test_a_policy_that_cannot_be_read_refuses(world: Any) -> None:
    """A fact of the family that is not understood is never skipped."""
    sign_in = world.sign_in(world.session)
    delegation = altered(sign_in.delegation, facts=({"sealspace.attestation/v1": {"unknown": 1}},))
    link = altered(sign_in, registered=altered(sign_in.registered, delegation=delegation))
    request = world.request(world.session, [sign_in])
    assert reason_of(altered(request, links={delegation.content_key: link})) == "policy"


# --- what the node asks before ---------------------------------------------------------------------------------------


def test_no_session_is_asked_for_where_the_chain_shows_it(world: Any) -> None:
    """A sign-in that stands speaks for its holder, and for what its key granted."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session])
    assert session_holders(world.request(world.session, [session]).presence) == frozenset()
    assert session_holders(world.request(world.backend, [grant]).presence) == frozenset()
    assert policies_in_force(world.LIST, world.record, [grant]) == (world.LIST,)


def test_sessions_are_asked_for_of_those_who_may_speak_for_the_owner(world: Any) -> None:
    """Where the sign-ins of a chain are no sessions, those of the invoker or of the signer are looked for."""
    bare = world.sign_in(world.session, read=False)
    grant = world.grant(world.session, world.backend.did, parents=[bare])
    passed_on = world.grant(world.backend, world.other.did, parents=[grant])
    assert session_holders(world.request(world.session, [bare]).presence) == {world.session.did}
    assert session_holders(world.request(world.backend, [grant]).presence) == {world.session.did}
    assert session_holders(world.request(world.other, [passed_on]).presence) == {world.session.did}


def test_a_session_that_does_not_stand_is_none(world: Any) -> None:
    """A revoked sign-in in the chain does not keep another session from being looked for."""
    session = world.sign_in(world.session)
    presence = world.request(world.session, [session]).presence
    world.revoke(session)
    assert session_holders(altered(presence, marks=dict(world.marks))) == {world.session.did}
    assert session_holders(altered(presence, owner=world.session.did)) == frozenset()


# --- the admission -------------------------------------------------------------------------------------------------


def test_an_admission_is_made_by_the_gate_only(world: Any) -> None:
    """Neither construction nor alteration makes an admission."""
    admission = admit(world.request(world.session, [world.sign_in(world.session)]))
    values = {field.name: getattr(admission, field.name) for field in dataclasses.fields(admission)}
    with pytest.raises(RuntimeError):
        Admission(**values, seal=object())
    with pytest.raises(TypeError):
        Admission(**values)  # made without the gate
    with pytest.raises((TypeError, ValueError)):
        altered(admission, ground="owner")
    with pytest.raises(dataclasses.FrozenInstanceError):
        admission.ground = "owner"  # type: ignore[misc]  # frozen
    assert copy.copy(admission) == admission
