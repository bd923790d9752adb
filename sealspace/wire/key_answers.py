"""Verification of a node's answers to decrypt requests (enc 3.7)."""

from collections.abc import Mapping

from capabilities.capability_errors import CapabilityError
from capabilities.principals import ed25519_public_key
from capabilities.signatures import verify_ed25519
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import Json, JsonObject
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.network_errors import EncryptionError as NetworkLibraryError
from encryption_network.requests import RESULT_TYPE, request_hash

from ..errors import InvalidResponse, ResponseBindingMismatch, ResponseSignatureInvalid

_ECHOED_MEMBERS = (
    "targetNode",
    "networkId",
    "alg",
    "keyVersion",
    "encryptedSymmetricKeyHash",
    "receiverPublicKeyHash",
)


def verify_answer(answer: Mapping[str, Json], body: JsonObject, *, invocation_cid: str) -> bytes:
    """Verify the node's response to a decrypt request.

    Args:
        answer: the JSON object of the answer, untrusted.
        body: the body of the request that was sent.
        invocation_cid: cid of the token that was sent, computed by this client.
    Returns:
        The wrapped content key; the node that the request names signed it for this request.
    Raises:
        InvalidResponse: the answer has another type, or its wrapped key is not base64.
        ResponseBindingMismatch: the answer belongs to another request; the error's `field` names
            the member that differs.
        ResponseSignatureInvalid: the signature is not valid for the node's DID.
    Does not check:
        That the node's DID is the right one; `encryption` compares it with the pinned one. That the
            key opens the envelope.
    Source: spec/encryption.md §3.7.
    """
    if answer.get("type") != RESULT_TYPE:
        raise InvalidResponse("the node's response is not a decrypt result")
    # The node echoes the canonical id of the network, so the strings are equal.
    expected_members = {member: body[member] for member in _ECHOED_MEMBERS}
    expected_members["nodeId"] = body["targetNode"]
    expected_members["invocationCid"] = invocation_cid
    expected_members["requestHash"] = request_hash(invocation_cid, canonical_hash(body))
    for member, expected_value in expected_members.items():
        answer_value = answer.get(member)
        # 1 == True == 1.0 in Python, so the types are compared too.
        is_same_type = type(answer_value) is type(expected_value)
        if not is_same_type or answer_value != expected_value:
            raise ResponseBindingMismatch(member)
    public_key = ed25519_public_key(str(body["targetNode"]))
    signature = decode_standard(answer.get("nodeSignature"))
    if public_key is None or signature is None or len(signature) != 64:
        raise ResponseSignatureInvalid("the node's signature cannot be read")
    # The signature covers all JSON members except itself.
    signed_members = {
        member: value for member, value in answer.items() if member != "nodeSignature"
    }
    try:
        verify_ed25519(public_key, canonical_bytes(signed_members), signature)
    except (CapabilityError, NetworkLibraryError) as exc:
        raise ResponseSignatureInvalid("the node's signature on its response is not valid") from exc
    wrapped_key = decode_standard(answer.get("wrappedKey"))
    if wrapped_key is None:
        raise InvalidResponse("the node's response contains no wrapped key")
    return wrapped_key
