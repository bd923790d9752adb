"""Properties of the gate for any grants, policies and evidence."""

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import altered

from capabilities.chain import Marker
from capabilities.sign_ins import session_holders
from encryption_network.gate import ReleasePermit, admit
from encryption_network.grounds import PolicyCache, ground_of, needs_evidence, policies_in_force
from encryption_network.holders import holder_of
from encryption_network.network_errors import ReleaseRefused
from encryption_network.networks import decode_network, encode_network
from encryption_network.policy import (
    Measurements,
    Policy,
    decode_evidence,
    encode_evidence,
    encode_policy,
    policies_of,
    policy_digest,
)
from encryption_network.release_record import decode_release_record, encode_release_record

PATH = "tinycloud:key:zOwner:secrets/kv/vault/secrets/ONE"
OTHER_CODE = Measurements(
    mrtd=b"\x0f" * 48, rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48)
)
NARROWING = (
    Policy(),
    Policy(in_person=False),
    Policy(min_evaluation_number=20),
    Policy(max_age_s=5),
    Policy(receiver="signed"),
    Policy(platform_ids=(bytes(32),)),
    Policy(compose_hashes=(b"\x0d" * 32,)),
    Policy(compose_hashes=(bytes(32),)),
    Policy(key_providers=("kms:aa",)),
    Policy(key_providers=("kms",)),
    Policy(key_providers=("tpm", "kms:bb")),
    Policy(paths=(PATH,)),
    Policy(paths=(PATH + "/b",)),
)
"""Policies that name no code: they can only narrow."""
EVIDENCE = (
    None,
    {},
    {"evaluation_number": 21},
    {"mrtd": bytes(48)},
    {"receiver_mode": "signed"},
    {"receiver_public_key": bytes(32)},
    {"tcb_status": "SWHardeningNeeded"},
    {"root_ca_sha256": bytes(32)},
    {"key_provider": "kms:bb"},
    {"key_provider": None, "compose_hash": None, "app_id": None},
)


@dataclass(frozen=True)
class Scene:
    """An arrangement of grants, policies and evidence, as indexes into the tables above, with -1
    for none."""

    mode: str
    read: bool
    days: int
    network: int
    sign_in: int
    grants: tuple[int, ...]
    evidence: int
    node: int
    suffices: bool
    stands: bool


NONE, LIST, WRONG_LIST = -1, -2, -3
POLICIES = st.sampled_from([NONE, NONE, LIST, LIST, WRONG_LIST, *range(len(NARROWING))])
SCENES = st.builds(
    Scene,
    mode=st.sampled_from(["delegates", "delegates", "everyone", "off"]),
    read=st.booleans(),
    days=st.sampled_from([1, 31]),
    network=POLICIES,
    sign_in=POLICIES,
    grants=st.lists(POLICIES, max_size=3).map(tuple),
    evidence=st.integers(0, len(EVIDENCE) - 1),
    node=POLICIES,
    suffices=st.booleans(),
    stands=st.booleans(),
)
RUNS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def policies(world: Any, index: int) -> list[Policy]:
    """Return the policies for an index."""
    if index == NONE:
        return []
    if index == LIST:
        return [world.LIST]
    if index == WRONG_LIST:
        return [Policy(measurements=(OTHER_CODE,))]
    return [NARROWING[index]]


