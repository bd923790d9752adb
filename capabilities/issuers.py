"""Verification keys of token issuers (rules K1 to K6, K8, Q34).

The key is derived from the DID, or from a `jwk` header that the DID commits to. Nothing is fetched.

    issuer                                       key
    did:key:<multibase>[#<the same>]             in the DID
    did:pkh:eip155:<chain>:<address>[#…]         in the header's `jwk`; the address is its hash
    did:pkh:solana:<network>:<account>[#…]       in the header's `jwk`; the account is its base58
    did:jwk:<base64url JSON>#0                   in the DID

The fragment of an account is `#blockchainAccountId`.

Example:
    verify_jws("did:key:z6Mk...", "EdDSA", signing_input, signature)  # or BadSignature
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import libipld

from .capability_errors import BadSignature, InvalidJson
from .principals import ED25519_CODEC, Principal, did_key_content, eip55, is_wallet
from .strict_base64 import decode_url
from .strict_json import Json, parse_json
from .verifiers import Ed25519Verifier, P256Verifier, Secp256k1Verifier, Verifier

# --- JSON Web Keys --------------------------------------------------------------------------------
# Source: RFC 7517, RFC 7518 §6.2, RFC 8037 §2 (rules K3, K4, K8).
#
#     kty   crv          members
#     OKP   Ed25519      x     32 bytes, base64url without padding
#     EC    P-256        x, y  32 bytes each
#     EC    secp256k1    x, y  32 bytes each

_COORDINATE_BYTES = 32
_CURVES: Mapping[str, Callable[[bytes], Verifier]] = {
    "P-256": P256Verifier,
    "secp256k1": Secp256k1Verifier,
}


class VerificationKey(NamedTuple):
    """A public key for verifying an issuer's signatures.

    Attributes:
        verifier: Checks signatures with the public key.
        algorithm: The only algorithm that the JWK allows (K8); None: any that fits the key type.
    """

    verifier: Verifier
    algorithm: str | None = None


def key_of_jwk(jwk: Mapping[str, Json]) -> VerificationKey:
    """Parse a public JSON Web Key (K8)."""
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise BadSignature
    # `d` is the private half: any reader of the token could sign with it.
    if jwk.get("use") not in (None, "sig") or jwk.get("d") is not None:
        raise BadSignature
    algorithm = jwk.get("alg")
    if algorithm is not None and not isinstance(algorithm, str):
        raise BadSignature
    match jwk.get("kty"), jwk.get("crv"):
        case "OKP", "Ed25519":
            verifier: Verifier = Ed25519Verifier(_coordinate(jwk, "x"))
        case "EC", "P-256" | "secp256k1" as curve:
            verifier = _on_curve(curve, _coordinate(jwk, "x"), _coordinate(jwk, "y"))
        case _:
            raise BadSignature
    return VerificationKey(verifier, algorithm)


def _coordinate(jwk: Mapping[str, Json], name: str) -> bytes:
    data = decode_url(jwk.get(name))
    if data is None or len(data) != _COORDINATE_BYTES:
        raise BadSignature
    return data


# Many tokens of one account carry the same key, and decoding a point costs as much as checking a
# signature.
@lru_cache(maxsize=4096)
def _on_curve(curve: str, x: bytes, y: bytes) -> Verifier:
    return _CURVES[curve](b"\x04" + x + y)


MAX_DID_JWK_CHARS = 1024
"""Longest did:jwk that is parsed; ordinary ones have some 250 characters."""

_KEY = "did:key:"
_JWK = "did:jwk:"
_PKH = "did:pkh:"
_ACCOUNT_FRAGMENTS = ("", "#blockchainAccountId")
_SOLANA = re.compile(r"did:pkh:solana:[-_A-Za-z0-9]{1,32}:([1-9A-HJ-NP-Za-km-z]{32,44})")
# Multicodec of the key, as a varint of two bytes -> size of the key, its type.
_CODECS: Mapping[bytes, tuple[int, Callable[[bytes], Verifier]]] = {
    ED25519_CODEC: (32, Ed25519Verifier),
    b"\x80\x24": (33, P256Verifier),
    b"\xe7\x01": (33, Secp256k1Verifier),
}


def verify_jws(
    issuer: str,
    algorithm: str,
    signing_input: bytes,
    signature: bytes,
    *,
    jwk: Mapping[str, Json] | None = None,
) -> None:
    """Verify a JWS signature with the issuer's key (K1 to K9).

    Args:
        issuer: Untrusted text: DID or DID URL.
        algorithm: `alg` of the header.
        signing_input: The text before the last dot.
        signature: Bytes of any length.
        jwk: The key in the header, used for accounts only (K3). For another DID, the sender could
            put any key there.

    Raises:
        BadSignature: For every failure (K9); also when the algorithm does not fit the key (Q33).
    """
    key = verification_key(issuer, jwk)
    if key.algorithm not in (None, algorithm):  # a JWK may be for one algorithm alone (K8)
        raise BadSignature
    key.verifier.verify(algorithm, signing_input, signature)


def verification_key(issuer: str, jwk: Mapping[str, Json] | None = None) -> VerificationKey:
    """Return the public key for verifying an issuer's signatures.

    `issuer` is a DID or DID URL.

    Raises:
        BadSignature: The DID has no key of a supported type, the `jwk` does not belong to the
            account, or the fragment names another key.
    """
    if issuer.startswith(_KEY):
        return _key_of_url(issuer)
    did, hash_sign, fragment = issuer.partition("#")
    if did.startswith(_PKH):
        # the DID has only a digest of the key, so the header has to contain the key (K3)
        if jwk is None or hash_sign + fragment not in _ACCOUNT_FRAGMENTS:
            raise BadSignature
        return _account_key(did, jwk)
    if did.startswith(_JWK) and hash_sign + fragment == "#0":  # its only key (K4)
        return _did_jwk(did)
    # K4, K5: other methods are not resolved. Most need the network, and a token must not make the
    # node send requests (Q34).
    raise BadSignature


# Decoding a point costs as much as checking a signature. Only valid keys are cached, because a call
# that raises is not; so a client cannot fill the cache with long texts.
@lru_cache(maxsize=4096)
def _key_of_url(url: str) -> VerificationKey:
    """Return the key in a did:key, whose fragment may repeat the key."""
    did, hash_sign, fragment = url.partition("#")
    if hash_sign and did != _KEY + fragment:  # a fragment repeats the key (K1, K2)
        raise BadSignature
    content = did_key_content(did) or b""
    # the first two bytes say of which type the key is (K6)
    codec, key = content[:2], content[2:]
    size, verifier = _CODECS.get(codec, (None, None))
    if verifier is None or len(key) != size:
        raise BadSignature
    return VerificationKey(verifier(key))


def _account_key(did: str, jwk: Mapping[str, Json]) -> VerificationKey:
    """Return the key in a header, if the account in the DID belongs to it (K3)."""
    key = key_of_jwk(jwk)
    match key.verifier:
        case Secp256k1Verifier(address=address):
            spellings = (eip55(address), "0x" + address.hex())
            is_key_of_account = did.rpartition(":")[2] in spellings and is_wallet(Principal(did))
        case Ed25519Verifier(public_key=public_key):
            account = _SOLANA.fullmatch(did)
            base58 = libipld.encode_multibase("z", public_key)[1:]  # without the multibase code "z"
            is_key_of_account = account is not None and account.group(1) == base58
        case _:
            is_key_of_account = False
    if not is_key_of_account:  # anybody can put a key into the header (K3)
        raise BadSignature
    return key


@lru_cache(maxsize=1024)
def _did_jwk(did: str) -> VerificationKey:
    """Return the key in a did:jwk (K4)."""
    data = decode_url(did[len(_JWK) :]) if len(did) <= MAX_DID_JWK_CHARS else None
    if data is None:
        raise BadSignature
    try:
        return key_of_jwk(parse_json(data, max_bytes=MAX_DID_JWK_CHARS))
    except InvalidJson as exc:
        raise BadSignature from exc
