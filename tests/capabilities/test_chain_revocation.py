"""Rules W20 to W27 and V5: judging a revocation."""

import msgspec
import pytest
from capability_cases import (
    BOB,
    CAROL,
    KV,
    NOW,
    OWNER,
    SESSION,
    SPACE,
    World,
    base58,
    cacao,
    parse_digest,
    ucan,
)
from tests_support import coded

from capabilities.capability_errors import BadSignature, ChainError
from capabilities.chain import judge_revocation
from capabilities.cids import parse_cid
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_revocation, verify_revocation

GET = ["tinycloud.kv/get"]
REVOKE = "tinycloud.delegation/revoke"
UNKNOWN = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def root(world: World) -> str:
    """The owner's grant to the session key, with the right to revoke in its space."""
    return world.register(cacao({KV: GET, f"{SPACE}/delegation": [REVOKE]}))


@pytest.fixture
def bob(world: World, root: str) -> str:
    """The session key's grant to Bob."""
    return world.register(ucan(SESSION, BOB.did, {KV: GET}, prf=[root]))


def revocation(target, *prf, signer=SESSION, ability=REVOKE, **claims):
    return ucan(signer, signer.did, {f"urn:cid:{target}": [ability]}, prf=prf, **claims)


def call(cid, signer=BOB):
    return ucan(signer, signer.did, {f"{KV}/a": GET}, prf=[cid], exp=NOW + 60)


@pytest.mark.parametrize("signer", [SESSION, BOB])
def test_W22_delegator_and_delegate_may_revoke(world, bob, signer):
    """The delegator and the delegate of a grant may revoke it."""
    assert signer.did == world.revoke(revocation(bob, signer=signer))
    with pytest.raises(ChainError, check=coded("delegation-revoked")):
        world.invoke(call(bob))


def test_V3_W22_W23_owner_of_a_space_may_revoke(world, bob):
    """A wallet may revoke any grant in its space with a signed message."""
    assert OWNER.did == world.revoke(cacao(None, uri=f"ucan:{bob}"))


def test_W22_others_may_not(world, bob):
    """An outsider or a later delegate may not revoke a grant."""
    carol = world.register(ucan(BOB, CAROL.did, {KV: GET}, prf=[bob]))
    for target in (bob, world.delegation(bob).parents[0].text):
        with pytest.raises(
            ChainError, check=coded("revoker-unauthorized"), match="Unauthorized Revoker"
        ):
            world.revoke(revocation(target, signer=CAROL))
    world.revoke(revocation(carol, signer=CAROL))


def test_W20_target_must_be_registered(world):
    """A delegation that is not registered cannot be revoked."""
    with pytest.raises(
        ChainError, check=coded("parent-not-found"), match="Cannot find parent delegation"
    ):
        world.revoke(revocation(UNKNOWN))


def test_W20_E8_target_in_another_spelling(world, bob):
    """A target may be cited in any multibase and codec."""
    assert SESSION.did == world.revoke(
        revocation(msgspec.structs.replace(parse_cid(bob), codec=0x71).text())
    )
    assert SESSION.did == world.revoke(revocation(base58(bob)))


def test_W24_again_is_fine(world, bob):
    """A target that is revoked may be revoked again."""
    world.revoke(revocation(bob))
    world.revoke(revocation(bob, signer=BOB))


def test_W26_own_window_and_signature(world, bob):
    """An expired or badly signed revocation is refused."""
    with pytest.raises(
        ChainError,
        check=coded("revocation-outside-window"),
        match="Revocation expired or not yet valid",
    ):
        world.revoke(revocation(bob, exp=NOW - 1))
    with pytest.raises(BadSignature):
        world.revoke(revocation(bob)[:-6] + "AAAAAA")


def test_W21_proof_with_the_spaces_control_ability(world, root):
    """A session with the right to revoke in a space acts for its owner."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other))
    assert OWNER.did == world.revoke(revocation(other, root))


def test_W21_proof_for_one_delegation(world, bob):
    """The right to revoke on a target's own URN allows revoking that target."""
    urn = {f"urn:cid:{bob}": [REVOKE], f"{KV}/x": GET}
    proof = world.put(
        World().judge(ucan(SESSION, CAROL.did, {f"tinycloud:{SESSION.did[4:]}:a/kv": GET}))
    )
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(bob, proof, signer=CAROL))
    grant = _unjudged(world, ucan(SESSION, CAROL.did, urn))
    assert SESSION.did == world.revoke(revocation(bob, grant, signer=CAROL))