def build(
    new_world: Any,
    scene: Scene,
    *,
    add: tuple[int, Policy] | None = None,
    link: Policy | None = None,
    proof: Policy | None = None,
) -> Any:
    """Build the request of a scene: a sign-in, grants from holder to holder, and the last one's
    call.

    Args:
        add: a policy to add to the delegation at this place of the chain.
        link: a further grant below the chain, with this policy.
        proof: a further proof beside the chain, with this policy.
    """
    world = new_world()
    node = policies(world, scene.node)
    world.record = replace(
        world.record,
        mode=scene.mode,
        node_policy=node[0] if node else None,
        node_policy_suffices=scene.suffices,
    )
    stated = policies(world, scene.network)
    world.demand(stated[0] if stated else None)
    holders = [world.session, world.backend, world.other, world.session]
    chain_policies = [policies(world, index) for index in (scene.sign_in, *scene.grants)]
    if add is not None:
        chain_policies[add[0] % len(chain_policies)].append(add[1])
    if link is not None:
        chain_policies.append([link])
        holders.append(world.backend)
    last = world.sign_in(
        holders[0], read=scene.read, policies=chain_policies[0], lifetime_s=scene.days * world.DAY_S
    )
    lifetime = 10_000
    for place, own in enumerate(chain_policies[1:]):
        lifetime -= 100
        last = world.grant(
            holders[place],
            holders[place + 1].did,
            parents=[last],
            policies=own,
            lifetime_s=lifetime,
        )
    asking = holders[len(chain_policies) - 1]
    proofs = [last]
    if proof is not None:
        proofs.append(world.grant(asking, asking.did, policies=[proof], att={}))
    changes = EVIDENCE[scene.evidence]
    evidence = None if changes is None else world.evidence(asking, **changes)
    return world.request(
        asking,
        proofs,
        evidence=evidence,
        key_paths={PATH: world.row("path")} if scene.stands else {},
    )


def decide(request: Any) -> ReleasePermit | None:
    """Return the gate's answer."""
    try:
        return admit(request)
    except ReleaseRefused:
        return None


def outcome(request: Any) -> tuple[Any, ...]:
    """Return the refusal with its detail, or all that a permit contains."""
    try:
        permit = admit(request)
    except ReleaseRefused as refusal:
        return refusal.reason, refusal.detail
    return tuple(getattr(permit, field.name) for field in fields(permit) if field.name != "decrypt")


def read_anew(request: Any, *, remembering: bool) -> Any:
    """Return the same request from encoded rows, with or without the caches of their decoders."""
    readers: list[Any] = [decode_network, decode_release_record, decode_evidence]
    network, record, evidence = (
        readers if remembering else [reader.__self__.compute for reader in readers]
    )
    decrypt = altered(request.decrypt, network=network(encode_network(request.decrypt.network)))
    return altered(
        request,
        decrypt=decrypt,
        release_record=record(encode_release_record(request.release_record)),
        evidence=None if request.evidence is None else evidence(encode_evidence(request.evidence)),
    )


