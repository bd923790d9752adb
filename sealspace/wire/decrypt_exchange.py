"""One exchange of the decrypt protocol: the request's body and fact, and the checks on the node's answer.

Pure: what is sent and how is in `encryption`. The checks are in the order of the protocol (enc 3.7), and nothing is
opened before the last of them has passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from capabilities.errors import CapabilityError
from capabilities.principals import ed25519_public_key
from capabilities.signatures import verify_ed25519
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.envelope import InlineEnvelope
from encryption_network.errors import EncryptionError
from encryption_network.requests import RESULT_TYPE, decrypt_body_json, decrypt_fact, request_hash

from ..errors import InvalidResponse, ResponseBindingMismatch, ResponseSignatureInvalid

_ECHOED = ("alg", "keyVersion", "encryptedSymmetricKeyHash", "receiverPublicKeyHash")


@dataclass(frozen=True, slots=True)
class DecryptRequest:
    """A request to a node, with the nine members of its body: what the answer is checked against."""

    target_node: str
    network_id: str
    body: dict[str, Json] = field(repr=False)

    @property
    def body_bytes(self) -> bytes:
        """The body as it is sent."""
        return canonical_bytes(self.body)

    @property
    def body_hash(self) -> str:
        """The hash of the body."""
        return canonical_hash(self.body)

    @property
    def fact(self) -> dict[str, Json]:
        """The fact that binds a token to the body."""
        return decrypt_fact(self.body)


def decrypt_request(envelope: InlineEnvelope, *, target_node: str, receiver_public_key: bytes) -> DecryptRequest:
    """Make the request that asks a node for an envelope's content key, wrapped to this X25519 key.

    The network's id is sent in its canonical spelling, which the node echoes; careful writers store that one anyway.
    """
    body = decrypt_body_json(
        envelope.network.text,
        target_node=target_node,
        alg=envelope.alg,
        key_version=envelope.key_version,
        encrypted_symmetric_key=envelope.encrypted_symmetric_key,
        receiver_public_key=receiver_public_key,
    )
    return DecryptRequest(target_node, envelope.network.text, body)


def verify_answer(answer: Mapping[str, Json], request: DecryptRequest, *, invocation_cid: str) -> bytes:
    """Check a node's answer to a decrypt request and return the key in it, still wrapped.

    Args:
        answer: the JSON object of the answer, untrusted.
        request: the request that was sent.
        invocation_cid: id of the token that was sent, computed here and not by the node.
    Returns:
        The wrapped content key; it was signed by the node the request names, for this request and no other.
    Raises:
        InvalidResponse: another type, or the wrapped key is no base64.
        ResponseBindingMismatch: a member belongs to another request; `field` names it.
        ResponseSignatureInvalid: the signature does not verify under the DID the answer names.
    Does not check:
        That the node's DID is the right one: `encryption` pins it. That the key opens.
    Source: enc 3.7.
    """
    if answer.get("type") != RESULT_TYPE:
        raise InvalidResponse("the node's answer is not a decrypt result")
    expected: tuple[tuple[str, Json], ...] = (
        ("targetNode", request.target_node),
        # String equality: a node echoes the canonical id.
        ("networkId", request.network_id),
        ("nodeId", request.target_node),
        *((member, request.body[member]) for member in _ECHOED),
        ("invocationCid", invocation_cid),
        ("requestHash", request_hash(invocation_cid, request.body_hash)),
    )
    for member, value in expected:
        given = answer.get(member)
        # 1 == True == 1.0 in Python; the types have to agree as well.
        if type(given) is not type(value) or given != value:
            raise ResponseBindingMismatch(member)
    _verify_signature(answer, node_did=request.target_node)
    wrapped_key = decode_standard(answer.get("wrappedKey"))
    if wrapped_key is None:
        raise InvalidResponse("the node's answer holds no wrapped key")
    return wrapped_key


def _verify_signature(answer: Mapping[str, Json], *, node_did: str) -> None:
    """The signature covers every member but itself, unknown ones included."""
    public_key = ed25519_public_key(node_did)
    signature = decode_standard(answer.get("nodeSignature"))
    if public_key is None or signature is None or len(signature) != 64:
        raise ResponseSignatureInvalid("the node's signature cannot be read")
    signed = {member: value for member, value in answer.items() if member != "nodeSignature"}
    try:
        verify_ed25519(public_key, canonical_bytes(signed), signature)
    except (CapabilityError, EncryptionError) as exc:
        raise ResponseSignatureInvalid("the node's signature over its answer does not verify") from exc
