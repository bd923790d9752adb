"""Checks for requests to encryption networks.

They are in the order that the specification requires.

All functions are pure. Each implements one or more rows of a table of checks in the specification
(decrypt: enc 2.7, create: enc 2.5, revoke: enc 2.8; wire 4.8). It checks the rows in order, and
raises the `RequestError` of the first row that fails. Between these functions the node verifies the
token, judges the chain, reads the store and calls the gate:

    decrypt   read_body (1) -> check_audience (2) -> [signature, chain] (3)
              -> parse_path_id (4) -> parse_decrypt_body (5) -> bind_decrypt (6-12)
              -> [read the network] -> check_decrypt (13-21) -> gate.admit
              -> release.open_key (22-24)
    /invoke   [time, signature, lifetime] -> invoked_network (4) -> read_body (1)
              -> [chain] (3) -> parse_decrypt_body ... as above, with the texts of `/invoke`
    create    read_body (2) -> check_audience (3) -> [signature, chain] (4)
              -> parse_create (5, 6) -> bind_admin (7-16)
              -> [replay record under admin_nonce_key] (17) -> check_create (18)
    revoke    check_audience -> [signature, chain] -> parse_path_id -> bind_admin
              -> [replay record] -> check_revoke

Hashes and the audience are compared as text, network ids as parsed ids (EN2).
"""

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar, cast

from blake3 import blake3
from msgspec import ValidationError, convert

from capabilities.abilities import DECRYPT
from capabilities.capability_errors import InvalidIdentifier
from capabilities.cids import cid_text
from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import (
    NETWORK_PREFIX,
    NetworkId,
    network_id,
    network_of,
    parse_network_id,
)
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, JsonObject, StrictRecord
from capabilities.tokens import Capability, Invocation

from ._shapes import Kind, Shape, ShapeError, check_members
from ._shapes import read_body as read_body
from .canonical_json import Int64, canonical_hash, canonical_members
from .network_errors import InvalidCanonicalJson, RequestError
from .networks import NetworkRecord

DECRYPT_TYPE = "tinycloud.encryption.decrypt/v1"
RESULT_TYPE = "tinycloud.encryption.decrypt-result/v1"
"""`type` of the answer to a decrypt request."""
ADMIN_TYPE = "tinycloud.encryption.network-admin/v1"

MAX_BODY_BYTES = 1_000_000
"""Longest body on either route; `/invoke` reads no further (wire 4.8)."""
MAX_LIFETIME_S = 300
"""How far ahead the `exp` of a decrypt token may be."""
REVOKE_BODY_HASH = canonical_hash({})
"""A revoke request is bound to the empty object, whatever its body is (enc 2.8)."""

_CREATE_SHAPE = Shape(
    {"name": "string", "ownerDid": "string", "threshold": "object"},
    optional=frozenset({"threshold"}),
)
_THRESHOLD_SHAPE = Shape({"n": "u32", "t": "u32"})
_NEW_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_NO_FACTS = "missing encryption invocation facts"
_NONCE_LABEL = b"sealspace/network-admin-nonce/v1\0"


# --- both ladders ---------------------------------------------------------------------------------


def check_audience(audience: str, node_did: str) -> None:
    """Check that a token's audience is exactly the node's DID (wire T8).

    This is row 2 of the table of checks in enc 2.7.
    """
    if audience != node_did:
        raise RequestError("audience-mismatch")


def invoked_network(capabilities: Sequence[Capability]) -> NetworkId | None:
    """Return the network in a token's decrypt capability, or None.

    Raises RequestError for more than one network, or an invalid network id.
    """
    texts = [
        capability.resource.text
        for capability in capabilities
        if capability.ability == DECRYPT and capability.resource.text.startswith(NETWORK_PREFIX)
    ]
    if not texts:
        return None
    try:
        networks = {parse_network_id(text) for text in texts}
    except InvalidIdentifier as exc:
        # Several different texts are several networks, even if one of them is invalid.
        if len(set(texts)) > 1:
            raise RequestError("multiple-networks") from exc
        raise RequestError("invalid-network-id", exc.text) from exc
    if len(networks) > 1:
        raise RequestError("multiple-networks")
    return networks.pop()


def _check_capability(invocation: Invocation, network: NetworkId, action: str) -> None:
    """Check that a token permits an action on an encryption network.

    Its first capability for the action must be for that network. These are rows 11 and 12 of the
    table in enc 2.7, and rows 13 and 14 of the table in enc 2.5.
    """
    for capability in invocation.capabilities:
        if capability.ability == action:
            if network_of(capability.resource) != network:
                raise RequestError("network-mismatch")
            return
    raise RequestError("action-not-permitted")