def _unjudged(world: World, header: str) -> str:
    """Store a delegation that no chain could support, to test one rule alone."""
    from capabilities.chain import Ancestor, Registered
    from capabilities.tokens import restore_delegation

    delegation = restore_delegation(header)
    closure = (Ancestor(delegation.content_key, delegation.cid),)
    return world.put(
        Registered(delegation, closure, delegation.not_before, delegation.expires_at, ())
    )


@pytest.mark.parametrize(
    "att",
    [
        {f"{SPACE}/delegation/x": [REVOKE]},
        {f"{SPACE}/delegation?x": [REVOKE]},
        {f"{SPACE}/delegation#x": [REVOKE]},
        {f"{SPACE}/kv": [REVOKE]},
        {f"{SPACE}/delegation": ["tinycloud.delegation/status"]},
        {f"{SPACE}/delegation": ["tinycloud.delegation/*"]},
        {f"urn:cid:{UNKNOWN}": [REVOKE]},
    ],
)
def test_W21_proofs_that_give_no_control(world, att):
    """A proof for another resource, ability or target refuses the revocation."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    own = world.register(cacao({KV: GET}))
    proof = _unjudged(world, cacao(att))
    for target in (other, own):
        with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
            world.revoke(revocation(target, proof))


def test_W21_empty_path_of_the_control_resource(world):
    """`<space>/delegation/` gives the same rights as `<space>/delegation`."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    proof = world.register(cacao({f"{SPACE}/delegation/": [REVOKE]}))
    assert OWNER.did == world.revoke(revocation(other, proof))


def test_W21_caveats_on_the_control_ability_give_no_control(world):
    """A right to revoke with caveats is refused, because no caveat is defined for it."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    space = f"tinycloud:{SESSION.did[4:]}:default/delegation"
    proof = world.register(ucan(SESSION, CAROL.did, {space: {REVOKE: [{"k": 1}]}}))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, proof, signer=CAROL))


def test_W21_caveats_on_the_control_of_the_own_space_give_no_control(world):
    """Nor do they if the proof's delegator owns the space of the target."""
    space = f"tinycloud:{SESSION.did[4:]}:default"
    other = world.register(ucan(SESSION, BOB.did, {f"{space}/kv": GET}))
    control = f"{space}/delegation"
    proof = world.register(ucan(SESSION, CAROL.did, {control: {REVOKE: [{"k": 1}]}}))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, proof, signer=CAROL))
    plain = world.register(ucan(SESSION, CAROL.did, {control: [REVOKE]}))
    assert SESSION.did == world.revoke(revocation(other, plain, signer=CAROL))


def test_W21_the_first_of_two_proofs_alone(world, root):
    """Callers may read the first proof alone. A token that cites two is refused all the same."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    token = verify_revocation(parse_revocation(revocation(other, root, UNKNOWN)))
    read = [world.find(token.parents[0].digest)]
    targets = [world.find(parse_digest(other))]
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        judge_revocation(token, read, targets, world.marks, now=NOW)


def test_V5_a_target_that_was_not_read(world, root, bob):
    """A caller that passes fewer targets than the revocation has gets no verdict."""
    att = {f"urn:cid:{one}": [REVOKE] for one in (root, bob)}
    token = verify_revocation(parse_revocation(ucan(SESSION, SESSION.did, att)))
    read = [world.find(token.targets[0].digest)]
    with pytest.raises(ValueError, match="shorter"):
        judge_revocation(token, [], read, world.marks, now=NOW)


def test_TM7_an_admin_revokes_in_a_space_of_the_team(world):
    """With a team, a right in a space of the team counts too, and for its delegations alone."""
    team = Ed25519Signer(bytes(range(96, 128)))
    space = f"tinycloud:{team.did[4:]}:default"
    of_team = world.register(ucan(team, BOB.did, {f"{space}/kv": GET}))
    of_admin = world.register(cacao({KV: GET}, uri=BOB.did))
    of_other = world.register(ucan(CAROL, BOB.did, {f"tinycloud:{CAROL.did[4:]}:a/kv": GET}))
    sign_in = _unjudged(
        world, cacao({f"{space}/delegation": [REVOKE], f"{SPACE}/delegation": [REVOKE]})
    )

    def judge(target: str, whose: str | None) -> str:
        token = verify_revocation(parse_revocation(revocation(target, sign_in)))
        return judge_revocation(
            token,
            [world.find(parse_digest(sign_in))],
            [world.find(parse_digest(target))],
            world.marks,
            now=NOW,
            team=None if whose is None else parse_principal(whose),
        )

    assert OWNER.did == judge(of_team, team.did)
    assert OWNER.did == judge(of_admin, team.did)  # by the admin's own right
    for target, whose in ((of_team, None), (of_team, CAROL.did), (of_other, team.did)):
        with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
            judge(target, whose)


def test_W21_space_is_the_proofs_delegators(world, bob):
    """A proof for a space that its delegator does not own is refused."""
    proof = _unjudged(world, ucan(SESSION, CAROL.did, {f"{SPACE}/delegation": [REVOKE]}))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(bob, proof, signer=CAROL))


def test_W21_exactly_one_known_proof_granted_to_the_signer(world, root, bob):
    """Two proofs, an unknown one, or one for another principal are refused."""
    other = world.register(cacao({f"{SPACE}/delegation": [REVOKE]}, uri=CAROL.did))
    for prf in ((root, other), (UNKNOWN,), (other,), (root, root)):
        with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
            world.revoke(revocation(bob, *prf))


def test_W21_proof_must_stand_and_be_open(world, bob):
    """A revoked, unknown or expired proof is refused."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    short = world.register(
        cacao({f"{SPACE}/delegation": [REVOKE]}, expiration_time="2026-11-18T11:06:50Z")
    )
    world.revoke(revocation(other, short))
    world.now = NOW + 20
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, short))
    world.now = NOW
    mark = world.marks.pop(world.delegation(short).content_key)
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, short))
    world.marks[world.delegation(short).content_key] = mark
    world.mark_revoked(short)
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, short))


