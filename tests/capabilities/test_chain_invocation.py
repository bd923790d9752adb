"""Rules I4, I13 and I30 to I37: judging an invocation."""

import pytest
from capability_cases import (
    BOB,
    CAROL,
    KV,
    NOW,
    OWNER,
    SESSION,
    SESSION_SPACE,
    SPACE,
    Att,
    World,
    base58,
    cacao,
    ucan,
)
from tests_support import coded

from capabilities.capability_errors import ChainError
from capabilities.chain import MAX_CHAIN_NODES, MAX_COMPARISONS, check_lifetime
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_invocation, verify_invocation

GET = ["tinycloud.kv/get"]
UNKNOWN = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def root(world: World) -> str:
    return world.register(cacao({f"{KV}/photos": ["tinycloud.kv/get", "tinycloud.kv/del"]}))


def call(*prf, att=None, signer=SESSION, **claims):
    return ucan(
        signer,
        signer.did,
        {f"{KV}/photos/a": GET} if att is None else att,
        prf=prf,
        exp=NOW + 60,
        **claims,
    )


def test_a_granted_call_is_authorised(world, root):
    """The authority lists the dependent capabilities and every mark that they need."""
    authority = world.invoke(call(root))
    assert (world.delegation(root).content_key,) == authority.live
    assert [f"{KV}/photos/a"] == [c.resource.text for c in authority.dependent]


def test_live_lists_all_closures(world, root):
    """The authority lists every member of every cited closure once."""
    bob = world.register(ucan(SESSION, BOB.did, {f"{KV}/photos": GET}, prf=[root]))
    other = world.register(cacao({f"{KV}/b": GET}, uri=BOB.did))
    authority = world.invoke(
        call(bob, other, signer=BOB, att={f"{KV}/photos": GET, f"{KV}/b": GET})
    )
    assert {world.delegation(cid).content_key for cid in (root, bob, other)} == set(authority.live)
    assert len(authority.live) == 3


@pytest.mark.parametrize(
    ("ahead", "allowed"), [(299, True), (300, True), (300.5, False), (302, False)]
)
def test_I4_lifetime(ahead, allowed):
    """An invocation ends at most 300 seconds after the current second."""
    invocation = verify_invocation(
        parse_invocation(ucan(SESSION, SESSION.did, {}, exp=NOW + ahead))
    )
    for now in (NOW, NOW + 0.9):
        if allowed:
            check_lifetime(invocation, now)
        else:
            with pytest.raises(
                ChainError,
                check=coded("lifetime-too-long"),
                match="Invocation lifetime exceeds server maximum",
            ):
                check_lifetime(invocation, now)
    check_lifetime(invocation, NOW, 1000)


def test_I30_root_needs_no_proof(world, root):
    """The owner's call is authorised, and its proofs are not checked further."""
    att = {f"{SESSION_SPACE}/kv/a": ["tinycloud.kv/put"]}
    for prf in ((), (root,)):
        authority = world.invoke(call(*prf, att=att))
        assert authority.live == authority.dependent == ()
    world.mark_revoked(root)
    world.invoke(call(root, att=att))


def test_I30_root_relies_on_no_grant_of_its_own(world):
    """A revoked grant of the owner to itself does not affect the owner's authority."""
    own, att = (
        world.register(ucan(SESSION, SESSION.did, {f"{SESSION_SPACE}/kv": GET})),
        {f"{SESSION_SPACE}/kv/a": GET},
    )
    assert world.invoke(call(own, att=att)).live == ()
    world.mark_revoked(own)
    world.invoke(call(own, att=att))


def test_I30_Q13_root_may_not_cite_the_unknown(world, root):
    """An unknown or repeated proof in the owner's call is refused."""
    for prf in ((UNKNOWN,), (root, UNKNOWN), (root, root)):
        with pytest.raises(ChainError, check=coded("parent-not-found")):
            world.invoke(call(*prf, att={f"{SESSION_SPACE}/kv/a": GET}))


