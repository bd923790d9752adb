"""The release gate, case by case."""

import copy
import dataclasses
from typing import Any

import pytest
from tests_support import altered

from capabilities.chain import Authority, Mark
from capabilities.sign_ins import OwnerAuthority, session_holders
from encryption_network.gate import MAX_PATHS, ReleasePermit, admit, needs_evidence, paths_in_force
from encryption_network.network_errors import ReleaseRefused
from encryption_network.policy import Policy

NARROW = Policy(advisories=("INTEL-SA-00001",))
"""A policy that accepts the sample evidence and names no code."""


# --- the mode -------------------------------------------------------------------------------------


def test_in_mode_everyone_nobody_is_in_person(world: Any) -> None:
    """Mode everyone refuses the owner's session and the owner without evidence."""
    world.record = altered(world.record, mode="everyone")
    sign_in = world.sign_in(world.session)
    assert world.reason_of(world.request(world.session, [sign_in])) == "mode"
    assert world.reason_of(world.own_network()) == "mode"


def test_in_mode_everyone_the_owner_passes_with_evidence(world: Any) -> None:
    """Mode everyone admits approved code, whoever runs it."""
    world.record = altered(world.record, mode="everyone")
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    permit = admit(world.request(world.session, [sign_in], evidence=world.evidence(world.session)))
    assert permit.ground == "attested"
    assert world.row("evidence") in permit.checks


def test_a_policy_can_take_the_owners_way_away(world: Any) -> None:
    """An owner tightens its own network to code only."""
    world.demand(altered(world.LIST, in_person=False))
    sign_in = world.sign_in(world.session)
    assert world.reason_of(world.request(world.session, [sign_in])) == "policy"
    assert (
        world.reason_of(
            world.request(world.session, [sign_in], evidence=world.evidence(world.session))
        )
        == ""
    )


def test_mode_off_asks_for_nothing(world: Any) -> None:
    """Mode off admits a delegate where nobody stated a policy."""
    world.record = altered(world.record, mode="off", node_policy=world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    permit = admit(world.request(world.backend, [grant]))
    assert (permit.ground, permit.mode) == ("off", "off")


def test_mode_off_uses_no_evidence(world: Any) -> None:
    """Where nothing is required, the caller need not read evidence."""
    request = world.request(world.backend, [world.sign_in(world.backend, read=False)])
    off = altered(request.release_record, mode="off")
    assert not needs_evidence(request.owner, off, ())
    assert needs_evidence(request.owner, off, (world.LIST,))
    assert needs_evidence(request.owner, request.release_record, ())


def test_mode_off_keeps_what_an_owner_stated(world: Any) -> None:
    """An owner only ever tightens: its policy holds on a node that asks for nothing."""
    world.record = altered(world.record, mode="off")
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert world.reason_of(world.request(world.backend, [grant])) == "not_attested"
    assert (
        world.reason_of(
            world.request(
                world.backend, [grant], evidence=world.evidence(world.backend, mrtd=bytes(48))
            )
        )
        == "measurement"
    )


# --- the owner's list -----------------------------------------------------------------------------


def test_a_genuine_quote_alone_is_not_enough(world: Any) -> None:
    """Evidence without an owner's allow-list is refused."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == "no_policy"
    )


def test_the_list_in_the_networks_policy_counts(world: Any) -> None:
    """The owner may state the code in the network."""
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    permit = admit(world.request(world.backend, [grant], evidence=world.evidence(world.backend)))
    assert permit.ground == "attested"
    assert permit.evidence is not None
    assert permit.evidence.quote_sha256 == b"\x0b" * 32
    assert len(permit.policy_sha256) == 1
    assert set(permit.live) == {grant.delegation.content_key, sign_in.delegation.content_key}


def test_the_list_in_the_wallets_grant_counts(world: Any) -> None:
    """The owner may state the code in a grant to the backend itself."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == ""
    )


