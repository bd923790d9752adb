"""Parties and computations shared by all encryption vectors, made with general libraries only."""

import base64
import hashlib
import json
from typing import Any

import nacl.bindings
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .minting import Key, base58

SECRET = bytes([0x07]) * 32
OWNER = Key(0x61)
NETWORK = f"urn:tinycloud:encryption:{OWNER.did}:default"
NETWORK_KEY = bytes([0x17]) * 32
CONTENT_KEY = bytes(range(32))
EPHEMERAL, NONCE = bytes([0x29]) * 32, bytes([0x02]) * 12
RECEIVER = bytes([0x31]) * 32
ALG = "x25519-aes256gcm/v1"


def b64(data: bytes) -> str:
    """Return padded base64 of the standard alphabet, as on the wire."""
    return base64.b64encode(data).decode()


def derive(secret: bytes, context: str) -> bytes:
    """Return the seed that a root secret yields for a purpose."""
    return blake3(secret + context.encode()).digest()


def signing_key(seed: bytes) -> tuple[bytes, bytes]:
    """Return the public and the secret half of an Ed25519 key."""
    return nacl.bindings.crypto_sign_seed_keypair(seed)


def did_of(seed: bytes) -> str:
    """Return the did:key of an Ed25519 seed."""
    return "did:key:z" + base58(b"\xed\x01" + signing_key(seed)[0])


NODE_SEED = derive(SECRET, "tinycloud/node/identity")
NODE = did_of(NODE_SEED)


def canonical(value: Any) -> bytes:
    """Return canonical JSON: members by code point, no spaces, minimal escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def public_of(scalar: bytes) -> bytes:
    """Return the public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()


def wrap_key(public_key: bytes, plaintext: bytes, ephemeral: bytes, nonce: bytes) -> bytes:
    """Return a wrapped key: ephemeral public key, version 1, nonce, ciphertext with tag."""
    shared = X25519PrivateKey.from_private_bytes(ephemeral).exchange(
        X25519PublicKey.from_public_bytes(public_key)
    )
    return public_of(ephemeral) + b"\x01" + nonce + AESGCM(shared).encrypt(nonce, plaintext, None)


WRAPPED = wrap_key(public_of(NETWORK_KEY), CONTENT_KEY, EPHEMERAL, NONCE)