# --- decrypt --------------------------------------------------------------------------------------


class DecryptRequest(StrictRecord, rename="camel", gc=False):
    """The JSON body of a decrypt request (enc 2.7).

    Hashes are hex SHA-256 over the base64 texts with their quotes.
    """

    type: str
    target_node: str
    network_id: str
    alg: str
    key_version: Int64
    encrypted_symmetric_key: str
    encrypted_symmetric_key_hash: str
    receiver_public_key: str
    receiver_public_key_hash: str


_KINDS: dict[str, Kind] = dict.fromkeys(DecryptRequest.__struct_encode_fields__, "string")
_BODY_SHAPE = Shape(_KINDS | {"networkId": "network", "keyVersion": "i64"}, closed=True)


class DecryptFacts(StrictRecord, rename="camel", gc=False):
    """The UCAN fact that binds a decrypt token to its request (enc 2.4).

    Facts with other members or types are ignored.
    """

    type: str
    target_node: str
    network_id: str
    body_hash: str
    encrypted_symmetric_key_hash: str
    receiver_public_key_hash: str
    alg: str
    key_version: Int64


class AdminFacts(AcyclicStruct, rename="camel"):
    """The UCAN fact for creating or revoking a network (enc 2.4)."""

    type: str
    target_node: str
    network_id: str
    body_hash: str
    action: str


Fact = TypeVar("Fact", DecryptFacts, AdminFacts)


class DecryptBody(AcyclicStruct, kw_only=True):
    """The parsed body of a decrypt request."""

    stated: DecryptRequest
    network_id: NetworkId
    body_hash: str

    def __repr__(self) -> str:
        return f"DecryptBody(network_id={self.network_id.text!r}, body_hash={self.body_hash!r})"


class BoundDecrypt(AcyclicStruct, kw_only=True):
    """A decrypt request that was checked against its token.

    It passed the checks of `bind_decrypt`: the token matches the body, the path and this node.
    """

    invocation: Invocation
    body: DecryptBody
    facts: DecryptFacts


class CheckedDecrypt(AcyclicStruct, kw_only=True):
    """A decrypt request whose network exists and is active (enc 2.7).

    It passed the checks of `bind_decrypt` and `check_decrypt`.
    """

    bound: BoundDecrypt
    network: NetworkRecord
    wrapped_key: bytes
    receiver_public_key: bytes
    invocation_cid: str
    request_hash: str

    def __repr__(self) -> str:
        return f"CheckedDecrypt(network={self.network!r}, invocation_cid={self.invocation_cid!r})"


def parse_decrypt_body(value: Json) -> DecryptBody:
    """Parse the body of a decrypt request, and hash its members as canonical JSON (enc 2.7).

    Raises:
        RequestError: `body-malformed`, with the first invalid member in its detail.
    """
    try:
        stated = convert(value, DecryptRequest)
        network = parse_network_id(stated.network_id)
        body_hash = hashlib.sha256(canonical_members(stated)).hexdigest()
    except (ValidationError, InvalidIdentifier, InvalidCanonicalJson) as exc:
        # Clients expect that the detail names the first invalid member. `check_members` names it.
        # It is slower than `convert`, so it is called only after a failure.
        detail = str(exc)
        try:
            check_members(value, _BODY_SHAPE)
        except ShapeError as fault:
            detail = str(fault)
        raise RequestError("body-malformed", detail) from exc
    return DecryptBody(stated=stated, network_id=network, body_hash=body_hash)


def bind_decrypt(
    invocation: Invocation, body: DecryptBody, network: NetworkId, node_did: str
) -> BoundDecrypt:
    """Check a decrypt request against its token.

    The token must match the request body, the network and the node. These are rows 6 to 12 of the
    table in enc 2.7.
    """
    facts, bound_network = _bound_fact(invocation.facts, DecryptFacts)  # row 6
    if facts.type != DECRYPT_TYPE or body.stated.type != DECRYPT_TYPE:  # row 7
        raise RequestError("type-mismatch")
    check_audience(invocation.audience, node_did)  # row 8
    if facts.target_node != node_did or body.stated.target_node != node_did:  # row 9
        raise RequestError("target-node-mismatch")
    if bound_network != network or body.network_id != network:  # row 10
        raise RequestError("network-mismatch")
    _check_capability(invocation, network, DECRYPT)  # rows 11, 12
    return BoundDecrypt(invocation=invocation, body=body, facts=facts)