def test_the_list_of_the_owners_session_key_counts(world: Any) -> None:
    """O's in-person session key speaks for O in a delegation it signs; its session is then relied
    on."""
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
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"
    permit = admit(world.request(world.backend, [grant], evidence=evidence, sessions=[session]))
    assert session.delegation.content_key in permit.live
    world.revoke(session)
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=evidence, sessions=[session])
        )
        == "no_policy"
    )


def test_a_delegates_own_list_does_not_count(world: Any) -> None:
    """A backend that passes decrypt on cannot approve code for the owner."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session])
    passed_on = world.grant(
        world.backend, world.other.did, parents=[grant], policies=[world.LIST], lifetime_s=1000
    )
    assert (
        world.reason_of(
            world.request(world.other, [passed_on], evidence=world.evidence(world.other))
        )
        == "no_policy"
    )


def test_a_key_with_a_parent_that_is_no_sign_in_does_not_speak_for_the_owner(world: Any) -> None:
    """K's delegation has to rest on the owner's sign-ins alone."""
    session = world.sign_in(world.session)
    elsewhere = world.sign_in(world.other)
    share = world.grant(world.other, world.session.did, parents=[elsewhere])
    grant = world.grant(
        world.session,
        world.backend.did,
        parents=[session, share],
        policies=[world.LIST],
        lifetime_s=1000,
    )
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == "no_policy"
    )


def test_a_delegates_policy_narrows(world: Any) -> None:
    """Every delegation in the closure adds its policy to the conjunction."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[world.LIST])
    narrow = Policy(min_evaluation_number=20)
    passed_on = world.grant(
        world.backend, world.other.did, parents=[grant], policies=[narrow], lifetime_s=1000
    )
    assert (
        world.reason_of(
            world.request(world.other, [passed_on], evidence=world.evidence(world.other))
        )
        == "evaluation"
    )
    fresh = world.evidence(world.other, evaluation_number=20)
    assert world.reason_of(world.request(world.other, [passed_on], evidence=fresh)) == ""


def test_a_list_on_another_network_does_not_count(world: Any) -> None:
    """The list has to stand in the chain of this network's decrypt."""
    grant = world.sign_in(world.backend, read=False)
    elsewhere = world.sign_in(
        world.backend,
        read=False,
        policies=[world.LIST],
        network=f"urn:tinycloud:encryption:{world.owner}:other",
    )
    assert (
        world.reason_of(
            world.request(world.backend, [grant, elsewhere], evidence=world.evidence(world.backend))
        )
        == "no_policy"
    )


def test_a_list_dragged_into_the_closure_does_not_count(world: Any) -> None:
    """A delegation that grants nothing may cite anything; what it cites does not become the owner's
    word."""
    for_another_party = world.sign_in(world.other, read=False, policies=[world.LIST])
    grant = world.sign_in(world.backend, read=False)
    empty = world.grant(world.backend, world.backend.did, parents=[for_another_party], att={})
    evidence = world.evidence(world.backend)
    assert (
        world.reason_of(world.request(world.backend, [grant, empty], evidence=evidence))
        == "no_policy"
    )
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"


def test_a_list_dragged_in_by_a_parent_does_not_count(world: Any) -> None:
    """A parent that was granted to somebody else is no part of the chain, though the closure holds
    it."""
    for_another_party = world.sign_in(world.other, read=False, policies=[world.LIST])
    empty = world.grant(world.other, world.session.did, parents=[for_another_party], att={})
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in, empty])
    assert len(grant.closure) == 4
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == "no_policy"
    )


def test_two_proofs_with_one_ancestor(world: Any) -> None:
    """An ancestor that several proofs share is looked at once, and its list counts for all."""
    sign_in = world.sign_in(world.session, policies=[world.LIST])
    proofs = [world.grant(world.session, world.backend.did, parents=[sign_in]) for _ in range(2)]
    permit = admit(world.request(world.backend, proofs, evidence=world.evidence(world.backend)))
    assert len(permit.policy_sha256) == 1
    world.revoke(sign_in)
    other = world.sign_in(world.session)
    plain = [world.grant(world.session, world.backend.did, parents=[other]) for _ in range(2)]
    assert (
        world.reason_of(world.request(world.backend, plain, evidence=world.evidence(world.backend)))
        == "no_policy"
    )


