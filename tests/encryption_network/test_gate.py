"""The release gate, case by case."""

import copy
import dataclasses
from functools import partial
from typing import Any

import pytest
from tests_support import altered

from capabilities.chain import Authority, Marker
from capabilities.cids import cid_text
from capabilities.sign_ins import OwnerAuthority, session_holders
from capabilities.support import Comparisons, SupportingPaths
from encryption_network.gate import ReleasePermit, admit
from encryption_network.grounds import (
    MAX_PATHS,
    PolicyCache,
    _decrypt_grants,
    needs_evidence,
    path_lists_in_force,
)
from encryption_network.network_errors import ReleaseRefused
from encryption_network.policy import Policy

NARROW = Policy(advisories=("INTEL-SA-00001",))
"""A policy that accepts the sample evidence and names no code."""


# --- the mode -------------------------------------------------------------------------------------


def test_in_mode_everyone_nobody_is_in_person(world: Any) -> None:
    """In mode everyone, the owner and its session are refused without evidence."""
    world.record = altered(world.record, mode="everyone")
    sign_in = world.sign_in(world.session)
    assert world.reason_of(world.request(world.session, [sign_in])) == "mode"
    assert world.reason_of(world.own_network()) == "mode"


def test_in_mode_everyone_the_owner_passes_with_evidence(world: Any) -> None:
    """In mode everyone, approved code is admitted, also for the owner."""
    world.record = altered(world.record, mode="everyone")
    world.demand(world.LIST)
    sign_in = world.sign_in(world.session)
    permit = admit(world.request(world.session, [sign_in], evidence=world.evidence(world.session)))
    assert permit.ground == "attested"
    assert world.row("evidence") in permit.checks


def test_a_policy_can_take_the_owners_way_away(world: Any) -> None:
    """An owner can require evidence from itself by a policy on its network."""
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
    """In mode off, a delegate is admitted if no policy is in force."""
    world.record = altered(world.record, mode="off", node_policy=world.LIST)
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    permit = admit(world.request(world.backend, [grant]))
    assert permit.ground == "off"
    assert permit.mode == "off"


def test_mode_off_uses_no_evidence(world: Any) -> None:
    """If nothing is required, the caller need not read evidence."""
    request = world.request(world.backend, [world.sign_in(world.backend, read=False)])
    off = altered(request.release_record, mode="off")
    assert not needs_evidence(request.owner, off, (), None)
    assert needs_evidence(request.owner, off, (world.LIST,), None)
    assert needs_evidence(request.owner, request.release_record, (), None)


def test_the_owner_in_person_needs_evidence_where_the_mode_says_so(world: Any) -> None:
    """The caller reads evidence of the owner in person in mode everyone, or under such a policy."""
    request = world.request(world.session, [world.sign_in(world.session)])
    assert request.owner.in_person is not None
    everyone = altered(request.release_record, mode="everyone")
    assert not needs_evidence(request.owner, request.release_record, (), None)
    assert needs_evidence(request.owner, everyone, (), None)
    from_everyone = altered(world.LIST, in_person=False)
    assert needs_evidence(request.owner, request.release_record, (from_everyone,), None)


def test_mode_off_keeps_what_an_owner_stated(world: Any) -> None:
    """In mode off, the owner's policy still applies."""
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
    """An allow-list in the network's policy counts as the owner's."""
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
    """An allow-list in the wallet's grant to the backend counts as the owner's."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend))
        )
        == ""
    )


def test_the_list_of_the_owners_session_key_counts(world: Any) -> None:
    """A list by the owner's session key counts; the permit then depends on the session."""
    session = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[session], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert session.delegation.content_key in admit(request).live


def test_the_session_keys_list_falls_with_its_session(world: Any) -> None:
    """A list by a session key counts only while a session of the key is in force."""
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
    """A list by a key that cites another parent than the owner's sign-ins does not count."""
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
    """The policy of every delegation in the closure applies."""
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
    """A list in a grant for another network does not count."""
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
    """An owner's list that an unrelated delegation cites does not count."""
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
    """A list in a parent that was granted to another principal does not count."""
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


