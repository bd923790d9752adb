"""CACAO, a format for wallet-signed messages (section 2.2, rules C1 to C5).

    { "h": {"t": "eip4361"}, "p": {payload}, "s": {"s": 65 bytes, "t": "eip191"} }

The encoding is canonical DAG-CBOR with the known keys; anything else is rejected. So one signature
has few encodings: `v` of 0 or 27, the case of an address, null for an absent member. They all have
the same content key.
"""

from dataclasses import field
from typing import Annotated, Literal

import libipld
import msgspec
from msgspec import Meta

from .capability_errors import BadSignature, InvalidIdentifier, MalformedToken
from .frozen import frozen
from .principals import parse_address, parse_chain_id
from .resources import is_authority, is_scheme, is_uri
from .signatures import WalletSigner, recover_address
from .siwe import SiweMessage, parse_rfc3339, siwe_text
from .strict_base64 import decode_padded_url, encode_padded_url
from .strict_json import StrictRecord

# --- canonical DAG-CBOR ---------------------------------------------------------------------------
# Every length and number is written in the fewest bytes; map keys are sorted by length, then by
# bytes. There are no tags. A general encoder turns byte strings that parse as a CID into links:
# it would encode one signature in 1,300 differently.

_NUMBER = 0x00
_BYTES = 0x40
_TEXT = 0x60
_ARRAY = 0x80
_MAP = 0xA0
_NULL = b"\xf6"


def encode_dag_cbor(value: object) -> bytes:
    """Encode a value as canonical DAG-CBOR.

    The keys of maps have to be strings.
    """
    if isinstance(value, str):
        text = value.encode()
        return _cbor_head(_TEXT, len(text)) + text
    if isinstance(value, bytes):
        return _cbor_head(_BYTES, len(value)) + value
    if isinstance(value, dict):
        # Encoded text keys sort by length first, because their encoding begins with the length.
        members = sorted(
            [(encode_dag_cbor(key), encode_dag_cbor(member)) for key, member in value.items()]
        )
        return _cbor_head(_MAP, len(members)) + b"".join([key + member for key, member in members])
    if isinstance(value, list):
        return _cbor_head(_ARRAY, len(value)) + b"".join(map(encode_dag_cbor, value))
    if value is None:
        return _NULL
    if type(value) is int:  # not a bool
        return _cbor_head(_NUMBER, value)
    raise ValueError(f"a value of type {type(value).__name__} is not allowed in a CACAO")


def _cbor_head(major: int, number: int) -> bytes:
    """Encode the type and the length of a CBOR item.

    For an integer, the value takes the place of the length.
    """
    if not 0 <= number < 1 << 32:
        raise ValueError("number out of range")
    if number < 24:
        return bytes((major | number,))
    if number < 1 << 8:
        return bytes((major | 24, number))
    if number < 1 << 16:
        return bytes((major | 25,)) + number.to_bytes(2, "big")
    return bytes((major | 26,)) + number.to_bytes(4, "big")


MAX_CACAO_BYTES = 294_912
"""Longest CACAO: the bytes that a header of 393,216 characters carries in base64."""

MAX_RESOURCES = 1_024
"""Most resources in one message (C11). Clients send one, or two with a policy statement."""

_ISSUER_PREFIX = "did:pkh:eip155:"

# C7: a line break in a field would forge a line of the signed text. Two payloads could then share
# one signature.
_Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]


class _Payload(StrictRecord, omit_defaults=True, kw_only=True):
    domain: _Text
    iss: _Text
    aud: _Text
    version: Literal[1]  # neither "1" nor 1.0 nor true (C4)
    nonce: _Text
    iat: _Text
    scheme: _Text | None = None
    statement: _Text | None = None
    exp: _Text | None = None
    nbf: _Text | None = None
    request_id: _Text | None = None
    resources: list[_Text] | None = None


class _Head(StrictRecord):
    t: Literal["eip4361"]


class _Signature(StrictRecord):
    t: Literal["eip191"]
    s: Annotated[bytes, Meta(min_length=65, max_length=65)]


class _Envelope(StrictRecord):
    h: _Head
    p: _Payload
    s: _Signature


@frozen
class Cacao:
    """A sign-in message with the wallet's signature."""

    message: SiweMessage
    signature: bytes = field(repr=False)  # tokens are never logged


def parse_cacao(data: bytes) -> Cacao:
    """Parse a wallet-signed message in CACAO format.

    Args:
        data: Untrusted bytes.

    Returns:
        The message. Every field has its type and no control characters; times are readable (C10). A
        null field counts as absent.

    Raises:
        MalformedToken: Not canonical DAG-CBOR (C1), or with unknown or missing keys or other types
            (C3).

    Does not check:
        The signature (verify_cacao), the time window, the ReCap.
    """
    value, envelope = _decode(data)
    resources = envelope.p.resources
    if resources is not None and len(resources) > MAX_RESOURCES:  # each is parsed (C11)
        raise MalformedToken("the CACAO lists too many resources")
    cacao = _cacao_of(envelope)
    # C2, Q25: the decoder also accepts overlong lengths and integers, and links. The check comes
    # last, because encoding is only defined for the types that are allowed here.
    if encode_dag_cbor(value) != data:
        raise MalformedToken("CACAO is not canonical")
    return cacao