def test_W25_effects(world, root, bob):
    """A revoked grant, its descendants and new children fail; siblings and new grants work."""
    carol = world.register(ucan(BOB, CAROL.did, {KV: GET}, prf=[bob]))
    sibling = world.register(ucan(SESSION, BOB.did, {KV: GET}, prf=[root], nnc="sibling"))
    world.revoke(revocation(bob))
    with pytest.raises(ChainError, check=coded("delegation-revoked")):
        world.invoke(call(bob))
    with pytest.raises(ChainError, check=coded("ancestor-revoked")):
        world.invoke(call(carol, signer=CAROL))
    with pytest.raises(ChainError, check=coded("parent-revoked")):
        world.register(ucan(BOB, CAROL.did, {KV: GET}, prf=[bob], nnc="child"))
    world.invoke(call(sibling))
    again = world.register(ucan(SESSION, BOB.did, {KV: GET}, prf=[root], nnc="again"))
    world.invoke(call(again))


def test_V5_each_target_is_judged_and_the_first_refusal_counts(world, root, bob):
    """Each target needs W20 to W22; the first refusal refuses the whole revocation."""
    other = world.register(ucan(SESSION, CAROL.did, {KV: GET}, prf=[root]))
    foreign = world.register(cacao({}, uri=CAROL.did))

    def token(*targets, signer=SESSION, prf=()):
        return ucan(signer, signer.did, {f"urn:cid:{one}": [REVOKE] for one in targets}, prf=prf)

    for targets, error in (
        ((bob, UNKNOWN), "parent-not-found"),
        ((bob, foreign, UNKNOWN), "revoker-unauthorized"),
        ((UNKNOWN, foreign), "parent-not-found"),
    ):
        with pytest.raises(ChainError, check=coded(error)):
            world.revoke(token(*targets))
    # Bob received one of them only
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(token(bob, other, signer=BOB))
    world.invoke(call(bob))
    assert OWNER.did == world.revoke(token(other, bob, prf=[root]))
    for cid, signer in ((bob, BOB), (other, CAROL)):
        with pytest.raises(ChainError, check=coded("delegation-revoked")):
            world.invoke(call(cid, signer))


def test_V5_W21_the_proof_has_to_hold_for_each_target(world, root, bob):
    """A proof for one delegation does not allow revoking two."""
    other = world.register(ucan(SESSION, CAROL.did, {KV: GET}, prf=[root]))
    wide = world.register(ucan(SESSION, BOB.did, {f"{SPACE}/delegation": [REVOKE]}, prf=[root]))
    token = ucan(BOB, BOB.did, {f"urn:cid:{one}": [REVOKE] for one in (bob, other)}, prf=[wide])
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(token)
    world.invoke(call(bob))