def test_I31_proofs_are_needed_known_and_distinct(world, root):
    """A missing, unknown or repeated proof is refused."""
    for prf in ((), (UNKNOWN,), (root, UNKNOWN), (root, root), (root, base58(root))):
        with pytest.raises(
            ChainError, check=coded("parent-not-found"), match="Cannot find parent delegation"
        ):
            world.invoke(call(*prf))


def test_I31_E8_proof_in_another_spelling(world, root):
    """A proof may be cited in any multibase and codec."""
    world.invoke(call(base58(root)))


def test_I32_every_proof_names_the_invoker(world, root):
    """A call with a proof for another principal is refused, even if another proof is valid."""
    other = world.register(cacao({KV: GET}, uri=CAROL.did))
    for prf in ((other,), (root, other)):
        with pytest.raises(
            ChainError, check=coded("invoker-unauthorized"), match="Unauthorized Invoker"
        ):
            world.invoke(call(*prf))


def test_I32_revoked(world, root):
    """A revoked proof is refused; the text quotes its id as cited."""
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("delegation-revoked")) as caught:
        world.invoke(call(base58(root)))
    assert caught.value.text == f"delegation-revoked: {root}"


def test_I32_ancestor_revoked(world, root):
    """A proof with a revoked ancestor is refused; the text names both."""
    bob = world.register(ucan(SESSION, BOB.did, {f"{KV}/photos": GET}, prf=[root]))
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("ancestor-revoked")) as caught:
        world.invoke(call(bob, signer=BOB))
    assert caught.value.text == f"delegation-ancestor-revoked: ancestor={root} invoked={bob}"


def test_I33_unknown_member_counts_as_not_found(world, root):
    """A proof with an unmarked member in its closure is refused."""
    bob = world.register(ucan(SESSION, BOB.did, {f"{KV}/photos": GET}, prf=[root]))
    del world.marks[world.delegation(root).content_key]
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.invoke(call(bob, signer=BOB))


@pytest.mark.parametrize(("exp", "open_"), [(NOW + 0.5, True), (NOW, False), (NOW - 1, False)])
def test_I33_expiry_of_the_chain_is_strict(world, exp, open_):
    """A grant has expired at its expiry; the refusal names the first dependent capability (Q17)."""
    world.now = NOW - 100
    grant = world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, exp=exp))
    world.now = NOW
    att = {f"{SESSION_SPACE}/kv/b": GET, f"{SESSION_SPACE}/kv/a": GET}
    if open_:
        world.invoke(call(grant, signer=BOB, att=att))
        return
    with pytest.raises(ChainError, check=coded("action-unauthorized")) as caught:
        world.invoke(call(grant, signer=BOB, att=att))
    assert caught.value.text == f"Unauthorized Action: {SESSION_SPACE}/kv/a / tinycloud.kv/get"


def test_I33_not_before_of_the_chain(world):
    """A grant is valid from its not-before on."""
    grant = world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, nbf=NOW))
    world.invoke(call(grant, signer=BOB, att={f"{SESSION_SPACE}/kv/a": GET}))
    world.now = NOW - 1
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(call(grant, signer=BOB, att={f"{SESSION_SPACE}/kv/a": GET}))


def test_I33_every_cited_closure_is_open(world, root):
    """A call with an expired proof or ancestor is refused, even if another proof is valid."""
    short = world.register(cacao({KV: GET}, expiration_time="2026-11-18T11:06:50Z"))
    world.now = NOW + 20
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(
            ucan(SESSION, SESSION.did, {f"{KV}/photos/a": GET}, prf=[root, short], exp=NOW + 60)
        )