@RUNS
@given(scene=SCENES, then=SCENES)
def test_what_is_remembered_decides_nothing(
    new_world: Any, scene: Scene, then: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached rows and policies, also from other requests, do not change the gate's answer.

    The answer without caches comes first: every row and every policy is parsed each time.
    """
    request = build(new_world, scene)
    with monkeypatch.context() as forgetful:
        forgetful.setattr(
            "encryption_network.grounds._policy_cache", PolicyCache(max_header_bytes=0)
        )
        for module in ("gate", "grounds"):
            parsing = policy_digest.__wrapped__  # type: ignore[attr-defined]  # a memo keeps what it wraps
            forgetful.setattr(f"encryption_network.{module}.policy_digest", parsing)
        expected = outcome(read_anew(request, remembering=False))
    assert outcome(read_anew(request, remembering=True)) == expected
    outcome(read_anew(build(new_world, then), remembering=True))
    assert outcome(read_anew(request, remembering=True)) == expected
    assert outcome(read_anew(build(new_world, scene), remembering=True)) == expected


@RUNS
@given(scene=SCENES, revoked=st.integers(-1, 3), bare=st.booleans())
def test_sessions_that_are_not_asked_for_decide_nothing(
    new_world: Any, scene: Scene, revoked: int, bare: bool
) -> None:
    """Sessions beyond those of `session_holders` do not change the gate's answer."""
    request = build(new_world, replace(scene, read=scene.read and not bare))
    world = new_world()
    further = [
        world.sign_in(key, lifetime_s=5_000) for key in (world.session, world.backend, world.other)
    ]
    marks = {**request.owner.facts.marks, **world.marks}
    if 0 <= revoked < len(request.owner.facts.links):
        marks[list(request.owner.facts.links)[revoked]] = Marker.REVOKED
    asked = session_holders(altered(request.owner.facts, marks=marks))
    some = tuple(link for link in further if link.delegation.delegate in asked)
    with_all = world.with_facts(request, marks=marks, sessions=tuple(further))
    assert outcome(world.with_facts(with_all, sessions=some)) == outcome(with_all)


@RUNS
@given(scene=SCENES)
def test_a_grant_has_the_ground_of_the_request_that_uses_it(new_world: Any, scene: Scene) -> None:
    """What the gate admits has the same ground before there is evidence.

    Only the owner in person is judged by evidence instead, where mode or policy require it.
    """
    request = build(new_world, scene)
    permit = decide(request)
    if permit is None:
        return
    without_evidence = altered(request.circumstances, has_evidence=False)
    if permit.ground == "attested" and request.owner.in_person is not None:
        with pytest.raises(ReleaseRefused) as refused:
            ground_of(without_evidence)
        assert refused.value.reason in ("mode", "policy")
        return
    standing = ground_of(without_evidence)
    assert standing.ground == permit.ground
    assert standing.holder == permit.holder
    assert standing.policies == permit.policies


@RUNS
@given(scene=SCENES)
def test_evidence_that_is_not_needed_decides_nothing(new_world: Any, scene: Scene) -> None:
    """Evidence that the gate does not need does not change its answer."""
    request = build(new_world, scene)
    links = request.owner.facts.links.values()
    in_force = policies_in_force(request.decrypt.network.policy, request.release_record, links)
    machine = holder_of(request.owner, request.exchange_key)
    if not needs_evidence(request.owner, request.release_record, in_force, machine):
        assert outcome(altered(request, evidence=None, evidence_row=None)) == outcome(request)


def test_stated_policies_are_read_once_and_bounded(new_world: Any) -> None:
    """A delegation's policies are parsed once, and again after they were evicted."""
    world = new_world()
    delegations = [
        world.sign_in(world.session, policies=[Policy(max_age_s=n)]).delegation for n in range(5)
    ]
    stated = PolicyCache(max_header_bytes=2 * len(delegations[0].header) + 64)
    for delegation in (*delegations, *delegations):
        assert stated.of(delegation) == policies_of(delegation.facts)
        assert len(stated) <= 2
    assert stated.of(delegations[-1]) is stated.of(delegations[-1])
    plain = world.sign_in(world.session).delegation
    assert stated.of(plain) == ()
    assert len(stated) == 2


@given(policy=st.sampled_from([*NARROWING, Policy(measurements=(OTHER_CODE,))]))
def test_a_policy_is_named_by_its_text(policy: Policy) -> None:
    """The digest of a policy is that of its canonical JSON, cached or not."""
    expected = hashlib.sha256(encode_policy(policy)).hexdigest()
    assert policy_digest(policy) == expected
    assert policy_digest(replace(policy)) == expected


@RUNS
@given(scene=SCENES, policy=st.sampled_from(NARROWING), place=st.integers(0, 3))
def test_a_further_policy_never_releases(
    new_world: Any, scene: Scene, policy: Policy, place: int
) -> None:
    """A further policy anywhere in the chain never turns a refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, add=(place, policy))) is None


@RUNS
@given(scene=SCENES, place=st.integers(2, 3))
def test_a_delegates_list_never_releases(new_world: Any, scene: Scene, place: int) -> None:
    """A delegate's allow-list never turns a refusal into a release."""
    if len(scene.grants) >= place and decide(build(new_world, scene)) is None:
        list_of_a_delegate = new_world.LIST
        assert decide(build(new_world, scene, add=(place, list_of_a_delegate))) is None


@RUNS
@given(scene=SCENES, policy=st.sampled_from(NARROWING))
def test_a_further_link_never_releases(new_world: Any, scene: Scene, policy: Policy) -> None:
    """A further delegation never turns a refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, link=policy)) is None


@RUNS
@given(scene=SCENES, policy=st.sampled_from([*NARROWING, Policy(measurements=(OTHER_CODE,))]))
def test_a_further_proof_never_releases(new_world: Any, scene: Scene, policy: Policy) -> None:
    """A further proof never turns a refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, proof=policy)) is None


@RUNS
@given(scene=SCENES)
def test_a_stricter_mode_never_releases(new_world: Any, scene: Scene) -> None:
    """A stricter mode never turns a refusal into a release."""
    answers = [
        decide(build(new_world, replace(scene, mode=mode)))
        for mode in ("off", "delegates", "everyone")
    ]
    released = [answer is not None for answer in answers]
    assert released == sorted(released, reverse=True)