def restore_cacao(data: bytes) -> Cacao:
    """Parse a CACAO that was read from the store.

    Earlier versions accepted messages that `parse_cacao` rejects: signatures encoded as links
    (tag 42), and more than MAX_RESOURCES resources. The caller guarantees that the store is intact.
    """
    return _cacao_of(_decode(data)[1])


def encode_cacao(cacao: Cacao) -> bytes:
    """Encode a CACAO as canonical DAG-CBOR (C1).

    The wallet address is written in EIP-55 mixed case.
    """
    message = cacao.message
    payload = _Payload(
        domain=message.domain,
        iss=message.iss,
        aud=message.uri,
        version=1,
        nonce=message.nonce,
        iat=message.issued_at,
        scheme=message.scheme,
        statement=message.statement,
        exp=message.expiration_time,
        nbf=message.not_before,
        request_id=message.request_id,
        resources=list(message.resources) or None,
    )
    envelope = _Envelope(h=_Head("eip4361"), p=payload, s=_Signature("eip191", cacao.signature))
    return encode_dag_cbor(msgspec.to_builtins(envelope, builtin_types=(bytes,)))


def sign_cacao(message: SiweMessage, wallet: WalletSigner) -> Cacao:
    """Sign a sign-in message with a wallet's key.

    The message must contain the wallet's address.
    """
    if message.address != wallet.address:
        raise ValueError("the message is for another wallet")
    return Cacao(message, wallet.sign_eip191(siwe_text(message)))


def verify_cacao(cacao: Cacao) -> None:
    """Verify the wallet's signature on a sign-in message (C5).

    Raises:
        BadSignature: Another key signed it; also for contract wallets, which are not supported
            (C6).
    """
    if recover_address(cacao.message.digest, cacao.signature) != cacao.message.address:
        raise BadSignature


header_text = encode_padded_url
"""Encode a CACAO for an HTTP header (E3)."""


def header_bytes(text: str) -> bytes:
    """Decode the bytes of a CACAO from an HTTP header (E3).

    Raises:
        MalformedToken: Another alphabet, padding missing, too much or before the end, spare bits
            set, whitespace.
    """
    data = decode_padded_url(text)
    if data is None:
        raise MalformedToken("the CACAO is not base64url with padding")
    return data


def restore_header_bytes(text: str) -> bytes:
    """Decode the bytes of a CACAO from a stored HTTP header.

    Padding before the end is accepted, because earlier versions stored such headers.
    """
    try:
        return libipld.decode_multibase("U" + text)[1]
    except ValueError as exc:
        raise MalformedToken("the CACAO is not base64url with padding") from exc


def _decode(data: bytes) -> tuple[object, _Envelope]:
    """Decode a CACAO from DAG-CBOR.

    Returns both the plain value and the typed envelope.
    """
    if len(data) > MAX_CACAO_BYTES:
        raise MalformedToken("CACAO too large")
    try:
        value = libipld.decode_dag_cbor(data)
        return value, msgspec.convert(value, _Envelope, builtin_types=(bytes,))
    except (ValueError, RecursionError) as exc:
        raise MalformedToken("the CACAO is not a DAG-CBOR map of the known fields") from exc


def _cacao_of(envelope: _Envelope) -> Cacao:
    """Return the message in an envelope after checking the fields whose type allows more."""
    payload = envelope.p
    chain_id, address = _issuer(payload.iss)
    message = SiweMessage(
        domain=payload.domain,
        address=address,
        chain_id=chain_id,
        uri=payload.aud,
        nonce=payload.nonce,
        issued_at=payload.iat,
        statement=payload.statement,
        expiration_time=payload.exp,
        not_before=payload.nbf,
        request_id=payload.request_id,
        resources=tuple(payload.resources or ()),
        scheme=payload.scheme,
    )
    is_scheme_valid = message.scheme is None or is_scheme(message.scheme)
    if not is_authority(message.domain) or not is_scheme_valid:
        raise MalformedToken("the CACAO's domain or scheme is invalid")
    if not all(map(is_uri, (message.uri, *message.resources))):
        raise MalformedToken("the CACAO's audience or a resource is not a URI")
    try:
        # every time has to be RFC 3339, even if nothing uses it yet (C10)
        for moment in (message.issued_at, message.expiration_time, message.not_before):
            if moment is not None:
                parse_rfc3339(moment)
    except InvalidIdentifier as exc:
        raise MalformedToken("a time in the CACAO is not RFC 3339") from exc
    return Cacao(message, envelope.s.s)


def _issuer(text: str) -> tuple[int, bytes]:
    """Return the chain id and the address in the DID of a CACAO's issuer."""
    if not text.startswith(_ISSUER_PREFIX):
        raise MalformedToken("the CACAO's issuer is not an Ethereum account")
    chain, _, address = text[len(_ISSUER_PREFIX) :].partition(":")
    try:
        return parse_chain_id(chain), parse_address(address)  # `01` and `+1` are chain 1 (C9)
    except InvalidIdentifier as exc:
        raise MalformedToken("the CACAO's issuer is not an Ethereum account") from exc
