"""Rules MT4 and OX4: machine tokens that a node signed under a trust, at the gate."""

from collections.abc import Mapping
from typing import Any

import pytest
from capability_cases import machine_statement
from tests_support import altered

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.chain import Ancestor, Marker, Registered
from capabilities.cids import cid_text
from capabilities.facts import MACHINE_FACT, OIDC_FACT
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation, verify_delegation
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.gate import admit
from encryption_network.keyring import Keyring

ISSUER = "https://ci.test"
PRESENTED: dict[str, Json] = {"iss": ISSUER, "sub": "job", "ref": "main"}


def signed(
    world: Any,
    signer: Ed25519Signer,
    holder: str,
    statement: str,
    *above: Registered,
    names: tuple[str, ...] = ("ONE",),
    lifetime_s: int = 600,
    registered_at: float | None = None,
    **stated: Any,
) -> Registered:
    """Return a delegation to read secrets, as the gate finds it, whether a node registers it or
    not."""
    ends_at, paths = int(world.now) + lifetime_s, [world.path(name) for name in names]
    members = machine_statement(key=holder, paths=paths, ends_at=ends_at, name="shop")
    att = {path: [KV_GET] for path in paths} | {world.urn: [DECRYPT]}
    payload = UcanPayload(
        iss=signer.did_url,
        aud=holder,
        exp=ends_at,
        fct=[{statement: members | stated}],
        prf=[cid_text(one.delegation.cid) for one in above],
        att={resource: {name: [{}] for name in held} for resource, held in att.items()},
    )
    delegation = verify_delegation(parse_delegation(encode_ucan(payload, signer)))
    key = delegation.content_key
    closure = (Ancestor(key, delegation.cid), *[one for link in above for one in link.closure])
    link = Registered(
        delegation,
        closure,
        None,
        ends_at,
        tuple(one.delegation.content_key for one in above),
        registered_at=world.now if registered_at is None else registered_at,
    )
    world.links[key], world.marks[key] = link, Marker.LIVE
    return link


def trust_of(world: Any, **changes: Any) -> Registered:
    """Return the trust of an owner that is a key, in the node's exchange key."""
    key = changes.pop("to", world.keyring.exchange_signer.did)
    stated: dict[str, Any] = {"issuer": ISSUER, "claims": {"ref": ["main", "next"]}}
    stated = {"lifetime_s": 86_400} | stated | changes
    return signed(world, world.backend, key, OIDC_FACT, **stated)


def made(world: Any, trust: Registered, **changes: Any) -> Registered:
    """Return the machine token that the node signs for a job."""
    signer = changes.pop("signer", world.keyring.exchange_signer)
    holder = changes.pop("holder", world.other.did)
    stated: dict[str, Any] = {"claims": PRESENTED} | changes
    return signed(world, signer, holder, MACHINE_FACT, trust, **stated)


def ask(world: Any, *proofs: Registered, name: str = "ONE", holder: Any = None) -> Any:
    """Return a request of the job for a key that is stored at the path of a secret."""
    paths = {world.path(name): world.row(name)}
    return world.request(holder or world.other, proofs, key_paths=paths)


@pytest.fixture
def owned(world: Any) -> Any:
    """A world whose network belongs to a key."""
    world.own_network()
    return world


def test_OX4_a_token_under_a_trust_opens_its_paths(owned: Any) -> None:
    """A token under a trust opens only its paths, while both delegations are live (OX4)."""
    trust = trust_of(owned, names=("ONE", "TWO"))
    token = made(owned, trust)
    permit = admit(ask(owned, token))
    assert permit.ground == "machine"
    assert permit.holder.name == "shop"
    assert permit.holder.claims == PRESENTED
    assert permit.live == (token.delegation.content_key, trust.delegation.content_key)
    assert owned.reason_of(ask(owned, token, name="TWO")) == "path"
    for gone in (token, trust):
        request = ask(owned, token)
        marks = {gone.delegation.content_key: None}
        assert owned.reason_of(owned.with_facts(request, marks=marks)) == "chain"


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": {"iss": ISSUER, "sub": "job"}},
        {"claims": PRESENTED | {"ref": "other"}},
        {"claims": PRESENTED | {"ref": ["main"]}},
        {"claims": PRESENTED | {"iss": "https://other.test"}},
        {"claims": PRESENTED | {"event_name": "pull_request_target"}},
        {"claims": {}},
        {"claims": None},
        {"names": ("ONE", "TWO")},
        {"name": "other"},
        {"lifetime_s": 901},
        {"lifetime_s": 600, "registered_at": 0.0},
        {"signer": Ed25519Signer(b"\x55" * 32)},
        {"holder": "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"},
        {"more": 1},
    ],
    ids=str,
)
def test_OX4_the_gate_compares_it_with_its_trust(owned: Any, changes: Mapping[str, Any]) -> None:
    """A token that differs from its trust opens nothing, even if it was registered."""
    token = made(owned, trust_of(owned), **changes)
    assert reason(owned, token) == "chain"


def reason(world: Any, *proofs: Registered) -> str:
    """Return why the gate refuses, for any rules of chains."""
    request = ask(world, made(world, trust_of(world), claims=PRESENTED | {"sub": "another"}))
    keys = {one.content_key: world.links[one.content_key] for p in proofs for one in p.closure}
    cited = tuple(one.delegation.content_key for one in proofs)
    return str(world.reason_of(world.with_facts(request, links=keys, cited=cited)))


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": {}},
        {"claims": {"ref": []}},
        {"claims": {"ref": ["other"]}},
        {"issuer": "http://ci.test"},
        {"issuer": "https://other.test"},
        {"lifetime_s": 367 * 86_400},
        {"lifetime_s": 300},
        {"names": ("TWO",)},
        {"more": 1},
    ],
    ids=str,
)
def test_OX1_the_gate_reads_the_trust_again(owned: Any, changes: Mapping[str, Any]) -> None:
    """A trust that is not valid, or does not contain the token, opens nothing."""
    assert reason(owned, made(owned, trust_of(owned, **changes))) == "chain"


def test_OX2_another_node_s_exchange_key(owned: Any) -> None:
    """A token that another node made under a trust in its own key opens nothing here."""
    other = Keyring(b"\x09" * 32).exchange_signer
    trust = trust_of(owned, to=other.did)
    token = made(owned, trust, signer=other)
    assert reason(owned, token) == "chain"
    request = altered(ask(owned, token), exchange_key=other.did)
    assert admit(request).ground == "machine"


def test_OX4_nothing_else_is_cited(owned: Any) -> None:
    """The gate refuses a trust alone, a second proof, and a token below a token (OX4)."""
    trust = trust_of(owned)
    token = made(owned, trust)
    exchange = owned.keyring.exchange_signer
    assert owned.reason_of(ask(owned, trust, holder=exchange)) == "chain"
    second = made(owned, trust, claims=PRESENTED | {"sub": "again"})
    assert reason(owned, token, second) == "chain"
    below = signed(owned, owned.other, owned.session.did, MACHINE_FACT, token, claims=PRESENTED)
    assert reason(owned, below) == "chain"
    plain = made(owned, owned.machine(exchange, signer=owned.backend))
    assert reason(owned, plain) == "chain"
