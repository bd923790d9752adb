"""Keys of sessions and nodes (Ed25519), and wallets (secp256k1)."""

import secrets
from dataclasses import dataclass

from btclib_libsecp256k1 import keys, recovery
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealspace_conformance.encodings import base58, from_base58, keccak

_ED25519 = b"\xed\x01"
_DID_KEY = "did:key:z"


@dataclass(frozen=True)
class Key:
    """An Ed25519 key."""

    seed: bytes

    @property
    def did(self) -> str:
        """The `did:key`."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return _DID_KEY + base58(_ED25519 + public)

    @property
    def url(self) -> str:
        """The DID URL with which issuers and sign-ins name the key."""
        did = self.did
        return f"{did}#{did.removeprefix('did:key:')}"

    def sign(self, message: bytes) -> bytes:
        """Return the signature of 64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


@dataclass(frozen=True)
class Wallet:
    """A secp256k1 key whose owner is an Ethereum account."""

    secret: bytes

    @property
    def address(self) -> str:
        """The address in EIP-55 spelling (P6)."""
        return _address_of(keys.pubkey_from_prvkey(self.secret, compressed=False))

    @property
    def did(self) -> str:
        """The `did:pkh` on chain 1."""
        return f"did:pkh:eip155:1:{self.address}"

    def sign(self, text: str) -> bytes:
        """Return r, s and v of a personal message (C5)."""
        signature, odd = recovery.sign(_digest(text), self.secret)
        return bytes(signature) + bytes([odd + 27])


def _digest(text: str) -> bytes:
    """Return the digest of a personal message (§2.3)."""
    raw = text.encode("utf-8", "surrogatepass")
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode("ascii") + raw)


def _address_of(point: bytes) -> str:
    """Return the address of an uncompressed point in EIP-55 spelling (P6)."""
    lower = keccak(point[1:])[12:].hex()
    digest = keccak(lower.encode("ascii")).hex()
    spelled = ""
    for character, nibble in zip(lower, digest, strict=False):
        spelled += character.upper() if nibble >= "8" else character
    return "0x" + spelled


def signing_address(text: str, signature: object) -> str:
    """Return the address that signed a personal message; empty if there is none (C5)."""
    if not isinstance(signature, bytes) or len(signature) != 65:
        return ""
    odd = {0: 0, 1: 1, 27: 0, 28: 1}.get(signature[64])
    if odd is None:
        return ""
    try:
        return _address_of(recovery.recover(_digest(text), signature[:64], odd, compressed=False))
    except ValueError:
        return ""


def new_key() -> Key:
    """Return a new random key."""
    return Key(secrets.token_bytes(32))


def new_wallet() -> Wallet:
    """Return a new random wallet."""
    # A first byte below 0xff keeps the number below the order of the curve, and the last above 0.
    return Wallet(b"\x01" + secrets.token_bytes(30) + b"\x01")


def is_signed_by(did: str, message: bytes, signature: bytes) -> bool:
    """Return whether an Ed25519 `did:key` signed the message."""
    try:
        raw = from_base58(did.removeprefix(_DID_KEY))
    except ValueError:
        return False
    if not did.startswith(_DID_KEY) or raw[:2] != _ED25519 or len(raw) != 34:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(raw[2:]).verify(signature, message)
    except InvalidSignature:
        return False
    return True
