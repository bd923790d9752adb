"""Encryption networks from a client's side: wraps, envelopes, requests and signed answers."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealspace_conformance.encodings import b64, canonical_json, sha256_of
from sealspace_conformance.keys import is_signed_by

ALGORITHM = "x25519-aes256gcm/v1"
REQUEST_TYPE = "tinycloud.encryption.decrypt/v1"
RESULT_TYPE = "tinycloud.encryption.decrypt-result/v1"
DESCRIPTOR_TYPE = "sealspace.encryption.descriptor/v1"
CANDIDATE_TYPE = "sealspace.encryption.candidate/v1"
ADMINISTRATION = "tinycloud.encryption.network-admin/v1"
DECRYPT = "tinycloud.encryption/decrypt"
CREATE = "tinycloud.encryption/network.create"
REVOKE = "tinycloud.encryption/network.revoke"


def from_b64(text: Any) -> bytes:
    """Return the bytes of base64 with padding; empty if it is anything else."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


@dataclass(frozen=True)
class Receiver:
    """An X25519 key that receives content keys, or a network's own key."""

    private: bytes

    @property
    def public(self) -> bytes:
        """The public key."""
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    def open(self, wrap: bytes) -> bytes:
        """Return the content key of a wrap (enc 3.2).

        Raises:
            ValueError: it is not a wrap for this key.
        """
        if len(wrap) != 93 or wrap[32] != 1:
            raise ValueError("not a wrap of 93 bytes with version 1")
        private = X25519PrivateKey.from_private_bytes(self.private)
        shared = private.exchange(X25519PublicKey.from_public_bytes(wrap[:32]))
        try:
            return AESGCM(shared).decrypt(wrap[33:45], wrap[45:], None)
        except InvalidTag:
            raise ValueError("the wrap is for another key") from None


def new_receiver() -> Receiver:
    """Return a new random key."""
    return Receiver(secrets.token_bytes(32))


def wrap(public: bytes, content_key: bytes) -> bytes:
    """Return a wrap of a content key to a public key (enc 3.2)."""
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(shared).encrypt(nonce, content_key, None)
    return ephemeral.public_key().public_bytes_raw() + b"\x01" + nonce + sealed


def seal(content_key: bytes, value: bytes) -> bytes:
    """Return encrypted content (EN22)."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(content_key).encrypt(nonce, value, None)


def envelope(network: str, wrapped: bytes, ciphertext: bytes) -> dict[str, Any]:
    """Return an envelope (EN23)."""
    return {
        "v": 1,
        "networkId": network,
        "alg": ALGORITHM,
        "keyVersion": 1,
        "encryptedSymmetricKey": b64(wrapped),
        "encryptedSymmetricKeyHash": sha256_of(b64(wrapped)),
        "ciphertext": b64(ciphertext),
    }


def request_body(node: str, network: str, wrapped: bytes, receiver: bytes) -> dict[str, Any]:
    """Return the body of a request for a key (enc 2.4)."""
    return {
        "type": REQUEST_TYPE,
        "targetNode": node,
        "networkId": network,
        "alg": ALGORITHM,
        "keyVersion": 1,
        "encryptedSymmetricKey": b64(wrapped),
        "encryptedSymmetricKeyHash": sha256_of(b64(wrapped)),
        "receiverPublicKey": b64(receiver),
        "receiverPublicKeyHash": sha256_of(b64(receiver)),
    }


def request_fact(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fact of a request for a key (enc 2.4)."""
    same = (
        "type",
        "targetNode",
        "networkId",
        "encryptedSymmetricKeyHash",
        "receiverPublicKeyHash",
        "alg",
        "keyVersion",
    )
    return {**{name: body[name] for name in same}, "bodyHash": sha256_of(body)}


def request_hash(invocation: str, body_hash: str) -> str:
    """Return the hash of a request's token and body (EN12)."""
    return hashlib.sha256(f"{invocation}{body_hash}".encode()).hexdigest()


def descriptor_text(node: str, descriptor: Mapping[str, Any], nonce: str) -> bytes:
    """Return the text that a node signs for a descriptor (EN28)."""
    return canonical_json(
        {
            "type": DESCRIPTOR_TYPE,
            "node": node,
            "network": descriptor.get("networkId"),
            "publicEncryptionKey": descriptor.get("publicEncryptionKey"),
            "alg": descriptor.get("alg"),
            "keyVersion": descriptor.get("keyVersion"),
            "state": descriptor.get("state"),
            "nonce": nonce,
        }
    )


def candidate_text(node: str, network: str, candidate: Mapping[str, Any], nonce: str) -> bytes:
    """Return the text that a node signs for the candidate of a network's next key (EN37)."""
    return canonical_json(
        {
            "type": CANDIDATE_TYPE,
            "node": node,
            "network": network,
            "publicEncryptionKey": candidate.get("publicEncryptionKey"),
            "alg": candidate.get("alg"),
            "keyVersion": candidate.get("keyVersion"),
            "nonce": nonce,
        }
    )


def is_signed_result(node: str, answer: Mapping[str, Any]) -> bool:
    """Return whether the node signed all other members of an answer (EN20)."""
    rest = {name: value for name, value in answer.items() if name != "nodeSignature"}
    return is_signed_by(node, canonical_json(rest), from_b64(answer.get("nodeSignature")))
