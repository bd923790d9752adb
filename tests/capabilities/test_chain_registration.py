"""Rules D6, D20 to D31, D40 to D45 and section 3.8: registering a delegation."""

from typing import Any

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
from capabilities.chain import (
    MAX_CHAIN_NODES,
    Marker,
    hosted_spaces,
    judge_registration,
    mentioned_spaces,
)
from capabilities.signatures import Ed25519Signer
from capabilities.tokens import parse_delegation, restore_delegation, verify_delegation

GET = ["tinycloud.kv/get"]
UNKNOWN = "bafkr4ieuinpc2jtz3qh3qhox7klp6paecq6kibj35rxn7xf6nwczhmm54y"
TERMINAL = {"xyz.tinycloud.policy/delegationMode": "terminal"}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def root(world: World) -> str:
    """The owner's grant of kv to the session key, without expiry."""
    return world.register(
        cacao({KV: ["tinycloud.kv/get", "tinycloud.kv/put"], f"{SPACE}/sql": ["tinycloud.sql/*"]})
    )


def child(prf, att=None, *, signer=SESSION, audience=BOB, **claims):
    cited = [prf] if isinstance(prf, str) else prf
    return ucan(
        signer, audience.did, {f"{KV}/photos": GET} if att is None else att, prf=cited, **claims
    )


def test_a_narrower_child_is_registered(world, root):
    """A delegation may narrow its parent; its closure lists itself, then its ancestors."""
    bob = world.register(child(root))
    carol = world.judge(child(bob, {f"{KV}/photos/a": GET}, signer=BOB, audience=CAROL))
    assert [carol.delegation.cid, *(world.delegation(cid).cid for cid in (bob, root))] == [
        m.cid for m in carol.closure
    ]
    assert carol.delegation.content_key == carol.closure[0].content_key
    assert not carol.missing_ancestor


def test_D6_own_window_is_checked_now(world):
    """A delegation that is expired or not valid yet is not registered."""
    windows: tuple[dict[str, Any], ...] = ({"exp": NOW - 1}, {"nbf": NOW + 1})
    for claims in windows:
        with pytest.raises(
            ChainError,
            check=coded("delegation-outside-window"),
            match="Delegation expired or not yet valid",
        ):
            world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, **claims))


def test_D20_R1_owner_needs_no_proof(world):
    """An owner needs no proof for a grant, by UCAN or by wallet."""
    world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}))
    world.register(cacao({f"{SPACE.lower()}/kv": GET}))


def test_D20_owner_may_cite_a_foreign_grant(world, root):
    """The proofs of an owner's grant are recorded, but need not support it."""
    foreign = world.judge(
        ucan(BOB, CAROL.did, {f"tinycloud:{BOB.did[4:]}:default/kv": GET}, prf=[root])
    )
    assert len(foreign.closure) == 2


@pytest.mark.parametrize("prf", [[UNKNOWN], [UNKNOWN, UNKNOWN]])
def test_D20_Q13_owner_may_not_cite_the_unknown(world, prf):
    """An unknown proof is refused, also for an owner."""
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, prf=prf))


def test_D21_dependent_without_proof(world):
    """A signer who is not root needs a proof."""
    with pytest.raises(
        ChainError, check=coded("parent-not-found"), match="Cannot find parent delegation"
    ):
        world.register(child([]))


def test_D21_R3_nobody_is_root_for_an_opaque_resource(world):
    """No chain can begin at a resource that is not in a space or network."""
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.register(cacao({"urn:x:a": GET}))
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.register(cacao({f"{SPACE}/kv/%61": GET}))  # U3


def test_D22_every_cited_parent_is_known(world, root):
    """One unknown parent among several refuses the delegation."""
    for prf in ([UNKNOWN], [root, UNKNOWN], [UNKNOWN, root]):
        with pytest.raises(ChainError, check=coded("parent-not-found")):
            world.register(child(prf))


def test_D22_Q26_no_parent_twice(world, root):
    """A parent that is cited twice is refused, also in another spelling of its id."""
    for again in (root, base58(root), root.upper()):
        with pytest.raises(ChainError, check=coded("parent-not-found")):
            world.register(child([root, again]))


def test_D22_every_parent_names_the_delegator(world, root):
    """Every parent has to be granted to the delegator."""
    other = world.register(cacao({KV: GET}, uri=CAROL.did))
    for prf in ([other], [root, other]):
        with pytest.raises(ChainError, check=coded("delegator-unauthorized")) as caught:
            world.register(child(prf))
        assert caught.value.text == f"Unauthorized Delegator: {SESSION.did}"