def test_a_list_of_a_grant_to_somebody_else_does_not_count(world: Any) -> None:
    """A list counts only if its grant's receiver signed the delegation below it."""
    sign_in = world.sign_in(world.session, policies=[world.LIST])
    grant = world.grant(world.session, world.backend.did, parents=[sign_in])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert world.reason_of(request) == ""
    to_other = altered(sign_in.delegation, delegate=world.other.did)
    links = {**request.owner.facts.links}
    links[sign_in.delegation.content_key] = altered(sign_in, delegation=to_other)
    assert world.reason_of(world.with_facts(request, links=links)) == "no_policy"


def test_a_list_behind_what_grants_nothing(world: Any) -> None:
    """A proof without decrypt, or one that was looked at before, does not end the search."""
    space = f"tinycloud:{world.session.did[4:]}:default"
    read = {f"{space}/kv/a": {"tinycloud.kv/get": [{}]}}
    evidence = world.evidence(world.backend)
    plain = world.sign_in(world.session)
    listing = world.sign_in(world.session, policies=[world.LIST])
    reader = world.grant(world.session, world.backend.did, att=read)
    listed = world.grant(world.session, world.backend.did, parents=[listing])
    assert world.reason_of(world.request(world.backend, [reader, listed], evidence=evidence)) == ""
    one = world.grant(world.session, world.backend.did, parents=[plain])
    two = world.grant(world.session, world.backend.did, parents=[plain, listing])
    request = world.request(world.backend, [one, two], evidence=evidence)
    assert world.reason_of(request) == ""
    found = list(_decrypt_grants(request.circumstances))
    assert [link.delegation.content_key for link in found] == [
        link.delegation.content_key for link in (one, two, plain, listing)
    ]


