"""Judging a revocation: rules W20 to W27 and V5."""

import msgspec
import pytest
from capability_cases import BOB, CAROL, KV, NOW, OWNER, SESSION, SPACE, World, base58, cacao, ucan
from tests_support import coded

from capabilities.capability_errors import BadSignature, ChainError
from capabilities.cids import parse_cid

GET = ["tinycloud.kv/get"]
REVOKE = "tinycloud.delegation/revoke"
UNKNOWN = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def root(world: World) -> str:
    """The owner's grant to the session key, with the control ability of its space."""
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
    """Who gave and who received a grant may end it."""
    assert signer.did == world.revoke(revocation(bob, signer=signer))
    with pytest.raises(ChainError, check=coded("delegation-revoked")):
        world.invoke(call(bob))


def test_V3_W22_W23_owner_of_a_space_may_revoke(world, bob):
    """The wallet acts for itself, by message, over any grant in its space."""
    assert OWNER.did == world.revoke(cacao(None, uri=f"ucan:{bob}"))


def test_W22_others_may_not(world, bob):
    """A stranger, and somebody further down the chain, have no say."""
    carol = world.register(ucan(BOB, CAROL.did, {KV: GET}, prf=[bob]))
    for target in (bob, world.delegation(bob).parents[0].text):
        with pytest.raises(
            ChainError, check=coded("revoker-unauthorized"), match="Unauthorized Revoker"
        ):
            world.revoke(revocation(target, signer=CAROL))
    world.revoke(revocation(carol, signer=CAROL))


def test_W20_target_must_be_registered(world):
    """There is nothing to revoke in what is not known."""
    with pytest.raises(
        ChainError, check=coded("parent-not-found"), match="Cannot find parent delegation"
    ):
        world.revoke(revocation(UNKNOWN))


def test_W20_E8_target_in_another_spelling(world, bob):
    """Base and codec of the target do not matter."""
    assert SESSION.did == world.revoke(
        revocation(msgspec.structs.replace(parse_cid(bob), codec=0x71).text())
    )
    assert SESSION.did == world.revoke(revocation(base58(bob)))


def test_W24_again_is_fine(world, bob):
    """A target that is revoked may be revoked again."""
    world.revoke(revocation(bob))
    world.revoke(revocation(bob, signer=BOB))


def test_W26_own_window_and_signature(world, bob):
    """An expired or badly signed revocation does nothing."""
    with pytest.raises(
        ChainError,
        check=coded("revocation-outside-window"),
        match="Revocation expired or not yet valid",
    ):
        world.revoke(revocation(bob, exp=NOW - 1))
    with pytest.raises(BadSignature):
        world.revoke(revocation(bob)[:-6] + "AAAAAA")


def test_W21_proof_with_the_spaces_control_ability(world, root):
    """The session acts for the owner whose space it controls."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other))
    assert OWNER.did == world.revoke(revocation(other, root))


def test_W21_proof_for_one_delegation(world, bob):
    """The control ability on the target's own URN serves for that target."""
    urn = {f"urn:cid:{bob}": [REVOKE], f"{KV}/x": GET}
    proof = world.put(
        World().judge(ucan(SESSION, CAROL.did, {f"tinycloud:{SESSION.did[4:]}:a/kv": GET}))
    )
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(bob, proof, signer=CAROL))
    grant = _unjudged(world, ucan(SESSION, CAROL.did, urn))
    assert SESSION.did == world.revoke(revocation(bob, grant, signer=CAROL))


def _unjudged(world: World, header: str) -> str:
    """Store a delegation that no chain could support, to look at one rule alone."""
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
    """Another resource, another ability, another target: denied, without falling back to the
    signer."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    own = world.register(cacao({KV: GET}))
    proof = _unjudged(world, cacao(att))
    for target in (other, own):
        with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
            world.revoke(revocation(target, proof))


def test_W21_empty_path_of_the_control_resource(world):
    """`<space>/delegation/` controls like `<space>/delegation`."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    proof = world.register(cacao({f"{SPACE}/delegation/": [REVOKE]}))
    assert OWNER.did == world.revoke(revocation(other, proof))


def test_W21_caveats_on_the_control_ability_give_no_control(world):
    """A condition that nothing defines is not passed over."""
    other = world.register(cacao({KV: GET}, uri=BOB.did))
    space = f"tinycloud:{SESSION.did[4:]}:default/delegation"
    proof = world.register(ucan(SESSION, CAROL.did, {space: {REVOKE: [{"k": 1}]}}))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(other, proof, signer=CAROL))


def test_W21_space_is_the_proofs_delegators(world, bob):
    """Control over somebody else's space does not make one act for its owner."""
    proof = _unjudged(world, ucan(SESSION, CAROL.did, {f"{SPACE}/delegation": [REVOKE]}))
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(revocation(bob, proof, signer=CAROL))


def test_W21_exactly_one_known_proof_granted_to_the_signer(world, root, bob):
    """Two proofs, an unknown one, one granted to another: denied."""
    other = world.register(cacao({f"{SPACE}/delegation": [REVOKE]}, uri=CAROL.did))
    for prf in ((root, other), (UNKNOWN,), (other,), (root, root)):
        with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
            world.revoke(revocation(bob, *prf))


def test_W21_proof_must_stand_and_be_open(world, bob):
    """A revoked, unknown or expired proof gives nothing."""
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
    """Use, descendants and new children of a revoked grant fail; siblings and a new grant work."""
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
    """Of several targets each needs W20 to W22; the refusal is that of the first one that fails,
    and nothing ends."""
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
    """A proof that holds the right to revoke one delegation does not serve for two."""
    other = world.register(ucan(SESSION, CAROL.did, {KV: GET}, prf=[root]))
    wide = world.register(ucan(SESSION, BOB.did, {f"{SPACE}/delegation": [REVOKE]}, prf=[root]))
    token = ucan(BOB, BOB.did, {f"urn:cid:{one}": [REVOKE] for one in (bob, other)}, prf=[wide])
    with pytest.raises(ChainError, check=coded("revoker-unauthorized")):
        world.revoke(token)
    world.invoke(call(bob))