def test_D22_order_unknown_before_outsider(world, root):
    """An unknown parent is reported before a parent of another principal."""
    other = world.register(cacao({KV: GET}, uri=CAROL.did))
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.register(child([other, UNKNOWN]))


def test_D22_P1_P2_delegate_is_compared_canonically(world):
    """A parent's audience is compared without its fragment and without the case of its address."""
    parent = world.register(ucan(SESSION, OWNER.did.lower(), {f"{SESSION_SPACE}/kv": GET}))
    assert world.register(
        cacao(
            {f"{SESSION_SPACE}/kv": GET},
            prf=[base58(parent)],
            expiration_time="2026-11-18T11:06:40Z",
        )
    )


def test_D23_parent_revoked(world, root):
    """A delegation under a revoked parent is refused."""
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("parent-revoked")) as caught:
        world.register(child(root))
    assert caught.value.text == f"delegation-parent-revoked: {root}"


def test_D23_ancestor_revoked(world, root):
    """A delegation under a revoked ancestor is refused."""
    bob = world.register(child(root))
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("ancestor-revoked")) as caught:
        world.register(child(bob, signer=BOB, audience=CAROL))
    assert caught.value.text == f"delegation-ancestor-revoked: ancestor={root} parent={bob}"


def test_D23_prints_the_parent_as_cited(world, root):
    """Errors print ids in base32 with codec raw."""
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("parent-revoked"), match=root):
        world.register(child(base58(root)))


def test_D23_a_roots_grant_does_not_rest_on_revoked_ones(world, root):
    """A root's grant that cites a revoked delegation is refused."""
    world.mark_revoked(root)
    with pytest.raises(ChainError, check=coded("parent-revoked")):
        world.register(
            ucan(BOB, CAROL.did, {f"tinycloud:{BOB.did[4:]}:default/kv": GET}, prf=[root])
        )


def test_unknown_mark_counts_as_not_found(world, root):
    """A parent with an unmarked member in its closure counts as not found."""
    bob = world.register(child(root))
    del world.marks[world.delegation(root).content_key]
    for header in (child(root), child(bob, signer=BOB, audience=CAROL)):
        with pytest.raises(ChainError, check=coded("parent-not-found")):
            world.register(header)


def test_D24_a_terminal_parent_after_another_one(world, root):
    """Every parent is looked at: a terminal one is refused behind one that is not terminal."""
    att = {f"{KV}/photos": GET}
    first = world.register(child(root, att))
    terminal = world.register(child(root, att, fct=[TERMINAL]))
    for prf in ([first, terminal], [terminal, first]):
        with pytest.raises(ChainError, check=coded("parent-terminal")):
            world.register(child(prf, att, signer=BOB, audience=CAROL))
    world.register(child([first], att, signer=BOB, audience=CAROL))


def test_D24_terminal_parent(world):
    """A terminal grant cannot be passed on."""
    terminal = world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, fct=[TERMINAL]))
    with pytest.raises(
        ChainError, check=coded("parent-terminal"), match="terminal-parent-cannot-redelegate"
    ):
        world.register(child(terminal, {f"{SESSION_SPACE}/kv": GET}, signer=BOB, audience=CAROL))
    other = world.register(
        ucan(
            SESSION,
            BOB.did,
            {f"{SESSION_SPACE}/kv": GET},
            fct=[{**TERMINAL, **dict.fromkeys(TERMINAL, "x")}],
        )
    )
    world.register(child(other, {f"{SESSION_SPACE}/kv": GET}, signer=BOB, audience=CAROL))


def grant(world, **claims):
    return world.register(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, **claims))


def pass_on(world, *parents, att=None, **claims):
    return world.register(
        child(
            list(parents),
            {f"{SESSION_SPACE}/kv/a": GET} if att is None else att,
            signer=BOB,
            audience=CAROL,
            **claims,
        )
    )


def test_D25_expiry_stays_within_the_parent(world):
    """A child may expire with its parent, but not later."""
    parent = grant(world, exp=NOW + 10)
    pass_on(world, parent, exp=NOW + 10)
    with pytest.raises(
        ChainError,
        check=coded("expiry-exceeds-parent"),
        match="Child delegation expiry exceeds parent expiry",
    ):
        pass_on(world, parent, exp=NOW + 10.5)


