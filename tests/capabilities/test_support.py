"""Which cited delegations support a token: paths, accounts of lists, and names of persons."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from capability_cases import BOB, CAROL, KV, NOW, OWNER, SESSION, World, cacao, parse_digest, ucan
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.capability_errors import ChainError
from capabilities.chain import MAX_COMPARISONS, Ancestor, Registered
from capabilities.cids import ContentKey, cid_text
from capabilities.coverage import is_own
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from capabilities.support import (
    SupportingPaths,
    SupportUnknown,
    listing_accounts,
    persons_of,
    responsible_for,
    supporting_keys,
)
from capabilities.tokens import (
    Capability,
    parse_delegation,
    parse_invocation,
    verify_delegation,
    verify_invocation,
)

GET, PUT = "tinycloud.kv/get", "tinycloud.kv/put"
KEYS = [Ed25519Signer(bytes([number]) * 32) for number in range(1, 6)]
PATHS = ("", "/a", "/a/b")


def kv_of(owner: Ed25519Signer) -> str:
    return f"tinycloud:{owner.did[4:]}:default/kv"


@dataclass
class Chains:
    """Registered delegations, and the search for what supports a token."""

    world: World = field(default_factory=World)
    stored: dict[ContentKey, Registered] = field(default_factory=dict)

    def add(self, header: str) -> str:
        registered = self.world.judge(header)
        self.stored[registered.delegation.content_key] = registered
        return self.world.put(registered)

    def found(self, cid: str) -> Registered:
        found = self.world.find(parse_digest(cid))
        assert found is not None
        return found

    def keys(self, *cids: str) -> set[ContentKey]:
        return {self.found(cid).delegation.content_key for cid in cids}

    @property
    def paths(self) -> SupportingPaths:
        return SupportingPaths(self.stored)

    def accounts(self, cid: str) -> set[str]:
        return set(listing_accounts(self.found(cid), self.paths))

    def call(self, header: str) -> tuple[tuple[Capability, ...], list[Registered]]:
        """Return the dependent capabilities of a call, and what it cites."""
        authority = self.world.invoke(header)
        parents = verify_invocation(parse_invocation(header)).parents
        cited = [self.world.find(parent.digest) for parent in parents]
        return authority.dependent, [one for one in cited if one is not None]

    def supporting(self, header: str) -> frozenset[ContentKey]:
        dependent, cited = self.call(header)
        return supporting_keys(dependent, cited, self.paths)

    def persons(self, header: str, owner: str) -> frozenset[Principal]:
        dependent, cited = self.call(header)
        return persons_of(dependent, cited, self.paths, responsible_for(Principal(owner)))


@pytest.fixture
def chains() -> Chains:
    return Chains()


def invoke(signer: Ed25519Signer, att: dict[str, list[str]], *prf: str) -> str:
    return ucan(signer, "did:web:node.example", att, prf=prf, exp=NOW + 60)


def test_D33_a_delegation_of_ones_own_is_filed_for_its_signer_alone(chains: Chains) -> None:
    """Whoever cites an owner's delegation for own rights is not filed for the owner (D20)."""
    of_owner = chains.add(cacao({KV: [GET]}))
    own = chains.add(ucan(BOB, CAROL.did, {kv_of(BOB): [GET]}, prf=[of_owner]))
    assert chains.accounts(own) == {BOB.did}
    # For the rule on wallets that move, everything that is cited counts (TM18).
    assert set(chains.found(own).accounts) == {BOB.did, OWNER.did}
    below = chains.add(ucan(CAROL, BOB.did, {kv_of(BOB): [GET]}, prf=[own]))
    assert chains.accounts(below) == {BOB.did}


def test_D33_a_second_proof_that_grants_something_else(chains: Chains) -> None:
    """Beside the proof that supports it, a delegation may cite one that does not."""
    of_bob = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}))
    of_owner = chains.add(cacao({f"{KV}/a": [GET]}))
    passed_on = chains.add(ucan(SESSION, CAROL.did, {kv_of(BOB): [GET]}, prf=[of_owner, of_bob]))
    assert chains.accounts(passed_on) == {BOB.did}


