"""Public keys written as JSON Web Keys: RFC 7517, RFC 7518 §6.2, RFC 8037 §2 (rules K3, K4, K8).

    kty   crv          members
    OKP   Ed25519      x     32 bytes, base64url without padding
    EC    P-256        x, y  32 bytes each
    EC    secp256k1    x, y  32 bytes each

Example:
    key_of_jwk({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKx..."}).verifier
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from .errors import BadSignature
from .strict_base64 import decode_url
from .strict_json import Json
from .verifiers import Ed25519Verifier, P256Verifier, Secp256k1Verifier, Verifier

_COORDINATE_CHARS: Final = 43
"""32 bytes in base64url without padding."""

_CURVES: Final[Mapping[str, Callable[[bytes], Verifier]]] = MappingProxyType(
    {"P-256": P256Verifier, "secp256k1": Secp256k1Verifier}
)


class VerificationKey(NamedTuple):
    """A key that an issuer signs with.

    Attributes:
        verifier: Checks its signatures.
        algorithm: The one algorithm that the key's JWK allows (K8); None: all that fit its type.
    """

    verifier: Verifier
    algorithm: str | None = None


def key_of_jwk(jwk: Mapping[str, Json]) -> VerificationKey:
    """Read a public key.

    Args:
        jwk: Untrusted JSON object; unknown members are ignored.

    Returns:
        The key; its point lies on its curve.

    Raises:
        BadSignature: Another type of key, a coordinate that is not 32 bytes, a point off the curve, a key that is not
            for signatures, or one that includes its private half.
    """
    _check_purpose(jwk)
    algorithm = jwk.get("alg")
    if algorithm is not None and not isinstance(algorithm, str):
        raise BadSignature
    return VerificationKey(_verifier(jwk), algorithm)


def _check_purpose(jwk: Mapping[str, Json]) -> None:
    operations = jwk.get("key_ops")
    if jwk.get("use") not in (None, "sig") or (operations is not None and not _verifies(operations)):
        raise BadSignature
    if jwk.get("d") is not None:  # any reader of the token could sign as well
        raise BadSignature


def _verifies(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _verifier(jwk: Mapping[str, Json]) -> Verifier:
    match jwk.get("kty"), jwk.get("crv"):
        case "OKP", "Ed25519":
            return _ed25519(_coordinate(jwk, "x"))
        case "EC", "P-256" | "secp256k1" as curve:
            return _on_curve(curve, _coordinate(jwk, "x"), _coordinate(jwk, "y"))
        case _:
            raise BadSignature


def _coordinate(jwk: Mapping[str, Json], name: str) -> str:
    text = jwk.get(name)
    if not isinstance(text, str) or len(text) != _COORDINATE_CHARS:
        raise BadSignature
    return text


# Many tokens of one account carry the same key: reading a point costs as much as a signature.
@lru_cache(maxsize=4096)
def _on_curve(curve: str, x: str, y: str) -> Verifier:
    return _CURVES[curve](b"\x04" + _decoded(x) + _decoded(y))


@lru_cache(maxsize=4096)
def _ed25519(x: str) -> Verifier:
    return Ed25519Verifier(_decoded(x))


def _decoded(text: str) -> bytes:
    data = decode_url(text)
    if data is None:
        raise BadSignature
    return data