def test_D25_a_child_without_expiry_outlives_its_parent(world):
    """A child without expiry is refused under a parent that expires."""
    parent = world.register(ucan(SESSION, OWNER.did, {f"{SESSION_SPACE}/kv": GET}))
    with pytest.raises(ChainError, check=coded("expiry-exceeds-parent")):
        world.register(cacao({f"{SESSION_SPACE}/kv": GET}, prf=[base58(parent)]))


def test_D25_not_before_stays_within_the_parent(world):
    """A child needs a not-before if its parent has one, and not an earlier one."""
    parent = grant(world, nbf=NOW - 10)
    pass_on(world, parent, nbf=NOW - 10)
    for claims in ({}, {"nbf": NOW - 10.5}):
        with pytest.raises(
            ChainError,
            check=coded("not-before-precedes-parent"),
            match="Child delegation not_before precedes parent not_before",
        ):
            pass_on(world, parent, **claims)


def test_D25_failing_parents_are_dropped(world):
    """A parent that expires too early is ignored if another one supports everything."""
    short, late = grant(world, exp=NOW + 1), grant(world, nbf=NOW - 1)
    long = grant(world)
    pass_on(world, short, late, long)
    with pytest.raises(ChainError, check=coded("expiry-exceeds-parent")):
        pass_on(world, late, short)
    with pytest.raises(ChainError, check=coded("not-before-precedes-parent")):
        pass_on(world, late)


def test_D25_D27_a_dropped_parent_supports_nothing(world):
    """A capability that only the ignored parent has is not covered."""
    short = world.register(
        ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/sql": ["tinycloud.sql/read"]}, exp=NOW + 1)
    )
    with pytest.raises(ChainError, check=coded("capability-unauthorized")):
        pass_on(world, short, grant(world), att={f"{SESSION_SPACE}/sql": ["tinycloud.sql/read"]})


def test_D26_a_parent_outside_its_window_supports_nothing(world):
    """A child within an expired parent's window is expired too."""
    parent = grant(world, exp=NOW + 10)
    world.now = NOW + 11
    with pytest.raises(ChainError, check=coded("delegation-outside-window")):
        pass_on(world, parent, exp=NOW + 10)
    with pytest.raises(ChainError, check=coded("expiry-exceeds-parent")):
        pass_on(world, parent, exp=NOW + 20)


@pytest.mark.parametrize(
    ("resource", "ability"),
    [
        (f"{KV}/photos2", "tinycloud.kv/get"),
        (f"{KV}/photos", "tinycloud.kv/put"),
        (f"{KV}", "tinycloud.kv/get"),
        (f"{SPACE}2/kv/photos", "tinycloud.kv/get"),
        ("urn:x:y", "tinycloud.kv/get"),
    ],
)
def test_D27_what_no_parent_holds(world, resource, ability):
    """Another path, ability, space or kind of resource is not covered."""
    parent = world.register(cacao({f"{KV}/photos": GET, f"{KV}/a": ["tinycloud.kv/put"]}))
    with pytest.raises(ChainError, check=coded("capability-unauthorized")) as caught:
        world.register(child(parent, {resource: [ability]}))
    assert caught.value.text == f"Unauthorized Capability: {resource}, {ability}"


def test_D27_first_in_sorted_order_is_named(world, root):
    """The refusal names the first uncovered capability in sorted order."""
    with pytest.raises(ChainError, check=coded("capability-unauthorized")) as caught:
        world.register(
            child(root, {f"{SPACE}/x": GET, f"{SPACE}/hooks": ["b/b", "a/a"], f"{KV}/a": GET})
        )
    assert caught.value.about == (f"{SPACE}/hooks", "a/a")


def test_D27_authority_is_not_assembled(world):
    """A path and an ability from two rows do not cover a capability."""
    parent = world.register(cacao({f"{KV}/a": GET, f"{KV}/b": ["tinycloud.kv/put"]}))
    with pytest.raises(ChainError, check=coded("capability-unauthorized")):
        world.register(child(parent, {f"{KV}/b": GET}))
    one, other = (world.register(cacao({f"{KV}/{name}": GET})) for name in "cd")
    world.register(child([one, other], {f"{KV}/c/x": GET, f"{KV}/d/x": GET}))