def test_I33_expired_ancestor_under_an_owner_in_the_middle(world):
    """An expired ancestor invalidates a grant that is still valid as signed."""
    narrow = world.register(ucan(SESSION, OWNER.did, {f"{SESSION_SPACE}/kv": GET}, exp=NOW + 10))
    wide = world.register(cacao({KV: GET}, prf=[base58(narrow)]))
    world.invoke(call(wide))
    world.now = NOW + 11
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(call(wide))


@pytest.mark.parametrize(
    ("resource", "ability"),
    [
        (f"{KV}/photos2", "tinycloud.kv/get"),
        (f"{KV}/photos/a", "tinycloud.kv/put"),
        (KV, "tinycloud.kv/get"),
    ],
)
def test_I34_what_is_not_granted(world, root, resource, ability):
    """Another path or ability is refused with the text that clients parse (I36)."""
    with pytest.raises(ChainError, check=coded("action-unauthorized")) as caught:
        world.invoke(call(root, att={f"{KV}/photos/a": GET, resource: [ability]}))
    assert caught.value.text == f"Unauthorized Action: {resource} / {ability}"


def test_I34_ancestors_rows_do_not_count(world, root):
    """Only the capabilities of a directly cited grant count, not its ancestors'."""
    bob = world.register(ucan(SESSION, BOB.did, {f"{KV}/photos/b": GET}, prf=[root]))
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(call(bob, signer=BOB))


def test_I34_A3_alias_is_held(world, root):
    """An alias of a granted ability is covered."""
    world.invoke(call(root, att={f"{KV}/photos/a": ["tinycloud.kv/delete"]}))


def _under_selector(kind: str, value: str) -> list[dict[str, str]]:
    return [{"type": "xyz.tinycloud.resource/selector", "kind": kind, "value": value}]


def test_I35_caveats_are_repeated_exactly(world):
    """A call repeats the caveats of its grant; without any it may add its own."""
    att: Att = {
        f"{SESSION_SPACE}/kv": {"tinycloud.kv/get": _under_selector("prefix", "a")},
        f"{SESSION_SPACE}/kv/b": GET,
    }
    grant = world.register(ucan(SESSION, BOB.did, att))

    def invoke(path: str, caveats: list[dict[str, str]]) -> None:
        world.invoke(
            call(
                grant, signer=BOB, att={f"{SESSION_SPACE}/kv/{path}": {"tinycloud.kv/get": caveats}}
            )
        )

    invoke("a", _under_selector("prefix", "a"))
    invoke("b", _under_selector("exact", "b"))
    for caveats in (
        [{}],
        _under_selector("prefix", "b"),
        _under_selector("exact", "a"),
        [*_under_selector("prefix", "a"), {}],
    ):
        with pytest.raises(ChainError, check=coded("caveats-not-contained")) as caught:
            invoke("a", caveats)
        reason = "invocation-caveats-not-subset-of-chain"
        assert caught.value.text == f"{reason}: {reason}"


@pytest.mark.parametrize(
    "ability", ["tinycloud.kv/get", "tinycloud.kv/put", "tinycloud.sql/read", "x/y"]
)
@pytest.mark.parametrize("signer", [SESSION, BOB], ids=["owner", "delegate"])
@pytest.mark.parametrize(
    ("caveats", "reason"),
    [
        ([{"k": 1}], "caveat-not-understood"),
        ([{}, {}], "caveat-not-understood"),
        (_under_selector("exact", "public.txt"), "selector-caveat-not-met"),
    ],
)
def test_I39_a_repeated_condition_has_to_be_met(world, signer, ability, caveats, reason):
    """A call that does not meet its own caveats is refused, also for the owner."""
    grant = world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": {ability: caveats}}))
    token = call(
        *([grant] if signer is BOB else []),
        signer=signer,
        att={f"{SESSION_SPACE}/kv/secret.txt": {ability: caveats}},
    )
    with pytest.raises(ChainError, check=coded("caveats-not-contained")) as caught:
        world.invoke(token)
    assert caught.value.text == f"invocation-caveats-not-subset-of-chain: {reason}"