@RUNS
@given(scene=SCENES)
def test_nobody_is_in_person_in_mode_everyone(new_world: Any, scene: Scene) -> None:
    """In mode everyone each release needs evidence that satisfies a list."""
    permit = decide(build(new_world, replace(scene, mode="everyone")))
    assert permit is None or (permit.ground == "attested" and permit.evidence is not None)


@RUNS
@given(scene=SCENES)
def test_a_release_rests_on_marks_and_rows(new_world: Any, scene: Scene) -> None:
    """Every permit lists the chain's marks and all rows that it depends on."""
    request = build(new_world, scene)
    permit = decide(request)
    if permit is not None:
        assert set(request.owner.facts.links) <= set(permit.live)
        rows = [request.network_row, request.record_row, request.withdrawals_row]
        rows += [request.evidence_row] if permit.ground == "attested" else []
        rows += (
            list(request.key_paths.values())
            if any(policy.paths for policy in permit.policies)
            else []
        )
        if request.key_owner is not None and request.owner.in_person is None:
            rows.append(request.key_owner.row)
        assert list(permit.checks) == rows


NAMES = st.sets(st.sampled_from(["ONE", "TWO", "THREE"]))


@RUNS
@given(
    scene=SCENES,
    named=NAMES.filter(bool),
    stored=NAMES,
    confined=st.none() | NAMES.filter(bool),
    owning=st.none() | st.sampled_from(["ONE", "TWO", "THREE"]),
    is_at_two_paths=st.sampled_from([False, False, True]),
    beside=st.sampled_from(["nothing", "nothing", "sign-in", "token"]),
    is_revoked=st.booleans(),
)
def test_MT4_a_machine_token_opens_its_paths_and_nothing_else(
    new_world: Any,
    scene: Scene,
    named: set[str],
    stored: set[str],
    confined: set[str] | None,
    owning: str | None,
    is_at_two_paths: bool,
    beside: str,
    is_revoked: bool,
) -> None:
    """A machine token releases exactly the keys that are stored at its paths and at those of every
    policy, and that belong to a path of each of these lists alone, unless evidence is demanded of
    everyone, and never with another proof (MT4, RL22)."""
    world = new_world()
    demanded = policies(world, scene.network)[:1]
    if confined is not None:
        own = tuple(world.path(name) for name in confined)
        demanded = [replace(demanded[0] if demanded else Policy(), paths=own)]
    world.demand(demanded[0] if demanded else None)
    node = policies(world, scene.node)[:1]
    world.record = replace(world.record, mode=scene.mode, node_policy=node[0] if node else None)
    proofs = [world.machine(world.backend, *named)]
    if beside != "nothing":
        proofs.append(
            world.sign_in(world.backend)
            if beside == "sign-in"
            else world.machine(world.backend, *stored)
        )
    changes = EVIDENCE[scene.evidence]
    owner_of_key = None
    if owning is not None:
        owner_of_key = world.key_owner(world.path(owning), is_at_two_paths=is_at_two_paths)
    request = world.request(
        world.backend,
        proofs,
        evidence=None if changes is None else world.evidence(world.backend, **changes),
        key_paths={world.path(name): world.row(name) for name in stored},
    )
    request = altered(request, key_owner=owner_of_key)
    if is_revoked:
        revoked = {proof.delegation.content_key: Marker.REVOKED for proof in proofs}
        request = world.with_facts(request, marks=revoked)
    in_force = demanded + ([] if scene.mode == "off" else node)
    lists = [{*policy.paths} for policy in in_force if policy.paths]
    paths = {world.path(name) for name in stored}
    opens = (
        beside == "nothing"
        and not is_revoked
        and scene.mode != "everyone"
        and all(policy.in_person for policy in in_force)
        and bool(stored & named)
        and all(listed & paths for listed in lists)
        and owning in named
        and all(world.path(str(owning)) in listed for listed in lists)
        and not is_at_two_paths
    )
    permit = decide(request)
    assert (permit is not None) is opens
    assert permit is None or (permit.ground, permit.evidence) == ("machine", None)
    assert permit is None or set(request.owner.facts.links) <= set(permit.live)
