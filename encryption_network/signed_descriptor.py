"""Signed descriptors of encryption networks (EN28, EN29).

Clients verify them before they encrypt.

A descriptor contains the key that secrets are encrypted to, so an attacker who replaces it in
transit can read them. For a request with a nonce, the node signs canonical JSON with exactly these
members:

    type                 "sealspace.encryption.descriptor/v1"
    node                 the node's DID, did:key; it signs
    network              the network's id
    publicEncryptionKey  base64 of 32 bytes
    alg, keyVersion      of the key
    state                at this moment
    nonce                as in the request

The signed text is not sent. A client builds it from the descriptor that it read, its own nonce and
the DID that it knows, so it uses exactly the values that were signed. The type distinguishes the
text from every other one that the node signs.

Example:
    signature = sign_descriptor(record, nonce, keyring.node_signer)
    descriptor = parse_descriptor(answer)
    verify_descriptor(descriptor, signature, node_did=node_did, nonce=nonce)
"""

from capabilities.capability_errors import BadSignature
from capabilities.principals import ed25519_public_key
from capabilities.signatures import Ed25519Signer, verify_ed25519
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard
from capabilities.strict_json import Json

from .canonical_json import canonical_members
from .network_errors import DescriptorError, InvalidCanonicalJson
from .networks import Descriptor, NetworkRecord

DESCRIPTOR_TYPE = "sealspace.encryption.descriptor/v1"
SIGNATURE_MEMBER = "nodeSignature"
"""The member beside `descriptor` in the answer, as in the answer to a key request (EN20)."""

MIN_NONCE_BYTES = 16
MAX_NONCE_BYTES = 32
_MAX_NONCE_CHARS = 43
_SIGNATURE_BYTES = 64


def is_nonce(text: str) -> bool:
    """Return whether a string is a valid nonce for a signed descriptor.

    A nonce is 16 to 32 bytes in canonical unpadded base64url.
    """
    if len(text) > _MAX_NONCE_CHARS:
        return False
    nonce = decode_url(text)
    return nonce is not None and MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES


def sign_descriptor(record: NetworkRecord, nonce: str, signer: Ed25519Signer) -> str:
    """Sign an encryption network's descriptor and a client's nonce."""
    return encode_standard(signer.sign(_signed_text(record, node_did=signer.did, nonce=nonce)))


def verify_descriptor(
    descriptor: Descriptor, signature: Json, *, node_did: str, nonce: str
) -> Descriptor:
    """Verify the node's signature on a network descriptor (EN29).

    The signature is also over the nonce. The verified descriptor is returned.

    Args:
        descriptor: as it was read, untrusted.
        signature: the member beside it in the answer, untrusted.
        node_did: of the expected node, not from the descriptor.
        nonce: the one in the request to the node.
    Raises:
        DescriptorError: the signature is not 64 bytes in base64, the DID has no Ed25519 key, or the
            signature is invalid: it is by another node, or for another network, key, algorithm,
            version, state or nonce.
    Does not check:
        That the state allows anything, nor that this is the requested network.
    """
    key = ed25519_public_key(node_did)
    signature_bytes = decode_standard(signature)
    if key is None or signature_bytes is None or len(signature_bytes) != _SIGNATURE_BYTES:
        raise DescriptorError(
            "the node's DID has no Ed25519 key, or the signature is not the base64 text of 64 bytes"
        )
    try:
        verify_ed25519(
            key, _signed_text(descriptor, node_did=node_did, nonce=nonce), signature_bytes
        )
    except (BadSignature, InvalidCanonicalJson) as exc:
        raise DescriptorError("the node's signature is not valid") from exc
    return descriptor


def _signed_text(network: NetworkRecord | Descriptor, *, node_did: str, nonce: str) -> bytes:
    """Return the text that a node signs for a descriptor."""
    return canonical_members(
        {
            "type": DESCRIPTOR_TYPE,
            "node": node_did,
            "network": network.network_id.text,
            "publicEncryptionKey": encode_standard(network.public_key),
            "alg": network.alg,
            "keyVersion": network.key_version,
            "state": network.state,
            "nonce": nonce,
        }
    )