def test_paths_that_take_too_long_to_find(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release is refused if it is unknown which of its proofs gave the right (RC7)."""
    sign_in = world.sign_in(world.session, policies=[world.LIST])
    proofs = [world.grant(world.session, world.backend.did, parents=[sign_in]) for _ in range(2)]
    request = world.request(world.backend, proofs, evidence=world.evidence(world.backend))
    few = partial(SupportingPaths, comparisons=Comparisons(1))
    monkeypatch.setattr("encryption_network.gate.SupportingPaths", few)
    with pytest.raises(ReleaseRefused) as refused:
        admit(request)
    assert (refused.value.reason, refused.value.detail) == (
        "chain",
        "the chain is too large to find the paths of the right",
    )


def test_two_proofs_with_one_ancestor(world: Any) -> None:
    """An ancestor that several proofs share is visited once, and its list counts for all."""
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
    """A delegation whose parent is missing does not count as the owner's."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    unknown = altered(grant, parents=(bytes(32),))
    links = {**request.owner.facts.links, grant.delegation.content_key: unknown}
    assert world.reason_of(world.with_facts(request, links=links)) == "no_policy"


def test_a_revoked_list_of_the_owner_does_not_count(world: Any) -> None:
    """A list in a revoked grant does not count, even if the owner cites it."""
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
    """The node's list replaces the owner's only if the release record says so."""
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
    """Evidence for another invoker, key, root, code or platform state is refused."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert (
        world.reason_of(
            world.request(world.backend, [grant], evidence=world.evidence(world.backend, **changes))
        )
        == reason
    )


def test_no_evidence(world: Any) -> None:
    """A delegate without evidence is refused on a network with a list."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    assert world.reason_of(world.request(world.backend, [grant])) == "not_attested"


def test_evidence_whose_row_is_not_given(world: Any) -> None:
    """Evidence without its row is refused, because the commit could not check it."""
    grant = world.sign_in(world.backend, read=False, policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    assert world.reason_of(request) == ""
    assert world.reason_of(altered(request, evidence_row=None)) == "not_attested"


def test_a_signed_receiver_needs_every_policys_consent(world: Any) -> None:
    """A receiver key of any mode is accepted only if every policy that applies allows it."""
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
    """The key has to be at a path of every policy that lists paths, also in person."""
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


def test_a_refusal_says_whose_paths_it_was(world: Any) -> None:
    """The operator's record tells the paths of a machine token from those of a policy."""
    token = world.machine(world.backend)
    request = world.request(world.backend, [token], key_paths={})
    with pytest.raises(ReleaseRefused) as caught:
        admit(request)
    assert caught.value.detail == "machine token deploy"


def test_the_cache_is_as_large_as_its_bound(world: Any) -> None:
    """A cache holds policies of exactly as many bytes of tokens as it may, and no more."""
    first, second = (
        world.sign_in(world.session, policies=[Policy(max_age_s=age_s)]).delegation
        for age_s in (1, 2)
    )
    size_bytes = len(first.header)
    assert len(second.header) == size_bytes
    for max_header_bytes, kept in ((size_bytes - 1, 0), (size_bytes, 1), (2 * size_bytes, 2)):
        cache = PolicyCache(max_header_bytes=max_header_bytes)
        for delegation in (first, second):
            cache.of(delegation)
        assert len(cache) == kept
    cache = PolicyCache(max_header_bytes=size_bytes)
    cache.of(first)
    newest = cache.of(second)
    assert cache.of(second) is newest


def test_paths_are_bounded(world: Any) -> None:
    """The number of paths that one release reads is limited."""
    policy = Policy(paths=tuple(f"tinycloud:{world.owner[4:]}:s/kv/{n}" for n in range(32)))
    distinct = [
        altered(policy, paths=tuple(f"{path}/{n}" for path in policy.paths)) for n in range(8)
    ]
    facts = world.request(world.session, [world.sign_in(world.session)]).owner.facts
    path_lists = path_lists_in_force(distinct, None, facts)
    assert sum(len(path_list.paths) for path_list in path_lists) == MAX_PATHS
    with pytest.raises(ReleaseRefused):
        path_lists_in_force([*distinct, policy], None, facts)


# --- the chain ------------------------------------------------------------------------------------


def test_a_revoked_or_unknown_mark_refuses(world: Any) -> None:
    """The gate checks the marks again, so a revocation after the chain's judgement counts."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    for marks in ({}, request.owner.facts.marks | {sign_in.delegation.content_key: Marker.REVOKED}):
        assert world.reason_of(world.with_facts(request, marks=marks)) == "chain"


def test_an_incomplete_closure_refuses(world: Any) -> None:
    """A closure with a missing member is refused, because its policy could be skipped."""
    sign_in = world.sign_in(world.session)
    grant = world.grant(world.session, world.backend.did, parents=[sign_in], policies=[world.LIST])
    request = world.request(world.backend, [grant], evidence=world.evidence(world.backend))
    links = {grant.delegation.content_key: grant}
    assert world.reason_of(world.with_facts(request, links=links)) == "chain"
    assert world.reason_of(world.with_facts(request, cited=())) == "chain"


def test_a_cited_proof_that_is_not_given_refuses(world: Any) -> None:
    """A missing proof means not in person, no look-up of sessions, and no release."""
    sign_ins = [world.sign_in(world.session), world.sign_in(world.session)]
    request = world.request(world.session, sign_ins)
    without = world.with_facts(request, links={sign_ins[0].delegation.content_key: sign_ins[0]})
    assert request.owner.in_person is not None
    assert without.owner.in_person is None
    assert session_holders(without.owner.facts) == frozenset()
    assert world.reason_of(without) == "chain"


def test_a_proof_that_is_left_out_refuses(world: Any) -> None:
    """The policies of every cited proof count, so the gate is given all of them."""
    sign_in = world.sign_in(world.session)
    listed, strict = (
        world.grant(world.session, world.backend.did, parents=[sign_in], policies=[policy])
        for policy in (world.LIST, Policy(max_age_s=0))
    )
    evidence = world.evidence(world.backend, attested_at=world.now - 1)
    assert world.reason_of(world.request(world.backend, [listed], evidence=evidence)) == ""
    request = world.request(world.backend, [listed, strict], evidence=evidence)
    assert world.reason_of(request) == "age"
    without = world.with_facts(request, cited=(listed.delegation.content_key,))
    assert world.reason_of(without) == "chain"


def test_a_missing_ancestor_refuses(world: Any) -> None:
    """A closure that is stored as incomplete is refused."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    link = altered(sign_in, missing_ancestor=True)
    assert (
        world.reason_of(world.with_facts(request, links={sign_in.delegation.content_key: link}))
        == "chain"
    )


def test_an_expired_chain_refuses(world: Any) -> None:
    """The gate checks the closure's window again."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert world.reason_of(world.with_facts(request, now=world.now + world.DAY_S)) == "chain"


def test_the_authority_of_another_request(world: Any) -> None:
    """The owner's authority from another request is rejected."""
    request = world.request(world.session, [world.sign_in(world.session)])
    for changed in ({"owner": world.other.did}, {"invoker": world.other.did}):
        with pytest.raises(RuntimeError):
            admit(world.with_facts(request, **changed))


def test_no_proof_refuses_a_client_that_is_not_the_owner(world: Any) -> None:
    """A request without proofs is refused unless the invoker is the owner."""
    sign_in = world.sign_in(world.session)
    request = world.request(world.session, [sign_in])
    assert world.reason_of(altered(request, authority=Authority((), ()))) == "chain"


def test_a_policy_that_cannot_be_read_refuses(world: Any) -> None:
    """An unknown fact of the policy family refuses the release."""
    sign_in = world.sign_in(world.session)
    delegation = altered(sign_in.delegation, facts=({"sealspace.attestation/v1": {"unknown": 1}},))
    link = altered(sign_in, delegation=delegation)
    request = world.request(world.session, [sign_in])
    assert (
        world.reason_of(world.with_facts(request, links={delegation.content_key: link})) == "policy"
    )


# --- the permit --------------------------------------------------------------------------------


def test_an_admission_is_made_by_the_gate_only(world: Any) -> None:
    """A permit can be neither constructed nor altered outside the gate."""
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


def test_the_default_size_of_the_policy_cache(world: Any) -> None:
    """Policies of tokens with 8 MiB in all are cached, and none of a longer token."""
    delegation = world.sign_in(world.session, policies=[world.LIST]).delegation
    for size_bytes, kept in ((8_388_608, 1), (8_388_609, 0)):
        cache = PolicyCache()
        assert cache.of(altered(delegation, header="x" * size_bytes)) == (world.LIST,)
        assert len(cache) == kept


def test_RC7_a_receipt_lists_what_supports_the_release(world: Any) -> None:
    """The chain of a permit has all supporting paths, and nothing else that is cited."""
    session, again = world.sign_in(world.session), world.sign_in(world.session)
    other = world.sign_in(world.session, decrypt=False)
    chain = admit(world.request(world.session, [other, session, again])).chain
    assert chain == tuple(cid_text(one.delegation.cid) for one in (session, again))


@pytest.mark.parametrize(("mrtd", "is_released"), [(None, True), (b"\x09" * 48, False)])
def test_RL2_a_policy_of_a_proof_that_supports_nothing_applies(
    world: Any, mrtd: bytes | None, is_released: bool
) -> None:
    """Restrictions look at everything that is cited: such a policy narrows the release."""
    code = world.CODE if mrtd is None else altered(world.CODE, mrtd=mrtd)
    world.demand(world.LIST)
    session = world.sign_in(world.session)
    other = world.sign_in(world.session, decrypt=False, policies=[Policy(measurements=(code,))])
    request = world.request(world.session, [session, other], evidence=world.evidence(world.session))
    assert (world.reason_of(request) == "") is is_released
