"""The ladder for creating and revoking a network, row by row."""

from typing import Any

import pytest
from refusal_forms import on_route
from tests_support import altered, coded

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.strict_json import Json
from encryption_network.network_errors import RequestError
from encryption_network.requests import (
    REVOKE_BODY_HASH,
    admin_fact,
    admin_nonce_key,
    bind_admin,
    check_audience,
    check_create,
    check_revoke,
    parse_create,
)

ANOTHER = "urn:tinycloud:encryption:did:key:zElse:default"


def admin(world: Any, **changes: Any) -> Any:
    """Bind a create token after changing its fact, token or claims."""
    body = {"name": "default", "ownerDid": world.owner, "threshold": {"n": 1, "t": 1}}
    network, wanted_hash = parse_create(body)
    fact = admin_fact(
        world.urn, target_node=world.keyring.node_did, action=NETWORK_CREATE, body=body
    )
    fact |= changes.pop("fact", {})
    facts = changes.pop("facts", [fact])
    action = changes.pop("action", NETWORK_CREATE)
    body_hash = changes.pop("body_hash", wanted_hash)
    token = {"att": {world.urn: {NETWORK_CREATE: [{}]}}} | changes
    invocation = world.invocation(world.session, facts=facts, **token)
    nonce = bind_admin(
        invocation,
        network,
        action=action,
        body_hash=body_hash,
        node_did=world.keyring.node_did,
    )
    return invocation, nonce


def test_admin_facts_tolerate_further_members(world: Any) -> None:
    """An administration fact may have unknown members."""
    _, nonce = admin(world, fact={"more": [1]})
    assert nonce == "urn:uuid:1"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"facts": []}, "body-malformed"),
        ({"fact": {"networkId": "x"}}, "body-malformed"),
        ({"fact": {"type": "tinycloud.encryption.decrypt/v1"}}, "type-mismatch"),
        ({"aud": "did:key:zSomebody"}, "audience-mismatch"),
        ({"fact": {"targetNode": "did:key:zSomebody"}}, "target-node-mismatch"),
        ({"fact": {"networkId": ANOTHER}}, "network-mismatch"),
        ({"fact": {"action": NETWORK_REVOKE}}, "action-not-permitted"),
        ({"action": NETWORK_REVOKE}, "action-not-permitted"),
        ({"att": {}}, "action-not-permitted"),
        ({"att": {ANOTHER: {NETWORK_CREATE: [{}]}}}, "network-mismatch"),
        ({"fact": {"bodyHash": "00"}}, "hash-mismatch"),
        ({"body_hash": REVOKE_BODY_HASH}, "hash-mismatch"),
        ({"nonce": None}, "body-malformed"),
    ],
)
def test_each_row_of_the_admin_ladder(world: Any, changes: dict[str, Any], kind: str) -> None:
    """A create token with one fault is refused by the row for that fault."""
    with pytest.raises(RequestError, check=coded(kind)):
        admin(world, **changes)


def test_a_missing_nonce_says_so(world: Any) -> None:
    """A create or revoke token without a nonce is refused."""
    with pytest.raises(RequestError, check=coded("body-malformed")) as caught:
        admin(world, nonce=None)
    assert caught.value.text == "decrypt request body is malformed: missing nonce"


def test_a_nonce_belongs_to_its_issuer(world: Any) -> None:
    """The replay key depends on issuer and nonce, but not on the token."""
    first, nonce = admin(world)
    again, _ = admin(world, exp=world.now + 30)
    assert first.cid != again.cid
    assert admin_nonce_key(first, nonce) == admin_nonce_key(again, nonce)
    assert admin_nonce_key(first, nonce) != admin_nonce_key(first, nonce + "x")
    assert admin_nonce_key(first, nonce) != admin_nonce_key(
        altered(first, invoker="did:key:zElse"), nonce
    )
    assert len(admin_nonce_key(first, nonce)) == 32


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"ownerDid": "did:key:z:x"}, "create-body-malformed", "missing field `name`"),
        ({"name": "n"}, "create-body-malformed", "missing field `ownerDid`"),
        (
            {"name": 1, "ownerDid": "x"},
            "create-body-malformed",
            "invalid type: integer `1`, expected a string",
        ),
        (
            {"name": "n", "ownerDid": "x", "threshold": {"n": 1}},
            "create-body-malformed",
            "missing field `t`",
        ),
        (
            {"name": "n", "ownerDid": "x", "threshold": {"n": -1, "t": 1}},
            "create-body-malformed",
            "invalid value: integer `-1`, expected u32",
        ),
        ({"name": "n", "ownerDid": ""}, "invalid-network-id", "empty owner DID"),
        ({"name": "", "ownerDid": "x"}, "invalid-network-id", "empty network name"),
        (
            {"name": "a:b", "ownerDid": "x"},
            "invalid-network-id",
            "network name may not contain ':' or '/'",
        ),
    ],
)
def test_malformed_create_bodies(body: Any, kind: str, text: str) -> None:
    """The members are checked before the id; both errors are a bare text."""
    with pytest.raises(RequestError, check=coded(kind)) as caught:
        parse_create(body)
    assert on_route(caught.value) == (400, text)


def test_create_bodies_are_tolerant(world: Any) -> None:
    """Unknown members are part of the hash; the threshold may be absent, null or one of one."""
    body: dict[str, Json] = {"name": "odd-1", "ownerDid": "not a did"}
    assert parse_create(body | {"threshold": None})[0] == parse_create(body)[0]
    assert parse_create(body)[1] != parse_create(body | {"x": 1.5})[1]


@pytest.mark.parametrize("name", ["Odd", "-odd", "o_d", "o.d", "ä", "o d"])
def test_new_networks_have_names_that_clients_can_write(name: str) -> None:
    """A network with a name that clients cannot write is refused (enc-D4)."""
    with pytest.raises(
        RequestError, check=coded("create-body-malformed"), match="the name of a new network"
    ):
        parse_create({"name": name, "ownerDid": "did:key:z"})


@pytest.mark.parametrize("threshold", [{"n": 5, "t": 3}, {"n": 1, "t": 2}, {"n": 0, "t": 0}])
def test_thresholds_that_mean_nothing_are_refused(threshold: dict[str, Json]) -> None:
    """A threshold other than one of one is refused (enc-D1)."""
    with pytest.raises(
        RequestError, check=coded("create-body-malformed"), match="threshold must be n 1 and t 1"
    ):
        parse_create({"name": "n", "ownerDid": "did:key:z", "threshold": threshold})


def test_create_and_revoke_look_at_what_exists(world: Any) -> None:
    """Creating needs a free id or an unclaimed network (EN31); revoking needs a network."""
    check_create(None)
    check_create(altered(world.network, claimed=False))
    for taken in (
        {},
        {"state": "revoked"},
        {"state": "revoked", "claimed": False},
        {"state": "failed", "claimed": False},
    ):
        with pytest.raises(RequestError, check=coded("network-exists")):
            check_create(altered(world.network, **taken))
    assert check_revoke(altered(world.network, state="revoked")).state == "revoked"
    with pytest.raises(RequestError, check=coded("network-not-found")):
        check_revoke(None)


def test_the_audience_is_compared_as_text(world: Any) -> None:
    """An audience with a fragment is a different audience."""
    check_audience(world.keyring.node_did, world.keyring.node_did)
    with pytest.raises(RequestError, check=coded("audience-mismatch")):
        check_audience(world.keyring.node_did + "#x", world.keyring.node_did)
