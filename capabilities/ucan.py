"""UCAN 0.10 tokens, encoded as compact JWS (section 2.5).

Only strict forms are accepted: three parts, no padding, no spare bits, no repeated member of the
header or known member of the payload (T7), objects where objects are due (Q35), an `exp` that is a
time (Q28). The signed bytes are the received text before its last dot (T3).

Example:
    payload = UcanPayload(iss=key.did_url, aud=key.did, exp=now + 60, prf=[], att=att)
    token = encode_ucan(payload, key)
"""

import re
from typing import TYPE_CHECKING, Any

import msgspec
from libipld import decode_multibase

from .abilities import parse_ability
from .cache import memoize
from .capability_errors import InvalidIdentifier, InvalidJson, MalformedToken
from .facts import contains_statement
from .frozen_struct import AcyclicStruct
from .issuers import verify_jws
from .principals import Principal, principal_of
from .resources import has_valid_escapes
from .signatures import Ed25519Signer
from .siwe import YEAR_10000_S
from .strict_base64 import decode_url, encode_url
from .strict_json import JsonObject, bounded_decoder, check_text, parse_json, repeats_member

if TYPE_CHECKING:
    from .strict_json import Json
else:
    Json = Any  # the decoder needs no recursive type: any JSON value passes

MAX_PAYLOAD_BYTES = 294_912
"""Longest payload: the bytes that a header of 393,216 characters carries in base64."""

MAX_HEADER_PART_BYTES = 16_384
"""Longest JOSE header; with a public key it has some 150 bytes."""

_MEMOISED_CHARS = 512
"""Longest header or DID that is cached, so that unauthenticated clients cannot fill the caches."""

_NO_BASE64URL = "JWS part is not base64url without padding"
_UCV = "0.10.0"
_PAYLOAD_MEMBERS = frozenset({"iss", "aud", "exp", "nbf", "nnc", "fct", "prf", "att"})
# Algorithm names that a header may contain; any other makes the token undecodable. The key decides
# which of them is accepted (Q33).
_ALGORITHMS = frozenset(
    {
        "HS256",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES256K",
        "ES256K-R",
        "ESKeccakK",
        "ESKeccakKR",
        "ESBlake2b",
        "ESBlake2bK",
        "EdDSA",
        "EdBlake2b",
        "none",
    }
)
_KEY_TYPES = frozenset({"OKP", "EC", "RSA", "oct"})
_KEY_PARTS = ("x", "y", "d", "n", "e", "k")
_DID_TEXT = r"did:[a-z0-9]++:[A-Za-z0-9._:%\-]++"
_TAIL = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*+"
_DID = re.compile(_DID_TEXT)
_DID_URL = re.compile(rf"{_DID_TEXT}(?:[/?]{_TAIL})?(?:#{_TAIL})?")


class UcanHeader(AcyclicStruct):
    """The header fields that are used to verify a UCAN.

    Attributes:
        alg: A known algorithm name.
        jwk: A public key as JSON, used for accounts only (K3, K8), or None.
    """

    alg: str
    jwk: JsonObject | None = None


class UcanPayload(AcyclicStruct, kw_only=True, omit_defaults=True):
    """The claims of a UCAN."""

    iss: str
    aud: str
    exp: float
    nbf: float | None = None
    nnc: str | None = None
    fct: list[Json] | None = None
    prf: list[str]
    att: dict[str, dict[str, list[JsonObject]]]


class UcanToken(AcyclicStruct):
    """A parsed UCAN whose signature has not been verified yet.

    Attributes:
        header: The JOSE header.
        payload: The claims.
        issuer: The principal in `iss`, without fragment and canonical if possible (T5).
        audience: The principal in `aud`, in the same form.
        signing_input: The received text before its last dot, ASCII.
        signature: Bytes of any length.
    """

    header: UcanHeader
    payload: UcanPayload
    issuer: Principal
    audience: Principal
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"UcanToken(iss={self.payload.iss!r})"  # tokens are never logged