def test_I37_each_capability_is_judged_alone(world, root):
    """One token may combine owned and granted spaces, and several proofs."""
    other = world.register(cacao({f"{SPACE}2/kv": GET}))
    att = {f"{SESSION_SPACE}/kv/a": ["x/y"], f"{KV}/photos/a": GET, f"{SPACE}2/kv/a": GET}
    assert len(world.invoke(call(root, other, att=att)).dependent) == 2
    with pytest.raises(ChainError, check=coded("action-unauthorized")):
        world.invoke(call(root, att=att))


def test_I13_cited_closures_together_are_bounded(world):
    """Two closures of 40 delegations are too large for one call."""
    ends = []
    for chain in range(2):
        line = [Ed25519Signer(bytes([chain + 1, number]) + bytes(30)) for number in range(40)]
        att = {f"tinycloud:{line[0].did[4:]}:default/kv": GET}
        cited: list[str] = []
        for signer, audience in zip(line, [*line[1:], BOB], strict=True):
            cited = [world.register(ucan(signer, audience.did, att, prf=cited))]
        ends.append((cited[0], att))
    world.invoke(call(ends[0][0], signer=BOB, att=ends[0][1]))
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        world.invoke(call(ends[0][0], ends[1][0], signer=BOB, att=ends[0][1]))


def test_I13_as_many_delegations_as_allowed(world):
    """Cited closures of 64 delegations together are not too large."""
    ends = []
    for chain, length in enumerate((MAX_CHAIN_NODES - 24, 24)):
        line = [Ed25519Signer(bytes([chain + 1, number]) + bytes(30)) for number in range(length)]
        att = {f"tinycloud:{line[0].did[4:]}:default/kv": GET}
        cited: list[str] = []
        for signer, audience in zip(line, [*line[1:], BOB], strict=True):
            cited = [world.register(ucan(signer, audience.did, att, prf=cited))]
        ends.append((cited[0], att))
    authority = world.invoke(call(ends[0][0], ends[1][0], signer=BOB, att=ends[0][1]))
    assert len(authority.live) == MAX_CHAIN_NODES == 64


def test_as_many_comparisons_as_allowed(world):
    """512 capabilities are compared with 512 granted ones; with one more, the call is refused."""
    rows = {f"{SESSION_SPACE}/kv/{number}": GET for number in range(512)}
    assert len(rows) * len(rows) == MAX_COMPARISONS
    grant = world.register(ucan(SESSION, BOB.did, rows))
    world.invoke(call(grant, signer=BOB, att=rows))
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        world.invoke(call(grant, signer=BOB, att={**rows, f"{SESSION_SPACE}/kv/512": GET}))


def test_I34_a_grant_with_a_fact_covers_what_is_below_its_path(world):
    """Only a machine token is restricted to its exact paths, and not every grant with a fact."""
    grant = world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, fct=[{"note": 1}]))
    world.invoke(call(grant, signer=BOB, att={f"{SESSION_SPACE}/kv/a": GET}))


def test_comparisons_are_bounded(world):
    """A token that needs too many comparisons is refused before they are made."""
    rows = {f"{SESSION_SPACE}/kv/{number}": GET for number in range(600)}
    grant = world.register(ucan(SESSION, BOB.did, rows))
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        world.invoke(call(grant, signer=BOB, att=rows))
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        world.register(ucan(BOB, CAROL.did, rows, prf=[grant]))
    world.invoke(call(grant, signer=BOB, att=dict(list(rows.items())[:400])))


def test_R2_owner_of_a_network_is_root(world):
    """A network's owner needs no proof; other principals do."""
    network = f"urn:tinycloud:encryption:{SESSION.did_url}:default"
    world.invoke(call(att={network: ["tinycloud.encryption/decrypt"]}))
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.invoke(call(signer=BOB, att={network: ["tinycloud.encryption/decrypt"]}))