def test_D27_A5_implied_abilities_are_held(world, root):
    """An ability that a granted one implies may be passed on."""
    world.register(
        child(root, {f"{SPACE}/sql/db": ["tinycloud.sql/select", "tinycloud.sql/admin"]})
    )


def test_D27_3_5_caveats(world):
    """Caveats may be added or repeated, but not dropped or changed, unless another row has none."""
    att: Att = {
        f"{SESSION_SPACE}/kv/a": {"tinycloud.kv/get": [{"k": 1}]},
        f"{SESSION_SPACE}/kv/b": GET,
    }
    parent = world.register(ucan(SESSION, BOB.did, att))
    pass_on(world, parent, att={f"{SESSION_SPACE}/kv/a": {"tinycloud.kv/get": [{"k": 1}]}})
    pass_on(world, parent, att={f"{SESSION_SPACE}/kv/b": {"tinycloud.kv/get": [{"x": 1}]}})
    with pytest.raises(ChainError, check=coded("caveats-not-contained")) as caught:
        pass_on(world, parent, att={f"{SESSION_SPACE}/kv/a": GET})
    assert (
        caught.value.text
        == "child-caveats-not-subset-of-parent: child-caveats-not-subset-of-parent"
    )
    free = grant(world)
    pass_on(world, parent, free, att={f"{SESSION_SPACE}/kv/a": GET})


def test_D28_only_direct_parents_count(world, root):
    """A capability that only a grandparent has is not covered."""
    bob = world.register(child(root))
    with pytest.raises(ChainError, check=coded("capability-unauthorized")):
        world.register(child(bob, {f"{KV}/b": GET}, signer=BOB, audience=CAROL))


def test_D28_owner_in_the_middle(world):
    """An owner who received a narrow grant may still grant everything."""
    narrow = world.register(ucan(SESSION, OWNER.did, {f"{SESSION_SPACE}/kv/a": GET}))
    world.register(cacao({KV: GET}, prf=[base58(narrow)]))


def test_D29_window_of_the_whole_closure_is_kept(world):
    """The closure's window is stored with the delegation, whose own text is unchanged."""
    parent = grant(world, nbf=NOW - 5, exp=NOW + 10)
    registered = world.judge(
        child(
            parent,
            {f"{SESSION_SPACE}/kv/a": GET},
            signer=BOB,
            audience=CAROL,
            nbf=NOW - 2,
            exp=NOW + 7,
        )
    )
    assert registered.not_before == NOW - 2
    assert registered.expires_at == NOW + 7
    owner_in_the_middle = world.judge(
        ucan(
            BOB,
            CAROL.did,
            {f"tinycloud:{BOB.did[4:]}:default/kv": GET},
            prf=[parent],
            exp=NOW + 100,
        )
    )
    assert owner_in_the_middle.not_before == NOW - 5
    assert owner_in_the_middle.expires_at == NOW + 10
    assert owner_in_the_middle.delegation.expires_at == NOW + 100


def people(count):
    return [Ed25519Signer(number.to_bytes(32, "big")) for number in range(1, count + 1)]


def test_D30_depth(world):
    """A chain may contain 64 delegations, but not 65."""
    line = people(MAX_CHAIN_NODES + 2)
    att = {f"tinycloud:{line[0].did[4:]}:default/kv": GET}
    cited: list[str] = []
    for number in range(MAX_CHAIN_NODES):
        cited = [world.register(ucan(line[number], line[number + 1].did, att, prf=cited))]
    with pytest.raises(
        ChainError,
        check=coded("chain-too-large"),
        match="delegation-chain-traversal-limit-exceeded",
    ):
        world.register(ucan(line[MAX_CHAIN_NODES], line[MAX_CHAIN_NODES + 1].did, att, prf=cited))


def test_D30_width_counts_distinct_ids(world):
    """63 parents are allowed, 64 are not; shared ancestors count once."""
    parents = [grant(world, nnc=str(number)) for number in range(MAX_CHAIN_NODES)]
    pass_on(world, *parents[:-1])
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        pass_on(world, *parents)
    one = pass_on(world, *parents[:60])
    other = pass_on(world, *parents[:60], nnc="other")
    att = {f"{SESSION_SPACE}/kv/a/b": GET}
    world.register(child([one, other], att, signer=CAROL, audience=OWNER))


