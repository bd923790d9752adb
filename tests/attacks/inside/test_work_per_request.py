"""The work that one request of an outsider can cause at the node."""

import asyncio
import time
from typing import Any

import pytest
from attacks.inside_stage import inside
from attacks.parties import GET, PUT, Stage, base64_of
from running_node import Grants, key_token, network_path, new_key, send

from capabilities.abilities import NETWORK_CREATE
from capabilities.chain import Marker, Registered, judge_registration
from capabilities.cids import Digest
from capabilities.facts import ATTESTATION_FACT
from capabilities.signatures import Ed25519Signer
from capabilities.strict_json import Json
from capabilities.tokens import parse_delegation, verify_delegation
from encryption_network.canonical_json import canonical_bytes
from encryption_network.policy import Policy, policy_json
from encryption_network.requests import admin_fact, decrypt_body_json, decrypt_fact
from spaces.grants.delegation_cache import Delegations

DECRYPT = "tinycloud.encryption/decrypt"


async def own_network(stage: Stage, key: Ed25519Signer) -> str:
    """Create a network with a new key."""
    network = f"urn:tinycloud:encryption:{key.did}:default"
    body: dict[str, Json] = {"name": "default", "ownerDid": key.did}
    fact = admin_fact(network, target_node=stage.node_did, action=NETWORK_CREATE, body=body)
    token = key_token(key, stage.node_did, {network: [NETWORK_CREATE]}, facts=[fact])
    reply = await send(
        stage.url, "POST", "/encryption/networks", token=token, body=canonical_bytes(body)
    )
    assert reply.status == 200, reply.said
    return network


async def ask_with_path(stage: Stage, key: Ed25519Signer, path: str) -> tuple[int, str]:
    """Request a key of an own network under an own grant whose policy names a path."""
    network = await own_network(stage, key)
    policy = policy_json(Policy(paths=(path,)))
    grant = await stage.register(
        key_token(key, key.did, {network: [DECRYPT]}, facts=[{ATTESTATION_FACT: policy}])
    )
    body = decrypt_body_json(
        network,
        target_node=stage.node_did,
        alg="x25519-aes256gcm/v1",
        key_version=1,
        encrypted_symmetric_key=base64_of(bytes(93)),
        receiver_public_key=bytes(32),
    )
    token = key_token(
        key, stage.node_did, {network: [DECRYPT]}, proofs=[grant], facts=[decrypt_fact(body)]
    )
    reply = await send(
        stage.url, "POST", network_path(network, "decrypt"), token=token, body=canonical_bytes(body)
    )
    return reply.said


async def store_large(stage: Stage, key: Ed25519Signer, size_bytes: int) -> str:
    """Store a large value, delete its file, and return its resource; reading it fails."""
    path = f"tinycloud:{key.did[4:]}:default/kv/large"
    reply = await stage.invoke(key, {path: [PUT]}, body=b"[" + b" " * size_bytes + b"]")
    assert reply.status == 200, reply.said
    for place in (inside(stage).services.config.data / "blobs").glob("??/*"):
        place.unlink()
    return path


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_what_is_no_envelope_by_its_size_is_not_read_for_a_policy(stage: Stage) -> None:
    """A value that is too large for an envelope is not loaded for a policy.

    Parsing 48 MB of nested arrays holds the event loop for thirteen seconds, and a request may name
    256 such paths, all of them one file.
    """
    outsider = new_key()
    path = await store_large(stage, outsider, 40_000_000)
    assert await ask_with_path(stage, outsider, path) == (401, "release refused: path")


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_looking_for_an_envelope_does_not_hold_the_event_loop(stage: Stage) -> None:
    """A policy that names a value of 12 MB does not block other requests."""
    outsider = new_key()
    path = f"tinycloud:{outsider.did[4:]}:default/kv/nested"
    nested = b'{"v":1,"x":[' + b"[]," * 4_000_000 + b"[]]}"
    assert (await stage.invoke(outsider, {path: [PUT]}, body=nested)).status == 200
    longest_s = 0.0  # of CPU time, by whichever thread: other processes on the machine do not count

    async def watch() -> None:
        nonlocal longest_s
        while True:
            before = time.process_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.process_time() - before)

    watching = asyncio.create_task(watch())
    said = await ask_with_path(stage, outsider, path)
    watching.cancel()
    assert said == (401, "release refused: path")
    assert longest_s < 1.0


async def test_a_policy_does_not_make_the_node_read_other_peoples_values(stage: Stage) -> None:
    """A policy cannot make the node read values in another owner's space."""
    victim, outsider = new_key(), new_key()
    path = await store_large(stage, victim, 80_000)
    assert await ask_with_path(stage, outsider, path) == (401, "release refused: path")


async def test_more_proofs_than_a_chain_may_have_are_refused_before_they_are_read(
    stage: Stage,
) -> None:
    """A token with 65 proofs is refused before any is decoded."""
    key = new_key()
    resource = f"tinycloud:{key.did[4:]}:default/kv/a"
    grants = [
        await stage.register(key_token(key, key.did, {resource: [GET]}, ttl_s=600))
        for _ in range(65)
    ]
    delegations = inside(stage).services.delegations
    before = delegations.memory_bytes
    reply = await stage.invoke(new_key(), {resource: [GET]}, proofs=grants)
    assert reply.status == 401
    assert delegations.memory_bytes == before


def seconds_to_judge(resources: list[str], ability: str) -> float:
    """Return the CPU time to judge a delegation of many resources against its parent."""
    one, other = new_key(), new_key()
    grants: Grants = {
        resource.format(did=one.did, key=one.did[4:]): [ability] for resource in resources
    }
    parent = verify_delegation(parse_delegation(key_token(one, other.did, grants, ttl_s=600)))
    held = judge_registration(parent, (), {}, now=time.time())
    token = key_token(other, new_key().did, grants, proofs=[parent.header])
    child = verify_delegation(parse_delegation(token))
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        judge_registration(child, (held,), {parent.content_key: Marker.LIVE}, now=time.time())
        best = min(best, time.process_time() - started)
    return best


def test_comparing_networks_costs_no_more_than_comparing_paths() -> None:
    """Comparing networks costs no more than comparing paths."""
    numbers = [f"{number:03}" for number in range(512)]
    paths = seconds_to_judge([f"tinycloud:{{key}}:default/kv/{number}" for number in numbers], GET)
    networks = seconds_to_judge(
        [f"urn:tinycloud:encryption:{{did}}:{number}" for number in numbers], DECRYPT
    )
    assert networks < 4 * paths, (networks, paths)


def test_aliases_do_not_drive_delegations_out_of_memory() -> None:
    """Look-ups of many cids do not evict a delegation in use."""
    key = new_key()
    token = verify_delegation(
        parse_delegation(key_token(key, key.did, {f"tinycloud:{key.did[4:]}:a/kv": [GET]}))
    )
    store: Any = None  # nothing is read
    delegations = Delegations(store, max_bytes=100_000)
    stored = Registered(token, (), None, None, ())
    for number in range(1000):
        delegations.add(stored, Digest(number.to_bytes(32, "big")))
    assert delegations.cached(token.content_key) is not None


async def test_outsiders_cannot_make_the_node_sync_its_disk(stage: Stage) -> None:
    """Two readiness requests in one moment write at most once."""
    store = inside(stage).services.store
    stamps = set()
    for _ in range(3):
        assert (await send(stage.url, "GET", "/readyz")).status == 200
        record = (await store.read((b"mcanary",))).records[0]
        assert record is not None
        stamps.add(record.stamp)
    assert len(stamps) == 1