def check_decrypt(bound: BoundDecrypt, record: NetworkRecord | None, now: float) -> CheckedDecrypt:
    """Check a decrypt request against the stored encryption network.

    These are rows 13 to 21 of the table in enc 2.7.

    Args:
        bound: the bound request.
        record: the record of the bound network; None: not found.
        now: epoch seconds.
    Raises:
        RequestError: `network-not-found` (13), `network-revoked` or `network-not-active` (14),
            `version-mismatch` (15), `not-yet-valid` (16), `expired` (17), `invalid-base64` (18),
            `hash-mismatch` (19 receiver, 20 key, 21 body).
    Does not check:
        That the keys are usable; `release.open_key` does, after the gate.
    """
    if record is None or record.network_id != bound.body.network_id:  # row 13
        raise RequestError("network-not-found")
    if record.state == "revoked":  # row 14
        raise RequestError("network-revoked")
    if record.state != "active":
        raise RequestError("network-not-active", record.state)
    body, facts = bound.body.stated, bound.facts
    is_algorithm_same = body.alg == facts.alg == record.alg
    is_version_same = body.key_version == facts.key_version
    is_version_usable = record.sealed_key_of(body.key_version) is not None
    if not (is_algorithm_same and is_version_same and is_version_usable):  # row 15
        raise RequestError("version-mismatch")
    now_s = int(now)
    # row 16
    if bound.invocation.not_before is not None and int(bound.invocation.not_before) > now_s:
        raise RequestError("not-yet-valid")
    if not now_s < int(bound.invocation.expires_at) <= now_s + MAX_LIFETIME_S:  # row 17
        raise RequestError("expired")
    wrapped_key = decode_standard(body.encrypted_symmetric_key)
    receiver = decode_standard(body.receiver_public_key)
    if wrapped_key is None or receiver is None:  # row 18
        raise RequestError("invalid-base64")
    receiver_hash = canonical_hash(body.receiver_public_key)
    # row 19
    if not body.receiver_public_key_hash == facts.receiver_public_key_hash == receiver_hash:
        raise RequestError("hash-mismatch", "receiverPublicKeyHash")
    key_hash = canonical_hash(body.encrypted_symmetric_key)
    # row 20
    if not body.encrypted_symmetric_key_hash == facts.encrypted_symmetric_key_hash == key_hash:
        raise RequestError("hash-mismatch", "encryptedSymmetricKeyHash")
    if facts.body_hash != bound.body.body_hash:  # row 21
        raise RequestError("hash-mismatch", "bodyHash")
    cid = cid_text(bound.invocation.cid)
    return CheckedDecrypt(
        bound=bound,
        network=record,
        wrapped_key=wrapped_key,
        receiver_public_key=receiver,
        invocation_cid=cid,
        request_hash=request_hash(cid, bound.body.body_hash),
    )


def request_hash(invocation_cid: str, body_hash: str) -> str:
    """Return the hash of a request's token and body (EN12).

    It is the SHA-256 of the token's CID followed by the body hash, in hex.
    """
    return hashlib.sha256((invocation_cid + body_hash).encode()).hexdigest()


def _bound_fact(facts: Sequence[Json], shape: type[Fact]) -> tuple[Fact, NetworkId]:
    """Return the fact that binds a token to its request.

    This is the first fact of the given type. The network id in the fact is returned too.
    """
    for fact in facts:
        try:
            stated = convert(fact, shape)
            return stated, parse_network_id(stated.network_id)
        except (ValidationError, InvalidIdentifier):
            continue  # a token may have facts of other types, also before this one
    raise RequestError("body-malformed", _NO_FACTS)


# --- create and revoke ----------------------------------------------------------------------------


def parse_create(value: Json) -> tuple[NetworkId, str]:
    """Parse the body of a request to create a network.

    These are rows 5 and 6 of the table in enc 2.5. Returns the id of the network and the hash of
    the body.

    Raises:
        RequestError: `create-body-malformed`, wrong members, a name that clients cannot write, or
            another threshold than one of one.
        RequestError: `invalid-network-id`, owner and name are not a valid id.
    """
    try:
        members = check_members(value, _CREATE_SHAPE)
        threshold = members.get("threshold")
        if threshold is not None:
            check_members(threshold, _THRESHOLD_SHAPE)
        body_hash = canonical_hash(value)
    except (ShapeError, InvalidCanonicalJson) as exc:
        raise RequestError("create-body-malformed", str(exc)) from exc  # row 5
    try:
        network = network_id(cast(str, members["ownerDid"]), cast(str, members["name"]))
    except InvalidIdentifier as exc:
        raise RequestError("invalid-network-id", exc.text) from exc  # row 6
    # enc-D4: clients would never find a network whose name they cannot write.
    if _NEW_NAME.fullmatch(network.name) is None:
        raise RequestError(
            "create-body-malformed",
            "the name of a new network may contain only a-z, 0-9 and '-', and must not begin"
            " with '-'",
        )
    # enc-D1: the threshold has no effect, so a creator must not believe that several members are
    # needed.
    if isinstance(threshold, dict) and (threshold["n"], threshold["t"]) != (1, 1):
        raise RequestError("create-body-malformed", "threshold must be n 1 and t 1")
    return network, body_hash


