"""Nonces of network administration are used once, and are not stored for ever."""

import json
import time
from dataclasses import dataclass

import pytest
from attacks.held_store import HeldStage
from attacks.parties import Delegate
from running_node import Reply, key_token, network_path, send

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.requests import admin_fact

pytestmark = pytest.mark.slow

USED = (401, "nonce already used")


@dataclass(frozen=True)
class RequestParameters:
    """A request to administer a key's own network."""

    path: str
    token: str
    body: bytes


def network_of(key: Delegate, name: str) -> str:
    """Return the id of a key's own network."""
    return f"urn:tinycloud:encryption:{key.did}:{name}"


def creation(
    held: HeldStage, key: Delegate, name: str, *, nonce: str, ttl_s: float
) -> RequestParameters:
    """Return a request to create a network, with a token of this lifetime."""
    body: dict[str, Json] = {"name": name, "ownerDid": key.did, "threshold": {"n": 1, "t": 1}}
    token = admin_token(
        held, key, network_of(key, name), NETWORK_CREATE, body=body, nonce=nonce, ttl_s=ttl_s
    )
    return RequestParameters("/encryption/networks", token, canonical_bytes(body))


def revocation(
    held: HeldStage, key: Delegate, name: str, *, nonce: str, ttl_s: float
) -> RequestParameters:
    """Return a request to revoke a network, with a token of this lifetime."""
    network = network_of(key, name)
    token = admin_token(held, key, network, NETWORK_REVOKE, body={}, nonce=nonce, ttl_s=ttl_s)
    return RequestParameters(network_path(network, "revoke"), token, b"{}")


def admin_token(
    held: HeldStage,
    key: Delegate,
    network: str,
    action: str,
    *,
    body: dict[str, Json],
    nonce: str,
    ttl_s: float,
) -> str:
    """Return a token that is bound to one action on one network."""
    return key_token(
        key.signer,
        held.node_did,
        {network: [action]},
        facts=[admin_fact(network, target_node=held.node_did, action=action, body=body)],
        nonce=nonce,
        ttl_s=held.clock.now() + ttl_s - time.time(),
    )


async def ask(held: HeldStage, asked: RequestParameters) -> Reply:
    """Send a request."""
    return await send(held.url, "POST", asked.path, token=asked.token, body=asked.body)


@pytest.mark.parametrize("first_s", [30, 60, 299])
async def test_a_nonce_serves_one_token_whenever_each_ends(held: HeldStage, first_s: int) -> None:
    """A used nonce is refused until its first token expires (EN15)."""
    key = Delegate()
    assert (await ask(held, creation(held, key, "first", nonce="one", ttl_s=first_s))).status == 200
    for later_s in (0, first_s // 2, first_s - first_s // 2 - 1):
        held.clock.advance(later_s)
        for second_s in (2, 59, 61, 120, 299):
            reply = await ask(held, creation(held, key, "second", nonce="one", ttl_s=second_s))
            assert reply.said == USED, (later_s, second_s)
            assert (
                await ask(held, revocation(held, key, "first", nonce="one", ttl_s=second_s))
            ).said == USED
    assert (await ask(held, revocation(held, key, "first", nonce="two", ttl_s=60))).status == 204


async def test_a_token_that_lives_long_does_nothing_twice(held: HeldStage) -> None:
    """A token of a year that is repeated after months has no further effect."""
    key, year_s = Delegate(), 365 * 86_400.0
    creating = creation(held, key, "first", nonce="one", ttl_s=year_s)
    revoking = revocation(held, key, "first", nonce="two", ttl_s=year_s)
    assert [(await ask(held, asked)).status for asked in (creating, revoking)] == [200, 204]
    for _ in range(2):  # the first time forgotten, the second time claimed anew
        for asked in (creating, revoking):
            assert (await ask(held, asked)).said == USED
        held.clock.advance(100 * 86_400)
        assert (await ask(held, creating)).said == (409, "network already exists")
        assert (await ask(held, revoking)).status == 204
    described = await send(held.url, "GET", network_path(network_of(key, "first"), "").rstrip("/"))
    assert json.loads(described.body)["descriptor"]["state"] == "revoked"


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_nonce_is_forgotten(held: HeldStage, is_refused: bool) -> None:
    """A nonce is deleted once no token with it can be valid (EN15)."""
    key = Delegate()
    assert (await ask(held, creation(held, key, "first", nonce="one", ttl_s=60))).status == 200
    nonce = "one"
    if is_refused:
        nonce = "refused"
        reply = await ask(held, creation(held, key, "first", nonce=nonce, ttl_s=60))
        assert reply.said == (409, "network already exists")
    assert (await ask(held, creation(held, key, "later", nonce=nonce, ttl_s=60))).said == USED
    held.clock.advance(1200)
    assert (await ask(held, creation(held, key, "later", nonce=nonce, ttl_s=60))).status == 200
