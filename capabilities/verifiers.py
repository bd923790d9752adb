"""Signature verifiers for Ed25519, P-256 and secp256k1 keys (rules K6, K7, Q25, Q33).

    key type    JWS algorithms                     signature            hash
    Ed25519     EdDSA                              64 bytes             SHA-512, inside
    P-256       ES256                              r ‖ s, 32 each       SHA-256
    secp256k1   ES256K                             r ‖ s, 32 each       SHA-256
                ES256K-R, ESKeccakKR               r ‖ s ‖ recovery     SHA-256, Keccak-256

For every ECDSA signature (r, s), the value (r, n - s) is valid too; only the one with the lower `s`
is accepted. The recovery byte is 0 or 1.

Example:
    P256Verifier(public_key).verify("ES256", signing_input, signature)  # or BadSignature
"""

import hashlib
from abc import ABC, abstractmethod

from btclib_libsecp256k1 import dsa, keys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .capability_errors import BadSignature
from .signatures import SECP256K1_ORDER, address_of, keccak256, recover_public_key, verify_ed25519

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256."""

_ES256 = ec.ECDSA(SHA256())


class Verifier(ABC):
    """A public key that verifies signatures.

    Attributes:
        algorithms: The JWS algorithm names that fit the key type.
        public_key: The key in its one short form: 32 bytes, or a compressed point of 33.
    """

    algorithms: frozenset[str]
    public_key: bytes

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        """Verify a signature over a message (K7).

        Args:
            algorithm: JWS name of the algorithm.
            message: The signed bytes, unhashed.
            signature: Bytes of any length.

        Raises:
            BadSignature: For every failure (K9), also if the algorithm does not fit the key (Q33).
        """
        # the token's header must not choose how a key is used (Q33, K7)
        if algorithm not in self.algorithms:
            raise BadSignature
        self._verify(algorithm, message, signature)

    @abstractmethod
    def _verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        """Verify a signature with an algorithm that the key supports."""


class Ed25519Verifier(Verifier):
    """An Ed25519 public key.

    Signatures are verified by the same rules as in libsodium (K7). `s` is below the order, and
    neither the key nor the point is of small order.
    """

    algorithms = frozenset({"EdDSA"})

    def __init__(self, public_key: bytes) -> None:
        """Store a 32-byte public key.

        Whether the key is a valid point is checked at verification.
        """
        if len(public_key) != 32:
            raise BadSignature
        self.public_key = public_key

    def _verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        verify_ed25519(self.public_key, message, signature)


class P256Verifier(Verifier):
    """A P-256 public key."""

    algorithms = frozenset({"ES256"})

    def __init__(self, point: bytes) -> None:
        """Decode a public key from a compressed or uncompressed point (K6)."""
        _check_form(point)
        try:
            self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as exc:
            raise BadSignature from exc
        self.public_key = self._key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def _verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        try:
            self._key.verify(_low_der(signature, P256_ORDER), message, _ES256)
        except InvalidSignature as exc:
            raise BadSignature from exc


class Secp256k1Verifier(Verifier):
    """A secp256k1 public key, such as that of an Ethereum wallet."""

    algorithms = frozenset({"ES256K", "ES256K-R", "ESKeccakKR"})

    def __init__(self, point: bytes) -> None:
        """Decode a public key from a compressed or uncompressed point (K6)."""
        _check_form(point)
        try:
            key = keys.parse(point)
        except ValueError as exc:
            raise BadSignature from exc
        self.public_key = keys.serialize(key)
        # Every use decodes the point, and a compressed point takes a square root to decode.
        self._point = keys.serialize(key, compressed=False)
        self.address = address_of(self._point)

    def _verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        digest = (
            keccak256(message) if algorithm == "ESKeccakKR" else hashlib.sha256(message).digest()
        )
        if algorithm == "ES256K":
            is_valid = dsa.verify(digest, self._point, _low_der(signature, SECP256K1_ORDER))
        else:
            is_valid = (
                len(signature) == 65
                and recover_public_key(digest, signature[:64], signature[64]) == self._point
            )
        if not is_valid:
            raise BadSignature


def _check_form(point: bytes) -> None:
    """Check that a curve point is compressed or uncompressed.

    The libraries also accept the hybrid form, which would be a third spelling of a key.
    """
    is_compressed = len(point) == 33 and point[0] in (2, 3)
    is_uncompressed = len(point) == 65 and point[0] == 4
    if not is_compressed and not is_uncompressed:
        raise BadSignature


def _low_der(signature: bytes, order: int) -> bytes:
    """Convert an ECDSA signature from r ‖ s to DER (K7, Q25).

    Signatures are rejected unless r is in range and s is low.
    """
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not 0 < r < order or not 0 < s <= order // 2:
        raise BadSignature
    return encode_dss_signature(r, s)
