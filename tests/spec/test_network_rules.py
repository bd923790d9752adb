"""Tests over HTTP of rules about networks, challenges and releases that need a whole node."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import libipld
import pytest
from attacks.parties import Delegate, Owner, Stage, put_policy, refused, stage_on
from audit_records import audit_records
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from running_node import Grants, Reply, id_of, key_token, new_key, send

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.resources import network_id
from capabilities.strict_base64 import encode_standard, encode_url
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.envelope import encode_envelope
from encryption_network.networks import parse_descriptor
from encryption_network.policy import Policy, parse_policy, policy_json
from encryption_network.requests import admin_fact
from encryption_network.signed_descriptor import verify_descriptor
from node.config.tree import Config, Http, Limits
from sealspace.delegations import allow
from sealspace.wire.transport import path_segment

CHALLENGES = 3
GET = "tinycloud.kv/get"


@dataclass
class Here(Stage):
    """A node in this process with a small supply of challenges, and the parties that act there."""

    embedded: EmbeddedNode | None = None

    async def create(self, who: Delegate, owner: Owner, name: str, *, nonce: str) -> Reply:
        """Request the creation of a network of the owner."""
        did = owner.client.session.owner
        body: dict[str, Json] = {"name": name, "ownerDid": did, "threshold": {"n": 1, "t": 1}}
        return await self._admin(
            "/encryption/networks", who, network_id(did, name).text, NETWORK_CREATE, body, nonce
        )

    async def revoke_network(self, who: Delegate, network: str) -> Reply:
        """Request the revocation of a network."""
        path = f"/encryption/networks/{path_segment(network)}/revoke"
        return await self._admin(path, who, network, NETWORK_REVOKE, {}, None)

    async def _admin(
        self,
        path: str,
        who: Delegate,
        network: str,
        action: str,
        body: dict[str, Json],
        nonce: str | None,
    ) -> Reply:
        fact = admin_fact(network, target_node=self.node_did, action=action, body=body)
        grants = {network: [action]}
        token = key_token(
            who.signer, self.node_did, grants, proofs=who.proofs, facts=[fact], nonce=nonce
        )
        return await send(
            self.url, "POST", path, token=token, body=canonical_bytes(body), headers=_JSON
        )


_JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    """A node for one test."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=store_at(tmp_path),
        limits=Limits(challenges_per_minute=CHALLENGES),
    )
    platform = SimulatedPlatform.from_seed(b"platform of the rules")
    async with embedded_node(config) as node, AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        yield Here(stage.url, platform, clients, stage.node_did, embedded=node)


async def delegate_of(
    here: Here, owner: Owner, *abilities: str, network: str | None = None
) -> Delegate:
    """Return a key to which the owner's wallet granted rights on a network."""
    delegate = Delegate()
    grant = owner.grant(delegate.did, {network or owner.network: abilities})
    delegate.proofs = [await here.register(grant)]
    return delegate


async def test_delegates_create_and_revoke(here: Here) -> None:
    """A delegate with the ability creates and revokes the owner's networks (EN16, enc-W10)."""
    owner = await here.owner()
    network = network_id(owner.client.session.owner, "more").text
    helper = await delegate_of(here, owner, NETWORK_CREATE, NETWORK_REVOKE, network=network)
    made = await here.create(helper, owner, "more", nonce="first")
    assert made.status == 200, made.said
    descriptor = json.loads(made.body)["descriptor"]
    assert descriptor["ownerDid"] == owner.client.session.owner
    assert descriptor["threshold"] == {"n": 1, "t": 1}
    assert (await here.revoke_network(helper, network)).status == 204
    assert (await here.revoke_network(helper, network)).status == 204


async def test_a_descriptor_is_signed_for_who_asks_with_a_nonce(here: Here) -> None:
    """With a nonce a descriptor is signed over key, state and nonce; without one it is unsigned
    (EN6, EN28)."""
    owner = await here.owner()
    client = owner.client
    await client.delegations.add_right(owner.wallet, [allow(owner.network, NETWORK_REVOKE)])
    path = f"/encryption/networks/{path_segment(owner.network)}"
    bare = await send(here.url, "GET", path)
    assert list(bare.value) == ["descriptor"]
    nonce = encode_url(bytes(range(16)))
    for state in ("active", "revoked"):
        signed = (await send(here.url, "GET", f"{path}?nonce={nonce}&other=1")).value
        assert list(signed) == ["descriptor", "nodeSignature"]
        read = parse_descriptor(signed)
        verify_descriptor(read, signed["nodeSignature"], node_did=here.node_did, nonce=nonce)
        assert state == read.state
        assert signed["descriptor"] == (await send(here.url, "GET", path)).value["descriptor"]
        await client.encryption.revoke_network(client.encryption.network())
    more = network_id(client.session.owner, "more").text
    made = await here.create(
        await delegate_of(here, owner, NETWORK_CREATE, network=more), owner, "more", nonce="first"
    )
    assert (made.status, list(made.value)) == (200, ["descriptor"])


