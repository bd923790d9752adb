"""Encryption networks: what a nonce is good for."""

from attacks.parties import Stage
from running_node import fresh_nonce, key_token, new_key, send

from capabilities.abilities import NETWORK_CREATE
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.requests import admin_fact


async def test_a_nonce_is_good_for_one_token_whatever_its_expiry(stage: Stage) -> None:
    """Another token with a used nonce is refused, also when it expires in another minute."""
    owner, nonce = new_key(), fresh_nonce()
    replies = []
    for name, ttl_s in (("one", 60), ("two", 300)):
        network = f"urn:tinycloud:encryption:{owner.did}:{name}"
        body: dict[str, Json] = {"name": name, "ownerDid": owner.did}
        fact = admin_fact(network, target_node=stage.node_did, action=NETWORK_CREATE, body=body)
        token = key_token(owner, stage.node_did, {network: [NETWORK_CREATE]}, facts=[fact], nonce=nonce, ttl_s=ttl_s)
        reply = await send(stage.url, "POST", "/encryption/networks", token=token, body=canonical_bytes(body))
        replies.append(reply.status)
    assert replies == [200, 401]