def bind_admin(
    invocation: Invocation, network: NetworkId, *, action: str, body_hash: str, node_did: str
) -> str:
    """Check that a token matches a request to create or revoke a network.

    These are rows 7 to 16 of the table in enc 2.5. Returns the nonce of the token.
    """
    fact, bound_network = _bound_fact(invocation.facts, AdminFacts)  # row 7
    if fact.type != ADMIN_TYPE:  # row 8
        raise RequestError("type-mismatch")
    check_audience(invocation.audience, node_did)  # row 9
    if fact.target_node != node_did:  # row 10
        raise RequestError("target-node-mismatch")
    if bound_network != network:  # row 11
        raise RequestError("network-mismatch")
    if fact.action != action:  # row 12
        raise RequestError("action-not-permitted")
    _check_capability(invocation, network, action)  # rows 13, 14
    if fact.body_hash != body_hash:  # row 15
        raise RequestError("hash-mismatch", "bodyHash")
    if invocation.nonce is None:  # row 16
        raise RequestError("body-malformed", "missing nonce")
    return invocation.nonce


def admin_nonce_key(invocation: Invocation, nonce: str) -> bytes:
    """Return the store key of a nonce's replay record (EN15).

    Each issuer can use a nonce only once. The key depends on the canonical DID of the issuer, so
    that an issuer cannot use a nonce again under another spelling of the DID.
    """
    return blake3(_NONCE_LABEL + invocation.invoker.encode() + b"\0" + nonce.encode()).digest()


def check_create(existing: NetworkRecord | None) -> None:
    """Refuse to create an encryption network that already exists.

    Raises RequestError, except for a network that was created at a sign-in: one create request may
    take it over while it is active (EN14, EN31, EN7).
    """
    if existing is not None and (existing.claimed or existing.state != "active"):
        raise RequestError("network-exists")


def check_revoke(existing: NetworkRecord | None) -> NetworkRecord:
    """Check that the network to revoke exists (enc 1.8, 2.8).

    A revoked network may be revoked again.
    """
    if existing is None:
        raise RequestError("network-not-found")
    return existing


# --- the sender's side ----------------------------------------------------------------------------


def decrypt_body_json(
    network: str,
    *,
    target_node: str,
    alg: str,
    key_version: int,
    encrypted_symmetric_key: str,
    receiver_public_key: bytes,
) -> JsonObject:
    """Return the JSON body of a decrypt request (enc 2.4)."""
    receiver = encode_standard(receiver_public_key)
    return {
        "type": DECRYPT_TYPE,
        "targetNode": target_node,
        "networkId": network,
        "alg": alg,
        "keyVersion": key_version,
        "encryptedSymmetricKey": encrypted_symmetric_key,
        "encryptedSymmetricKeyHash": canonical_hash(encrypted_symmetric_key),
        "receiverPublicKey": receiver,
        "receiverPublicKeyHash": canonical_hash(receiver),
    }


def decrypt_fact(body: JsonObject) -> JsonObject:
    """Return the UCAN fact that binds a token to a decrypt request (enc 2.4)."""
    shared = (
        "targetNode",
        "networkId",
        "encryptedSymmetricKeyHash",
        "receiverPublicKeyHash",
        "alg",
        "keyVersion",
    )
    return {
        "type": DECRYPT_TYPE,
        "bodyHash": canonical_hash(body),
        **{name: body[name] for name in shared},
    }


def admin_fact(network: str, *, target_node: str, action: str, body: JsonObject) -> JsonObject:
    """Return the UCAN fact for creating or revoking a network (enc 2.4)."""
    return {
        **change_fact(ADMIN_TYPE, network, target_node=target_node, body=body),
        "action": action,
    }


def change_fact(fact_type: str, network: str, *, target_node: str, body: Json) -> JsonObject:
    """Return the UCAN fact for changing an encryption network (RL17, RC22)."""
    return {
        "type": fact_type,
        "targetNode": target_node,
        "networkId": network,
        "bodyHash": canonical_hash(body),
    }