def test_D33_all_supporting_paths_count(chains: Chains) -> None:
    """A delegation with rights of two owners is filed for both, in any order of its proofs."""
    of_bob = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}))
    of_owner = chains.add(cacao({KV: [GET]}))
    for prf in ([of_bob, of_owner], [of_owner, of_bob]):
        att = {kv_of(BOB): [GET], f"{KV}/a": [GET]}
        both = chains.add(ucan(SESSION, CAROL.did, att, prf=prf))
        assert chains.accounts(both) == {BOB.did, OWNER.did}
        only = chains.add(ucan(CAROL, BOB.did, {f"{KV}/a": [GET]}, prf=[both]))
        assert chains.accounts(only) == {OWNER.did}


def test_D33_a_large_chain_is_filed_once_all_its_accounts_are_found(chains: Chains) -> None:
    """The chain rules compare one level at a time, so a long chain may pass on many rights."""
    att = {f"{kv_of(BOB)}/{number}": [GET] for number in range(250)}
    below = chains.add(ucan(BOB, KEYS[0].did, att))
    # A second account: the key grants a right of its own besides.
    two_owners = {**att, kv_of(KEYS[0]): [GET]}
    below = chains.add(ucan(KEYS[0], KEYS[1].did, two_owners, prf=[below]))
    for number in range(1, 7):
        is_odd = number % 2 == 1
        signer, recipient = (KEYS[1], KEYS[2]) if is_odd else (KEYS[2], KEYS[1])
        below = chains.add(ucan(signer, recipient.did, two_owners, prf=[below]))
    assert chains.accounts(below) == {BOB.did, KEYS[0].did}


def test_D33_one_account_above_is_found_without_what_is_above(chains: Chains) -> None:
    """A list of many delegations of an owner does not read all their chains."""
    of_owner = chains.add(cacao({KV: [GET]}))
    below = chains.add(ucan(SESSION, CAROL.did, {KV: [GET]}, prf=[of_owner]))
    assert listing_accounts(chains.found(below), SupportingPaths({})) == (OWNER.did,)
    of_bob = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}))
    several = chains.add(ucan(SESSION, CAROL.did, {KV: [GET]}, prf=[of_owner, of_bob]))
    with pytest.raises(SupportUnknown):
        listing_accounts(chains.found(several), SupportingPaths({}))


def test_D33_rights_of_ones_own_that_came_back(chains: Chains) -> None:
    """An owner's grant depends on no proof, also if the proof grants the same to the owner."""
    of_bob = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}))
    of_owner = chains.add(cacao({KV: [GET]}))
    both = {kv_of(BOB): [GET], f"{KV}/a": [GET]}
    back = chains.add(ucan(SESSION, BOB.did, both, prf=[of_bob, of_owner]))
    again = chains.add(ucan(BOB, CAROL.did, {kv_of(BOB): [GET]}, prf=[back]))
    header = invoke(CAROL, {kv_of(BOB): [GET]}, again)
    assert chains.supporting(header) == chains.keys(again)
    assert chains.accounts(again) == {BOB.did}


def test_D33_a_parent_that_ends_or_begins_too_early(chains: Chains) -> None:
    """A parent supports nothing that outlives it, or that begins before it (D25)."""
    lasting = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}, exp=NOW + 900))
    ending = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}, exp=NOW + 300))
    beginning = chains.add(
        ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}, exp=NOW + 900, nbf=NOW - 300)
    )
    prf = [ending, beginning, lasting]
    below = chains.add(ucan(SESSION, CAROL.did, {kv_of(BOB): [GET]}, prf=prf, exp=NOW + 600))
    supporting = chains.supporting(invoke(CAROL, {kv_of(BOB): [GET]}, below))
    assert supporting == chains.keys(below, lasting)