def test_D3_limit_comes_before_the_window(world):
    """The size of the closure is checked before the window."""
    parents = [grant(world, nnc=str(number)) for number in range(MAX_CHAIN_NODES)]
    with pytest.raises(ChainError, check=coded("chain-too-large")):
        pass_on(world, *parents, exp=NOW - 1)


def test_D31_a_cycle_in_the_store_does_no_harm(world):
    """A delegation that the store lists as its own ancestor is counted once."""
    header = child([UNKNOWN], {f"{SESSION_SPACE}/kv": GET}, signer=SESSION)
    itself = restore_delegation(header)
    looped = world.judge(ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}))
    world.marks[itself.content_key] = world.marks[looped.delegation.content_key] = Marker.LIVE
    parent = type(looped)(
        looped.delegation,
        (looped.closure[0], type(looped.closure[0])(itself.content_key, itself.cid)),
        None,
        None,
        (),
    )
    registered = judge_registration(itself, [parent], world.marks, now=NOW)
    assert [itself.content_key, looped.delegation.content_key] == [
        member.content_key for member in registered.closure
    ]


def test_missing_ancestor_supports_nothing(world, root):
    """A stored delegation with a missing ancestor counts as not found."""
    found = world.find(parse_delegation(child(root)).parents[0].digest)
    gap = type(found)(found.delegation, found.closure, None, None, (), missing_ancestor=True)
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        judge_registration(restore_delegation(child(root)), [gap], world.marks, now=NOW)


def test_parents_are_given_for_each_proof(world, root):
    """A caller that leaves out a stored proof gets a RuntimeError."""
    with pytest.raises(RuntimeError):
        judge_registration(restore_delegation(child(root)), [], world.marks, now=NOW)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ([{"role": "policy-authority", "x": 1}], "policy-root-requires-registration"),
        ([{"role": "policy-enforcement", "x": 1}], "policy-root-requires-registration"),
        ([{"profile": "policy-session-ucan/v1"}], "policy-session-parent-invalid"),
        ([{"role": "policy-authority"}], None),
        ([{"role": "other", "x": 1}], None),
        ([{"role": ["policy-authority"], "x": 1}], None),
        ([{"role": "policy-authority", "x": 1}, {}], None),
        (["policy-authority"], None),
    ],
)
def test_3_8_policy_objects_are_no_ordinary_grants(world, facts, text):
    """A delegation is refused if its only fact is a policy root or session."""
    header = ucan(SESSION, BOB.did, {f"{SESSION_SPACE}/kv": GET}, fct=facts)
    if text is None:
        world.register(header)
        return
    with pytest.raises(ChainError, check=coded("policy-profile-refused")) as caught:
        world.register(header)
    assert text == caught.value.text


@pytest.mark.parametrize(
    ("att", "hosted"),
    [
        ({f"{SPACE}/space": ["tinycloud.space/host"]}, [SPACE]),
        ({f"{SPACE.lower()}/space": ["tinycloud.space/host"]}, [SPACE]),
        (
            {
                f"{SPACE}/space": ["tinycloud.space/host"],
                f"{SPACE}2/space": ["tinycloud.space/host"],
            },
            [SPACE, SPACE + "2"],
        ),
        ({f"{SPACE}/space": ["tinycloud.space/info"]}, []),
        ({f"{SPACE}/space/": ["tinycloud.space/host"]}, []),
        ({f"{SPACE}/space/x": ["tinycloud.space/host"]}, []),
        ({f"{SPACE}/space#x": ["tinycloud.space/host"]}, []),
        ({f"{SPACE}/space?x": ["tinycloud.space/host"]}, []),
        ({f"{SPACE}/kv": ["tinycloud.space/host"]}, []),
        ({"urn:x:y": ["tinycloud.space/host"]}, []),
    ],
)
def test_D40_D41_D42_D44_hosted_spaces(att, hosted):
    """Only `space/host` on exactly `<space>/space` hosts, with any audience."""
    delegation = verify_delegation(parse_delegation(ucan(BOB, CAROL.did, att)))
    assert hosted == [space.text for space in hosted_spaces(delegation)]


def test_D40_another_ability_on_the_resource_does_not_host():
    """A grant of `space/create` or `space/info` asks for no hosting, beside one that does."""
    other = f"tinycloud:{SESSION.did[4:]}:other"
    att = {
        f"{SESSION_SPACE}/space": ["tinycloud.space/create", "tinycloud.space/info"],
        f"{other}/space": ["tinycloud.space/host"],
    }
    delegation = verify_delegation(parse_delegation(ucan(SESSION, BOB.did, att)))
    assert [other] == [space.text for space in hosted_spaces(delegation)]


