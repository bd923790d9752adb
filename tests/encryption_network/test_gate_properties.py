"""What must hold of the gate whatever is granted, stated and attested."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encryption_network.errors import ReleaseRefused
from encryption_network.gate import Admission, admit
from encryption_network.policy import Measurements, Policy

OTHER_CODE = Measurements(mrtd=b"\x0f" * 48, rtmr0=bytes(48), rtmr1=bytes(48), rtmr2=bytes(48), rtmr3=bytes(48))
NARROWING = (
    Policy(),
    Policy(in_person=False),
    Policy(min_evaluation_number=20),
    Policy(max_age_s=5),
    Policy(receiver="signed"),
    Policy(platform_ids=(bytes(32),)),
    Policy(compose_hashes=(b"\x0d" * 32,)),
    Policy(compose_hashes=(bytes(32),)),
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
)


@dataclass(frozen=True)
class Scene:
    """One arrangement of grants, policies and evidence; indexes point into the tables above, -1 is none."""

    mode: str
    read: bool
    days: int
    network: int
    sign_in: int
    grants: tuple[int, ...]
    evidence: int
    node: int
    suffices: bool


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
)
RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def policies(world: Any, index: int) -> list[Policy]:
    """The policies that an index stands for."""
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
    """Make the request of a scene: a sign-in, then grants from holder to holder; the last holder asks.

    Args:
        add: a policy to add to the delegation at this place of the chain.
        link: a further grant below the chain, with this policy.
        proof: a further proof beside the chain, with this policy.
    """
    world = new_world()
    node = policies(world, scene.node)
    world.record = replace(
        world.record, mode=scene.mode, node_policy=node[0] if node else None, node_policy_suffices=scene.suffices
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
    last = world.sign_in(holders[0], read=scene.read, policies=chain_policies[0], lifetime_s=scene.days * world.DAY_S)
    lifetime = 10_000
    for place, own in enumerate(chain_policies[1:]):
        lifetime -= 100
        last = world.grant(holders[place], holders[place + 1].did, parents=[last], policies=own, lifetime_s=lifetime)
    asking = holders[len(chain_policies) - 1]
    proofs = [last]
    if proof is not None:
        proofs.append(world.grant(asking, asking.did, policies=[proof], att={}))
    changes = EVIDENCE[scene.evidence]
    evidence = None if changes is None else world.evidence(asking, **changes)
    return world.request(asking, proofs, evidence=evidence)


def decide(request: Any) -> Admission | None:
    """The gate's answer."""
    try:
        return admit(request)
    except ReleaseRefused:
        return None


@RUNS
@given(scene=SCENES, policy=st.sampled_from(NARROWING), place=st.integers(0, 3))
def test_a_further_policy_never_releases(new_world: Any, scene: Scene, policy: Policy, place: int) -> None:
    """A policy added anywhere in the chain turns no refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, add=(place, policy))) is None


@RUNS
@given(scene=SCENES, place=st.integers(2, 3))
def test_a_delegates_list_never_releases(new_world: Any, scene: Scene, place: int) -> None:
    """An allow-list that only a delegate stated turns no refusal into a release."""
    if len(scene.grants) >= place and decide(build(new_world, scene)) is None:
        list_of_a_delegate = new_world.LIST
        assert decide(build(new_world, scene, add=(place, list_of_a_delegate))) is None


@RUNS
@given(scene=SCENES, policy=st.sampled_from(NARROWING))
def test_a_further_link_never_releases(new_world: Any, scene: Scene, policy: Policy) -> None:
    """Passing the grant on turns no refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, link=policy)) is None


@RUNS
@given(scene=SCENES, policy=st.sampled_from([*NARROWING, Policy(measurements=(OTHER_CODE,))]))
def test_a_further_proof_never_releases(new_world: Any, scene: Scene, policy: Policy) -> None:
    """Citing one more delegation turns no refusal into a release."""
    if decide(build(new_world, scene)) is None:
        assert decide(build(new_world, scene, proof=policy)) is None


@RUNS
@given(scene=SCENES)
def test_a_stricter_mode_never_releases(new_world: Any, scene: Scene) -> None:
    """What mode off refuses, delegates refuses; what delegates refuses, everyone refuses."""
    answers = [decide(build(new_world, replace(scene, mode=mode))) for mode in ("off", "delegates", "everyone")]
    released = [answer is not None for answer in answers]
    assert released == sorted(released, reverse=True)


@RUNS
@given(scene=SCENES)
def test_nobody_is_in_person_in_mode_everyone(new_world: Any, scene: Scene) -> None:
    """In mode everyone each release rests on evidence that satisfies a list."""
    admission = decide(build(new_world, replace(scene, mode="everyone")))
    assert admission is None or (admission.ground == "attested" and admission.audit.quote_sha256 is not None)


@RUNS
@given(scene=SCENES)
def test_a_release_rests_on_marks_and_rows(new_world: Any, scene: Scene) -> None:
    """Every admission lists the chain's marks and the rows of network, record and evidence."""
    request = build(new_world, scene)
    admission = decide(request)
    if admission is not None:
        assert set(request.links) <= set(admission.live)
        rows = [request.network_row, request.record_row, request.withdrawals_row]
        assert list(admission.checks) == rows + ([request.evidence_row] if admission.ground == "attested" else [])