def test_a_parent_that_is_not_among_the_links_is_not_guessed(world: Any) -> None:
    """Where a cited parent is not given, nothing speaks for the owner through it."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    unknown = altered(grant, parents=(bytes(32),))
    links = {**request.owner.facts.links, grant.delegation.content_key: unknown}
    assert world.reason_of(world.with_facts(request, links=links)) == "no_policy"


def test_a_revoked_list_of_the_owner_does_not_count(world: Any) -> None:
    """A key that owns its network and cites a revoked grant finds no list in it."""
    world.record = altered(world.record, mode="everyone")
    request = world.own_network()
    grant = world.grant(world.backend, world.backend.did, policies=[world.LIST])
    asking = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert request.owner.facts.cited == ()
    assert world.reason_of(asking) == ""
    assert admit(asking).live == (grant.delegation.content_key,)
    world.revoke(grant)
    assert world.reason_of(asking) == "no_policy"


def test_the_nodes_list_counts_only_where_it_suffices(world: Any) -> None:
    """An operator's list stands in for the owner's only by the release record."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    evidence = world.evidence(world.backend)
    world.record = altered(world.record, node_policy=world.LIST)
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == "no_policy"
    world.record = altered(world.record, node_policy_suffices=True)
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""
    other_code = world.evidence(world.backend, rtmr3=bytes(48))
    assert (
        world.reason_of(world.request(world.backend, [grant], evidence=other_code)) == "measurement"
    )


# --- evidence -------------------------------------------------------------------------------------


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
    """Evidence of another holder, key, root, code or platform state is refused by its coarse
    cause."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend, **changes))
        )
        == reason
    )


def test_no_evidence(world: Any) -> None:
    """A delegate of a network with a list has to attest."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert world.reason_of(world.request(world.backend, [grant])) == "not_attested"


def test_evidence_whose_row_is_not_given(world: Any) -> None:
    """Evidence that the commit could not require unchanged counts as none."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert world.reason_of(request) == ""
    assert world.reason_of(altered(request, evidence_row=None)) == "not_attested"


def test_a_signed_receiver_needs_every_policys_consent(world: Any) -> None:
    """Any receiver key passes only where each policy on the way says so."""
    signed = altered(world.LIST, receiver="signed")
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[signed])
    evidence = world.evidence(world.backend, receiver_mode="signed", receiver_public_key=bytes(32))
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""
    world.demand(NARROW)
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == "receiver"
    world.demand(altered(NARROW, receiver="signed"))
    assert world.reason_of(world.request(world.backend, [grant], evidence=evidence)) == ""


# --- paths ----------------------------------------------------------------------------------------


def test_a_policy_with_paths_opens_only_keys_that_stand_there(world: Any) -> None:
    """The key has to be in an envelope at one of the paths, of every policy that lists some; in
    person too."""
    one, two = (
        f"tinycloud:{world.owner[4:]}:secrets/kv/vault/secrets/{name}" for name in ("ONE", "TWO")
    )
    world.demand(Policy(paths=(one, two)))
    world.record = dataclasses.replace(world.record, node_policy=Policy(paths=(two,)))
    sign_in = world.sign_in(world.session)
    assert world.reason_of(world.request(world.session, [sign_in])) == "path"
    assert (
        world.reason_of(world.request(world.session, [sign_in], key_paths={one: world.row("one")}))
        == "path"
    )
    permit = admit(world.request(world.session, [sign_in], key_paths={two: world.row("two")}))
    assert world.row("two") in permit.checks


def test_paths_are_bounded(world: Any) -> None:
    """The rows that one release makes the node read are bounded."""
    policy = Policy(paths=tuple(f"tinycloud:{world.owner[4:]}:s/kv/{n}" for n in range(32)))
    distinct = [
        altered(policy, paths=tuple(f"{path}/{n}" for path in policy.paths)) for n in range(8)
    ]
    assert len(paths_in_force(distinct)) == MAX_PATHS
    with pytest.raises(ReleaseRefused):
        paths_in_force([*distinct, policy])


# --- the chain ------------------------------------------------------------------------------------


def test_a_revoked_or_unknown_mark_refuses(world: Any) -> None:
    """Marks are checked again here: authority does not outlive them."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    for marks in ({}, request.owner.facts.marks | {sign_in.delegation.content_key: Mark.REVOKED}):
        assert world.reason_of(world.with_facts(request, marks=marks)) == "chain"