def test_D45_a_host_grant_is_an_ordinary_delegation(world):
    """A grant of `space/host` needs authority, can be passed on and can be revoked."""
    grant = {f"{SPACE}/space": ["tinycloud.space/host"]}
    with pytest.raises(ChainError, check=coded("parent-not-found")):
        world.register(ucan(BOB, CAROL.did, grant))
    hosting = world.register(cacao(grant))
    passed_on = child(hosting, grant)
    assert world.judge(passed_on).closure[1].cid == world.delegation(hosting).cid
    with pytest.raises(ChainError, check=coded("capability-unauthorized")):
        world.register(child(hosting, {f"{SPACE}/kv": GET}))
    world.mark_revoked(hosting)
    with pytest.raises(ChainError, check=coded("parent-revoked")):
        world.register(passed_on)


def test_SQ28_a_wider_grant_of_a_database_is_not_registered(world):
    """A delegate of one table passes on that table, and no second one."""
    main = f"{SESSION_SPACE}/sql/main"

    def read(*tables: str) -> Att:
        return {main: {"tinycloud.sql/read": [{"tables": list(tables)}]}}

    parent = world.register(ucan(SESSION, BOB.did, read("a", "b")))
    world.register(child(parent, read("a"), signer=BOB, audience=CAROL))
    for wider in (read("a", "c"), {main: ["tinycloud.sql/read"]}):
        with pytest.raises(ChainError, check=coded("caveats-not-contained")):
            world.register(child(parent, wider, signer=BOB, audience=CAROL))


def test_accounts_that_list_a_delegation(world):
    """Wallets and owners of spaces have accounts, and keys that pass a grant on have none."""
    keys = [Ed25519Signer(bytes([number]) * 32) for number in range(8)]
    owner = sorted(keys, key=lambda key: key.did)[4]
    att = {f"tinycloud:{owner.did[4:]}:default/kv": GET}
    first = world.judge(ucan(owner, owner.did, att))
    assert first.accounts == (owner.did,)
    parent = world.put(first)
    for key in keys:
        passed_on = world.judge(ucan(owner, key.did, att, prf=[parent]))
        again = world.judge(ucan(key, BOB.did, att, prf=[world.put(passed_on)]))
        assert again.accounts == (owner.did,)
    to_wallet = world.register(ucan(owner, OWNER.did, att))
    until = "2026-11-18T11:06:50Z"
    by_wallet = world.judge(cacao(att, uri=BOB.did, prf=[base58(to_wallet)], expiration_time=until))
    assert by_wallet.accounts == (OWNER.did, owner.did)


def test_mentioned_spaces_are_listed_once():
    """Each space of the resources is listed once, in canonical form."""
    att = {f"{SPACE}/kv": GET, f"{SPACE.lower()}/sql": GET, f"{SPACE}2/kv": GET, "urn:x:y": GET}
    capabilities = parse_delegation(ucan(BOB, CAROL.did, att)).capabilities
    assert [space.text for space in mentioned_spaces(capabilities)] == [SPACE, SPACE + "2"]


def test_D5_Q25_another_spelling_keeps_its_content(world):
    """A revoked grant in other bytes has the same content key, so it is revoked too."""
    header = cacao({KV: GET})
    world.mark_revoked(world.register(header))
    import dag_cbor
    import libipld

    from capabilities.cacao import header_bytes, header_text

    value = libipld.decode_dag_cbor(header_bytes(header))
    value["p"]["iss"] = value["p"]["iss"].lower()
    again = world.judge(header_text(dag_cbor.encode(value)))
    assert world.marks[again.delegation.content_key] is Marker.REVOKED


def test_X7_networks_are_passed_on_whole(world):
    """A network's owner may delegate it, and delegates may pass it on under the same id only."""
    network = f"urn:tinycloud:encryption:{OWNER.did}:default"
    parent = world.register(cacao({network: ["tinycloud.encryption/decrypt"]}))
    world.register(child(parent, {network.lower(): ["tinycloud.encryption/decrypt"]}))
    with pytest.raises(ChainError, check=coded("capability-unauthorized")):
        world.register(child(parent, {network + "2": ["tinycloud.encryption/decrypt"]}))