@pytest.mark.parametrize(
    "query",
    [
        "nonce=",
        "nonce",
        f"nonce={encode_url(bytes(15))}",
        f"nonce={encode_url(bytes(33))}",
        f"nonce={encode_url(bytes(16))}%3D%3D",
        f"nonce={encode_url(bytes(16))[:-1]}B",
        f"nonce={encode_url(bytes(16))}%0A",
        f"nonce={encode_url(bytes(16))}&nonce={encode_url(bytes(16))}",
        "nonce=" + "A" * 4000,
        "nonce=%22%2C%22state%22%3A%22active%22%7D",
    ],
)
async def test_what_is_no_nonce(here: Here, query: str) -> None:
    """The node signs only nonces of 16 to 32 bytes in canonical spelling (EN28)."""
    owner = await here.owner()
    for network in (owner.network, network_id(owner.client.session.owner, "absent").text):
        answer = await send(
            here.url, "GET", f"/encryption/networks/{path_segment(network)}?{query}"
        )
        assert answer.said == (
            400,
            "the request must contain one nonce, of 16 to 32 bytes in base64url without padding",
        )


async def test_a_network_that_is_not_there_is_not_signed_for(here: Here) -> None:
    """A request with a nonce for a missing network gets the same answer as without a nonce
    (EN28)."""
    absent = network_id(here.node_did, "absent").text
    for path, said in ((absent, (404, "network not found")), ("x", (400, _NO_PREFIX))):
        for query in ("", f"?nonce={encode_url(bytes(16))}"):
            assert (
                await send(here.url, "GET", f"/encryption/networks/{path_segment(path)}{query}")
            ).said == said


_NO_PREFIX = "missing urn:tinycloud:encryption: prefix"


async def test_a_nonce_stays_claimed_when_the_call_fails(here: Here) -> None:
    """A nonce of a failed call is used up for its issuer (EN15)."""
    owner = await here.owner()
    session = owner.session
    assert (await here.create(session, owner, "default", nonce="claim")).status == 200  # EN31
    assert (await here.create(session, owner, "default", nonce="one")).said == (
        409,
        "network already exists",
    )
    assert (await here.create(session, owner, "default", nonce="one")).said == (
        401,
        "nonce already used",
    )
    helper = await delegate_of(here, owner, NETWORK_CREATE)
    assert (await here.create(helper, owner, "default", nonce="one")).said == (
        409,
        "network already exists",
    )


async def test_each_decision_is_recorded(here: Here) -> None:
    """The audit has a record of every decision with its cause (RL14, enc-W12, enc 2.10)."""
    owner = await here.owner()
    delegate = await delegate_of(here, owner, "tinycloud.encryption/decrypt")
    assert (await here.ask(delegate, owner)).said == refused("no_policy")
    assert (await here.ask(delegate, owner, "invoke")).said == refused("no_policy", "invoke")
    assert (await here.ask(owner.session, owner)).status == 200
    assert here.embedded is not None
    records = await audit_records(here.embedded.services.store)
    reported = [(one.action, one.actor) for one in records if one.action.startswith("release.")]
    refusal = ("release.refused", delegate.did)
    assert reported == [refusal, refusal, ("release.authorised", owner.session.did)]
    details = [json.loads(one.detail) for one in records if one.action == "release.refused"]
    assert [one["reason"] for one in details] == ["no_policy", "no_policy"]


