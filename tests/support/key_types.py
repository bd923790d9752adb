"""Signing keys of other types than Ed25519, made with general libraries. Public test material."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import libipld
import msgspec
from btclib_libsecp256k1 import keys, recovery
from capability_cases import OWNER, claims, raw_ucan
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from capabilities.principals import eip55
from capabilities.signatures import Ed25519Signer, keccak256

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def did_key(codec: bytes, public_key: bytes) -> str:
    """Return the did:key of a key of any type."""
    return "did:key:" + libipld.encode_multibase("z", codec + public_key)


def twin(signature: bytes, order: int) -> bytes:
    """Return the other spelling of an ECDSA signature: s becomes n - s, with the other recovery
    byte."""
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes(byte ^ 1 for byte in signature[64:])


class TokenSigner(Protocol):
    """A key with the header and claims that describe it in a token."""

    @property
    def algorithm(self) -> str:
        """Return the JWS algorithm."""
        ...

    @property
    def did(self) -> str:
        """Return the DID without fragment."""
        ...

    @property
    def issuer(self) -> str:
        """Return the value of `iss` in tokens of clients."""
        ...

    @property
    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JWK."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message."""
        ...


@dataclass(frozen=True)
class Ed25519Key:
    """An Ed25519 key, identified by its did:key."""

    seed: bytes
    algorithm: str = "EdDSA"

    @property
    def public_key(self) -> bytes:
        return Ed25519Signer(self.seed).public_key

    @property
    def did(self) -> str:
        return did_key(b"\xed\x01", self.public_key)

    @property
    def issuer(self) -> str:
        return f"{self.did}#{self.did[8:]}"

    @property
    def jwk(self) -> dict[str, Any]:
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(self.public_key)}

    def sign(self, message: bytes) -> bytes:
        return Ed25519Signer(self.seed).sign(message)


@dataclass(frozen=True)
class P256Key:
    """A P-256 key, identified by its did:key."""

    number: int
    algorithm: str = "ES256"

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(self.number, ec.SECP256R1())

    @property
    def public_key(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @property
    def point(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def did(self) -> str:
        return did_key(b"\x80\x24", self.public_key)

    @property
    def issuer(self) -> str:
        return f"{self.did}#{self.did[8:]}"

    @property
    def jwk(self) -> dict[str, Any]:
        return {"kty": "EC", "crv": "P-256", "x": b64(self.point[1:33]), "y": b64(self.point[33:])}

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")


@dataclass(frozen=True)
class Secp256k1Key:
    """A secp256k1 key, identified by its did:key."""

    secret: bytes
    algorithm: str = "ES256K"

    @property
    def public_key(self) -> bytes:
        return keys.pubkey_from_prvkey(self.secret)

    @property
    def point(self) -> bytes:
        return keys.pubkey_from_prvkey(self.secret, compressed=False)

    @property
    def did(self) -> str:
        return did_key(b"\xe7\x01", self.public_key)

    @property
    def issuer(self) -> str:
        return f"{self.did}#{self.did[8:]}"

    @property
    def jwk(self) -> dict[str, Any]:
        return {
            "kty": "EC",
            "crv": "secp256k1",
            "x": b64(self.point[1:33]),
            "y": b64(self.point[33:]),
        }

    def sign(self, message: bytes) -> bytes:
        hasher: Callable[[bytes], bytes] = keccak256 if self.algorithm == "ESKeccakKR" else _sha256
        signature, odd = recovery.sign(hasher(message), self.secret)
        return signature if self.algorithm == "ES256K" else signature + bytes([odd])


def _sha256(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()


@dataclass(frozen=True)
class WalletKey(Secp256k1Key):
    """A secp256k1 key, identified by its account on a chain."""

    chain: str = "1"

    @property
    def address(self) -> bytes:
        return keccak256(self.point[1:])[12:]

    @property
    def did(self) -> str:
        return f"did:pkh:eip155:{self.chain}:{eip55(self.address)}"

    @property
    def issuer(self) -> str:
        return self.did


@dataclass(frozen=True)
class SolanaKey(Ed25519Key):
    """An Ed25519 key, identified by its Solana account."""

    network: str = "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZ"

    @property
    def did(self) -> str:
        return f"did:pkh:solana:{self.network}:{libipld.encode_multibase('z', self.public_key)[1:]}"

    @property
    def issuer(self) -> str:
        return self.did


@dataclass(frozen=True)
class JwkKey:
    """A key of any type, identified by its did:jwk."""

    key: TokenSigner

    @property
    def algorithm(self) -> str:
        return self.key.algorithm

    @property
    def did(self) -> str:
        return did_jwk(self.key.jwk)

    @property
    def issuer(self) -> str:
        return f"{self.did}#0"

    @property
    def jwk(self) -> dict[str, Any]:
        return self.key.jwk

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


def did_jwk(jwk: object) -> str:
    """Return the did:jwk of a JSON value."""
    return "did:jwk:" + b64(msgspec.json.encode(jwk))


ED25519 = Ed25519Key(bytes([7]) * 32)
P256 = P256Key(7)
SECP256K1 = Secp256k1Key(bytes([7]) * 32)
RECOVERED = Secp256k1Key(bytes([7]) * 32, "ES256K-R")
KECCAK = Secp256k1Key(bytes([7]) * 32, "ESKeccakKR")
WALLET = WalletKey(
    bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)
SOLANA = SolanaKey(bytes([7]) * 32)

ON_CURVE = [P256, SECP256K1, RECOVERED, KECCAK]
ISSUERS: list[TokenSigner] = [
    ED25519,
    P256,
    SECP256K1,
    RECOVERED,
    KECCAK,
    WALLET,
    WalletKey(WALLET.secret, "ES256K-R"),
    WalletKey(WALLET.secret, "ESKeccakKR", chain="5"),
    SOLANA,
    JwkKey(ED25519),
    JwkKey(P256),
    JwkKey(SECP256K1),
]
assert WALLET.did == OWNER.did


def name_of(signer: TokenSigner) -> str:
    """Return the name of a test case."""
    return f"{signer.did.split(':')[1]}-{signer.algorithm}"


def header_of(signer: TokenSigner, **changes: Any) -> bytes:
    """Return the header of a token; `...` removes a member."""
    plain = {"alg": signer.algorithm, "jwk": signer.jwk, "typ": "JWT", "ucv": "0.10.0"}
    return msgspec.json.encode(
        {name: value for name, value in (plain | changes).items() if value is not ...}
    )


def token(signer: TokenSigner, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """Return a token of a key of any type, with the claims of a plain delegation and changes."""
    return raw_ucan(
        claims(**{"iss": signer.issuer} | changes),
        header=header_of(signer, **header or {}),
        signer=signer,
    )


def twin_of(header: str, order: int) -> str:
    """Return a token with the other spelling of its ECDSA signature."""
    signed, _, signature = header.rpartition(".")
    decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return f"{signed}.{b64(twin(decoded, order))}"