def test_RC7_the_paths_of_a_call(chains: Chains) -> None:
    """A call depends on every proof that covers it, and on nothing that is cited beside them."""
    of_bob = chains.add(ucan(BOB, SESSION.did, {kv_of(BOB): [GET]}))
    first = chains.add(cacao({KV: [GET]}))
    second = chains.add(cacao({f"{KV}/a": [GET, PUT]}))
    header = invoke(SESSION, {f"{KV}/a": [GET]}, of_bob, second, first)
    assert chains.supporting(header) == chains.keys(first, second)
    assert chains.supporting(invoke(BOB, {kv_of(BOB): [GET]}, first)) == frozenset()


def test_M62_persons(chains: Chains) -> None:
    """A wallet that signed in a key is named, also by a key to which that one passed the right."""
    times = {"issued_at": "2026-11-18T00:00:00Z", "expiration_time": "2026-11-20T00:00:00Z"}
    sign_in = chains.add(cacao({KV: [GET, PUT]}, **times))
    header = invoke(SESSION, {KV: [PUT]}, sign_in)
    assert chains.persons(header, OWNER.did) == {OWNER.did}
    # To others the owner's own key gave a grant of the owner's, so the recipient is named.
    to_bob = chains.add(ucan(SESSION, BOB.did, {KV: [PUT]}, prf=[sign_in], exp=NOW + 600))
    assert chains.persons(invoke(BOB, {KV: [PUT]}, to_bob), OWNER.did) == {BOB.did}
    to_carol = chains.add(ucan(BOB, CAROL.did, {KV: [PUT]}, prf=[to_bob], exp=NOW + 600))
    assert chains.persons(invoke(CAROL, {KV: [PUT]}, to_carol), OWNER.did) == {BOB.did}
    # Two paths with two persons: both are returned.
    again = chains.add(ucan(SESSION, CAROL.did, {KV: [PUT]}, prf=[sign_in], exp=NOW + 600))
    both = invoke(CAROL, {KV: [PUT]}, to_carol, again)
    assert chains.persons(both, OWNER.did) == {BOB.did, CAROL.did}


def test_a_missing_parent_leaves_the_paths_unknown(chains: Chains) -> None:
    """Without a delegation above, the search fails and names nobody."""
    root = chains.add(ucan(KEYS[0], SESSION.did, {kv_of(KEYS[0]): [GET]}))
    below = chains.add(ucan(SESSION, BOB.did, {kv_of(KEYS[0]): [GET]}, prf=[root]))
    dependent, cited = chains.call(invoke(BOB, {kv_of(KEYS[0]): [GET]}, below))
    with pytest.raises(SupportUnknown):
        supporting_keys(dependent, cited, SupportingPaths({}))


def test_the_search_is_bounded(chains: Chains) -> None:
    """A client cannot make the node compare capabilities without end."""
    rows = {f"{kv_of(KEYS[0])}/{number}": [GET] for number in range(400)}
    rows |= {kv_of(KEYS[1]): [GET]}
    tops = [chains.add(ucan(key, SESSION.did, {kv_of(key): [GET]})) for key in KEYS[:2]]
    signers = [SESSION, BOB, CAROL, KEYS[2]]
    for signer, delegate in itertools.pairwise(signers):
        tops = [chains.add(ucan(signer, delegate.did, rows, prf=tops))]
    assert 2 * 401 * 401 > MAX_COMPARISONS  # between the last three
    with pytest.raises(SupportUnknown):
        chains.accounts(tops[0])


# --- compared with the rules of chains ------------------------------------------------------------


def is_registrable(world: World, header: str) -> bool:
    try:
        world.judge(header)
    except ChainError:
        return False
    return True