def test_an_incomplete_closure_refuses(world: Any) -> None:
    """A policy that was not read cannot be skipped."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    links = {grant.delegation.content_key: grant}
    assert world.reason_of(world.with_facts(request, links=links)) == "chain"
    assert world.reason_of(world.with_facts(request, cited=())) == "chain"


def test_a_cited_proof_that_is_not_given_refuses(world: Any) -> None:
    """Of what was not read nobody is in person, no session is looked for, and nothing is
    released."""
    sign_ins = [world.sign_in(world.session), world.sign_in(world.session)]
    request = world.request(world.session, sign_ins)
    without = world.with_facts(request, links={sign_ins[0].delegation.content_key: sign_ins[0]})
    assert request.owner.in_person is not None
    assert without.owner.in_person is None
    assert session_holders(without.owner.facts) == frozenset()
    assert world.reason_of(without) == "chain"


def test_a_missing_ancestor_refuses(world: Any) -> None:
    """A closure that the store says is incomplete supports nothing."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    link = altered(sign_in, missing_ancestor=True)
    assert (
        world.reason_of(world.with_facts(request, links={sign_in.delegation.content_key: link}))
        == "chain"
    )


def test_an_expired_chain_refuses(world: Any) -> None:
    """The closure's window is checked again here."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert world.reason_of(world.with_facts(request, now=world.now + world.DAY_S)) == "chain"


def test_the_authority_of_another_request(world: Any) -> None:
    """Whether an owner is there in person for one request says nothing on another."""
    request = world.request(world.session, [world.sign_in(world.session)])
    for changed in ({"owner": world.other.did}, {"invoker": world.other.did}):
        with pytest.raises(RuntimeError):
            admit(world.with_facts(request, **changed))


def test_no_proof_refuses_a_client_that_is_not_the_owner(world: Any) -> None:
    """Without dependent capabilities only the owner itself can stand here."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert world.reason_of(altered(request, authority=Authority((), ()))) == "chain"


def test_a_policy_that_cannot_be_read_refuses(world: Any) -> None:
    """A fact of the family that is not understood is never skipped."""
    sign_in = world.sign_in(world.session)
    delegation = altered(sign_in.delegation, facts=({"sealspace.attestation/v1": {"unknown": 1}},))
    link = altered(sign_in, delegation=delegation)
    request = world.request(world.session, [sign_in])
    assert (
        world.reason_of(world.with_facts(request, links={delegation.content_key: link})) == "policy"
    )


# --- the permit --------------------------------------------------------------------------------


def test_an_admission_is_made_by_the_gate_only(world: Any) -> None:
    """Neither construction nor alteration makes a permit."""
    admission_request = world.request(world.session, [world.sign_in(world.session)])
    permit = admit(admission_request)
    values = {field.name: getattr(permit, field.name) for field in dataclasses.fields(permit)}
    with pytest.raises(RuntimeError):
        ReleasePermit(**values, seal=object())
    with pytest.raises(TypeError):
        ReleasePermit(**values)  # made without the gate
    with pytest.raises((TypeError, ValueError)):
        altered(permit, ground="owner")
    authority = admission_request.owner
    with pytest.raises(RuntimeError):
        OwnerAuthority(authority.facts, (), seal=object())
    with pytest.raises((TypeError, ValueError)):
        altered(authority, in_person=())
    with pytest.raises(dataclasses.FrozenInstanceError):
        permit.ground = "owner"  # type: ignore[misc]  # frozen
    assert copy.copy(permit) == permit