async def test_a_policy_that_is_refused(here: Here) -> None:
    """An invalid policy, an unknown network and a call not in person are refused with different
    codes (RL18)."""
    owner = await here.owner()
    session = owner.session
    assert (await _put(here, session, owner.network, {"surprise": 1})).value[
        "code"
    ] == "invalid-policy"
    assert (await put_policy(here, session, owner, Policy())).status == 401
    session.proofs.append(await here.register(owner.grant(session.did, {owner.network: [_SET]})))
    assert (await _put(here, session, owner.network, {}, fact_network="other")).value[
        "code"
    ] == "session-not-bound"
    decrypt = "tinycloud.encryption/decrypt"
    for grants in (
        {owner.network: [decrypt]},
        {owner.network: [_SET, decrypt]},
        {f"{owner.space()}/kv/a": [GET]},
        {},
    ):
        assert (await _put(here, session, owner.network, {}, grants=grants)).value[
            "code"
        ] == "session-not-bound"
    absent = network_id(owner.client.session.owner, "absent").text
    session.proofs.append(await here.register(owner.grant(session.did, {absent: [_SET]})))
    assert (await _put(here, session, absent, {})).value["code"] == "network-unknown"
    delegate = await delegate_of(here, owner, _SET)
    assert (await _put(here, delegate, owner.network, {})).value["code"] == "policy-not-in-person"


async def test_a_policy_is_read_by_whoever_may(here: Here) -> None:
    """Only the owner and a delegate with the ability can read the policy (RL20)."""
    owner = await here.owner()
    session = owner.session
    session.proofs.append(
        await here.register(owner.grant(session.did_url, {owner.network: [_SET]}))
    )
    assert (await _policy(here, session, owner.network)).value == {"policy": None}
    value: dict[str, Json] = {"inPerson": False, "maxAgeSeconds": 60}
    assert (await _put(here, session, owner.network, value)).status == 204
    delegate = await delegate_of(here, owner, _SET)
    for who in (session, delegate):
        assert (await _policy(here, who, owner.network)).value == {
            "policy": policy_json(parse_policy(value))
        }
    decrypting = await delegate_of(here, owner, "tinycloud.encryption/decrypt")
    assert (await _policy(here, decrypting, owner.network)).status == 401
    both = delegate.grant(
        here.node_did, {owner.network: [_SET, "tinycloud.encryption/decrypt"]}, ttl_s=60
    )
    path = f"/encryption/networks/{path_segment(owner.network)}/policy"
    assert (await send(here.url, "GET", path, token=both)).value["code"] == "session-not-bound"
    token = delegate.grant(here.node_did, {owner.network: [_SET]}, ttl_s=60)
    assert [(await send(here.url, "GET", path, token=token)).status for _ in range(2)] == [200, 409]
    absent = network_id(owner.client.session.owner, "absent").text
    session.proofs.append(await here.register(owner.grant(session.did, {absent: [_SET]})))
    assert (await _policy(here, session, absent)).value["code"] == "network-unknown"


async def test_RL23_the_owner_asks_where_a_key_is_stored(here: Here) -> None:
    """The owner in person learns at most two paths of a content key, and nobody else does
    (RL23)."""
    owner = await here.owner()
    kv, encryption = owner.client.kv("default"), owner.client.encryption
    fresh = await encryption.encrypt(b"value", network=encryption.network())
    assert await encryption.paths_of(fresh) == ()
    data = encode_envelope(fresh)
    long_path = "p" * 401
    await kv.put(long_path, data)
    first, second = (f"{owner.space()}/kv/{path}" for path in (long_path, "copy"))
    assert await encryption.paths_of(data) == (first,)
    await kv.put("copy", data)
    await kv.put("third", data)
    assert await encryption.paths_of(fresh) == (first, second)
    await kv.delete("copy")
    assert await encryption.paths_of(fresh) == (first, second)
    await kv.delete(long_path)
    assert await encryption.paths_of(fresh) == (None, second)
    damaged = replace(fresh, encrypted_symmetric_key=encode_standard(bytes(93)))
    assert await encryption.paths_of(damaged) == ()
    delegate = await delegate_of(here, owner, _DECRYPT)
    assert (await _paths(here, delegate, owner.network)).value["code"] == "policy-not-in-person"
    assert (await _paths(here, owner.session, owner.network)).value == {"paths": []}


@pytest.mark.parametrize("key", ["", "A", "AAA=", "A+AA", "é", "A" * 343, "A" * 3000])
async def test_RL23_a_key_that_cannot_be_read(here: Here, key: str) -> None:
    """The wrapped key is base64url without padding, of at most 256 bytes (RL23)."""
    owner = await here.owner()
    reply = await _paths(here, owner.session, owner.network, key)
    assert (reply.status, reply.value["code"]) == (400, "request-malformed")