@dataclass
class Literal:
    """A second search: whether a parent alone, and a row of it alone, would have been enough.

    It has the chain rules judge a copy of the child that has one capability and cites one parent,
    which is a copy with one capability too.
    """

    chains: Chains
    headers: dict[str, tuple[Ed25519Signer, str, dict[str, list[str]], list[str]]]

    def paths(self, cid: str, resource: str, ability: str) -> Iterator[list[str]]:
        """Yield each supporting path of a capability of a delegation, upwards."""
        signer, _, _, prf = self.headers[cid]
        above = list(self.above(signer, resource, ability, prf))
        if resource.startswith(kv_of(signer)) or not above:
            yield [cid]
            return
        for parent, row, held in above:
            for path in self.paths(parent, row, held):
                yield [cid, *path]

    def above(
        self, signer: Ed25519Signer, resource: str, ability: str, prf: Sequence[str]
    ) -> Iterator[tuple[str, str, str]]:
        for parent in prf:
            parent_signer, delegate, att, _ = self.headers[parent]
            if delegate != signer.did:
                continue
            for row, abilities in att.items():
                for held in abilities:
                    world = World()
                    # As if the signer of the parent were the root of the row.
                    clone = ucan(parent_signer, delegate, {row: [held]})
                    world.put(_unjudged(clone))
                    child = ucan(
                        signer, BOB.did, {resource: [ability]}, prf=[_cid(clone)], exp=NOW + 600
                    )
                    if not resource.startswith(kv_of(signer)) and is_registrable(world, child):
                        yield parent, row, held


def _unjudged(header: str) -> Registered:
    delegation = verify_delegation(parse_delegation(header))
    own = Ancestor(delegation.content_key, delegation.cid)
    return Registered(delegation, (own,), None, delegation.expires_at, ())


def _cid(header: str) -> str:
    return cid_text(_unjudged(header).delegation.cid)


def drawn(seed: int) -> Literal:
    """Draw delegations among a few keys, which cite others at random."""
    rng = random.Random(seed)
    chains = Chains()
    literal = Literal(chains, {})
    for _ in range(12):
        signer, delegate = rng.choice(KEYS[:4]), rng.choice(KEYS[:4]).did
        att = {}
        for _ in range(rng.randint(1, 3)):
            resource = kv_of(rng.choice(KEYS[:3])) + rng.choice(PATHS)
            att[resource] = sorted(rng.sample([GET, PUT], rng.randint(1, 2)))
        known = list(literal.headers)
        prf = rng.sample(known, min(len(known), rng.randint(0, 3)))
        if any(not resource.startswith(kv_of(signer)) for resource in att):
            prf = [one for one in prf if literal.headers[one][1] == signer.did]
        header = ucan(signer, delegate, att, prf=prf)
        if is_registrable(chains.world, header):
            literal.headers[chains.add(header)] = (signer, delegate, att, prf)
    return literal


@given(st.integers(0, 2**32))
@fuzzed(1)
def test_support_is_found_as_the_rules_say(seed: int) -> None:
    """For random citations: nobody is named who does not support a token, and nobody is missing."""
    literal = drawn(seed)
    chains = literal.chains
    for cid, (signer, _, att, _) in literal.headers.items():
        signers = {signer.did} if any(one.startswith(kv_of(signer)) for one in att) else set()
        for resource, abilities in att.items():
            for ability in abilities:
                for path in literal.paths(cid, resource, ability):
                    for link in path:
                        own, _, granted, _ = literal.headers[link]
                        if any(one.startswith(kv_of(own)) for one in granted):
                            signers.add(own.did)
        assert chains.accounts(cid) == signers
    for invoker in KEYS[:4]:
        cited = [cid for cid, header in literal.headers.items() if header[1] == invoker.did]
        resource = kv_of(KEYS[0]) + PATHS[2]
        header = invoke(invoker, {resource: [GET]}, *cited)
        try:
            dependent, _ = chains.call(header)
        except ChainError:
            continue
        reached: set[str] = set()
        ends = set()
        if dependent:
            for parent, row, held in literal.above(invoker, resource, GET, cited):
                for path in literal.paths(parent, row, held):
                    reached.update(path)
                    ends.add(literal.headers[path[-1]][1])
        assert chains.supporting(header) == chains.keys(*reached)
        # Keys sign in nobody here, so the person is the recipient of the owner's grant.
        assert chains.persons(header, KEYS[0].did) == ends
        assert all(is_own(Principal(KEYS[0].did), one) for one in dependent)