_PAYLOAD_DECODER = bounded_decoder(UcanPayload)


def parse_ucan(token: str) -> UcanToken:
    """Parse a UCAN in compact JWS form.

    Args:
        token: Untrusted text.

    Returns:
        The token; every member of its type, every ability valid, every caveat list non-empty.

    Raises:
        MalformedToken: Anything else.

    Does not check:
        The signature (verify_ucan), the time window, nor that resources are URIs and proofs CIDs.
    """
    signed, _, signature = token.rpartition(".")
    header, dot, payload = signed.partition(".")
    if not dot or "." in payload:
        raise MalformedToken("the JWS does not have three parts")
    head = _read_header(header)
    try:
        data = decode_multibase("u" + payload)[1]
        signature_bytes = decode_multibase("u" + signature)[1]
    except ValueError as exc:
        raise MalformedToken(_NO_BASE64URL) from exc
    claims = _read_payload(data)
    return UcanToken(
        header=head,
        payload=claims,
        issuer=_read_issuer(claims.iss),
        audience=_read_audience(claims.aud),
        signing_input=signed.encode(),
        signature=signature_bytes,
    )


def verify_ucan(token: UcanToken) -> None:
    """Verify the issuer's signature on a UCAN (K1 to K9).

    Raises:
        BadSignature: For every failure, including a key of an unsupported type.
    """
    header = token.header
    verify_jws(token.payload.iss, header.alg, token.signing_input, token.signature, jwk=header.jwk)


def encode_ucan(payload: UcanPayload, signer: Ed25519Signer) -> str:
    """Create a UCAN that is signed with an Ed25519 key."""
    jwk = {"alg": "EdDSA", "crv": "Ed25519", "kty": "OKP", "x": encode_url(signer.public_key)}
    header = msgspec.json.encode({"alg": "EdDSA", "jwk": jwk, "typ": "JWT", "ucv": _UCV})
    signing_input = f"{encode_url(header)}.{encode_url(msgspec.json.encode(payload))}"
    return f"{signing_input}.{encode_url(signer.sign(signing_input.encode()))}"