async def test_RL23_a_token_for_this_question_alone(here: Here) -> None:
    """A token with facts, another right or another network, or one that was used, is refused; so
    is a question about a network that does not exist (RL23)."""
    owner = await here.owner()
    session = owner.session
    token = session.grant(here.node_did, {owner.network: [_DECRYPT]}, ttl_s=60)
    path = f"/encryption/networks/{path_segment(owner.network)}/paths?key=AAAA"
    assert [(await send(here.url, "GET", path, token=token)).status for _ in range(2)] == [200, 409]
    fact: dict[str, Json] = {"a": 1}
    for grants, facts in (
        ({owner.network: [_DECRYPT]}, [fact]),
        ({owner.network: [_SET]}, []),
        ({owner.network + "2": [_DECRYPT]}, []),
    ):
        token = session.grant(here.node_did, grants, facts=facts, ttl_s=60)
        reply = await send(here.url, "GET", path, token=token)
        assert (reply.status, reply.value["code"]) == (403, "session-not-bound")
    absent = network_id(owner.client.session.owner, "absent").text
    session.proofs.append(await here.register(owner.grant(session.did, {absent: [_DECRYPT]})))
    assert (await _paths(here, session, absent)).value["code"] == "network-unknown"


_DECRYPT = "tinycloud.encryption/decrypt"


async def _paths(here: Here, who: Delegate, network: str, key: str = "AAAA") -> Reply:
    token = who.grant(here.node_did, {network: [_DECRYPT]}, ttl_s=60)
    path = f"/encryption/networks/{path_segment(network)}/paths?key={path_segment(key)}"
    return await send(here.url, "GET", path, token=token)


_SET = "sealspace.encryption/policy"


async def _policy(here: Here, who: Delegate, network: str) -> Reply:
    token = who.grant(here.node_did, {network: [_SET]}, ttl_s=60)
    return await send(
        here.url, "GET", f"/encryption/networks/{path_segment(network)}/policy", token=token
    )


async def _put(
    here: Here,
    who: Delegate,
    network: str,
    value: dict[str, Json],
    *,
    fact_network: str | None = None,
    grants: Grants | None = None,
) -> Reply:
    fact: dict[str, Json] = {
        "type": "sealspace.encryption.policy/v1",
        "targetNode": here.node_did,
        "networkId": fact_network or network,
        "bodyHash": canonical_hash(value),
    }
    token = who.grant(
        here.node_did, {network: [_SET]} if grants is None else grants, facts=[fact], ttl_s=60
    )
    path = f"/encryption/networks/{path_segment(network)}/policy"
    return await send(
        here.url, "PUT", path, token=token, body=canonical_bytes(value), headers=_JSON
    )


async def test_challenges(here: Here) -> None:
    """Anybody can request a limited number of new nonces per minute (AT1)."""
    did = new_key().did
    replies = [await _challenge(here, did) for _ in range(CHALLENGES + 1)]
    assert [reply.status for reply in replies] == [200] * CHALLENGES + [429]
    nonces = [
        libipld.decode_multibase("u" + str(reply.value["nonce"]))[1] for reply in replies[:-1]
    ]
    assert {len(nonce) for nonce in nonces} == {32}
    assert len(set(nonces)) == CHALLENGES
    assert set(replies[0].value) == {"nonce", "expiresAt"}
    assert replies[-1].value["code"] == "too-many-requests"


async def _challenge(here: Here, did: str) -> Reply:
    return await send(
        here.url,
        "POST",
        "/attestation/challenge",
        body=canonical_bytes({"did": did}),
        headers=_JSON,
    )


async def test_a_revoker_whom_nobody_knows(here: Here) -> None:
    """A key that never issued a token can revoke a delegation to itself (Q14, W24)."""
    owner = await here.owner()
    delegate = Delegate()
    grant = await here.register(owner.grant(delegate.did, {f"{owner.space()}/kv/a": [GET]}))
    cid = id_of(grant)
    token = key_token(
        delegate.signer, delegate.did, {f"urn:cid:{cid}": ["tinycloud.delegation/revoke"]}
    )
    for _ in range(2):
        reply = await here.post("/revoke", token)
        assert (reply.status, reply.value) == (200, {"revoked": True, "cid": cid})
    refusal = await here.invoke(delegate.signer, {f"{owner.space()}/kv/a": [GET]}, proofs=[grant])
    assert refusal.status == 401