def _read_payload(data: bytes) -> UcanPayload:
    """Parse the payload of a UCAN, and refuse repeated members (T7)."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise MalformedToken("payload too large")
    try:
        payload = _PAYLOAD_DECODER.decode(data)
        # Counting quotes is much cheaper than parsing twice, and settles ordinary payloads.
        if data.count(b'"') != 2 * _count_strings(payload):
            _check_repeats(data, payload)
    except (ValueError, RecursionError, InvalidJson, InvalidIdentifier) as exc:
        raise MalformedToken("the payload does not have the claims of a UCAN") from exc
    if payload.exp >= YEAR_10000_S:  # such as an expiry in milliseconds (T6, Q28)
        raise MalformedToken("expiry is out of range")
    return payload


def _count_strings(payload: UcanPayload) -> int:
    """Count the decoded strings in a UCAN payload.

    The validity of its abilities is checked too.

    Strings in caveats and nested facts are not counted. The caller compares the count with the
    quotes in the JSON text. A string has two quotes, or more if one is escaped. Decoding drops
    repeated and unknown members, so the quotes of their names remain uncounted. If all quotes are
    counted, the payload contains nothing else: no repeated member at any level, and hardly any
    nesting.

    Raises:
        InvalidIdentifier, MalformedToken: An ability is invalid, or has no caveat list.
    """
    # iss and aud with their values; the names exp, prf and att
    texts = 7 + len(payload.prf) + len(payload.att)
    if payload.nbf is not None:
        texts += 1
    if payload.nnc is not None:
        texts += 2
    if payload.fct is not None:
        texts += _count_fact_strings(payload.fct)
    for abilities in payload.att.values():
        texts += len(abilities)
        for ability, caveats in abilities.items():
            parse_ability(ability)  # an invalid one refuses the token (A1, T1)
            if not caveats:
                raise MalformedToken("caveat list is empty")
    return texts


def _count_fact_strings(facts: list[Json]) -> int:
    """Count the strings in a UCAN's facts.

    The member name `fct` is counted too. Return 0 if a fact is nested: then the quotes do not add
    up, and the payload is checked fully.
    """
    texts = 1
    for fact in facts:
        if isinstance(fact, dict):
            texts += len(fact)
            for value in fact.values():
                if isinstance(value, str):
                    texts += 1
                elif isinstance(value, dict | list):
                    return 0
        elif isinstance(fact, str):
            texts += 1
        elif isinstance(fact, list):
            return 0
    return texts


def _check_repeats(data: bytes, payload: UcanPayload) -> None:
    """Reject a UCAN payload with repeated JSON keys (T7).

    This check is needed only if counting the quotes is not enough.
    """
    check_text(data, max_bytes=MAX_PAYLOAD_BYTES)
    if repeats_member(data, _PAYLOAD_MEMBERS):
        raise MalformedToken("payload repeats a member")
    if payload.fct is not None and contains_statement(payload.fct):
        # A repeated member anywhere in a policy would hide the condition that comes first.
        parse_json(data, max_bytes=MAX_PAYLOAD_BYTES)


# Most tokens have one of few issuers and audiences.
@memoize(4096, longest=_MEMOISED_CHARS)
def _read_issuer(iss: str) -> Principal:
    if not has_valid_escapes(iss) or _DID_URL.fullmatch(iss) is None:
        raise MalformedToken("issuer is not a DID")
    return principal_of(iss)


@memoize(4096, longest=_MEMOISED_CHARS)
def _read_audience(aud: str) -> Principal:
    if not has_valid_escapes(aud) or _DID.fullmatch(aud) is None:
        raise MalformedToken("audience is not a DID")
    return principal_of(aud)


# All tokens of a session key have the same header.
@memoize(4096, longest=_MEMOISED_CHARS)
def _read_header(text: str) -> UcanHeader:
    """Parse the base64url text of a JOSE header."""
    data = decode_url(text)
    if data is None:
        raise MalformedToken(_NO_BASE64URL)
    try:
        # a member that is repeated is an error (T7)
        fields = parse_json(data, max_bytes=MAX_HEADER_PART_BYTES)
    except InvalidJson as exc:
        raise MalformedToken("the header is not a JSON object") from exc
    algorithm = fields.get("alg")
    if fields.get("typ") != "JWT" or fields.get("ucv") != _UCV:
        raise MalformedToken(f"the header must have typ JWT and ucv {_UCV}")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise MalformedToken("the algorithm in the header is not supported")
    # A reader has to know every extension in `crit` (RFC 7515). The only known one is `b64`, with
    # the value true, which does not change the encoding (RFC 7797).
    has_known_extensions = fields.get("crit", []) in ([], ["b64"])
    if not has_known_extensions or fields.get("b64", True) is not True:
        raise MalformedToken("the header requires an extension that is not supported")
    jwk = fields.get("jwk")
    if jwk is None:
        return UcanHeader(algorithm, None)
    if not isinstance(jwk, dict) or not _is_jwk(jwk):
        raise MalformedToken("header key is not a JWK")
    return UcanHeader(algorithm, jwk)


def _is_jwk(value: Json) -> bool:
    """Return whether a value has the shape of a JSON Web Key; `issuers` checks the key itself."""
    if not isinstance(value, dict):
        return False
    kind = value.get("kty")
    if not isinstance(kind, str) or kind not in _KEY_TYPES:
        return False
    if kind == "OKP" and not (
        isinstance(value.get("crv"), str) and isinstance(value.get("x"), str)
    ):
        return False
    return all(
        decode_url(value[name]) is not None for name in _KEY_PARTS if value.get(name) is not None
    )
