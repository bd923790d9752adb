"""A wallet-signed message on the wire: CACAO (section 2.2, rules C1 to C5).

    { "h": {"t": "eip4361"}, "p": {payload}, "s": {"s": 65 bytes, "t": "eip191"} }      canonical DAG-CBOR

Only canonical DAG-CBOR with the known keys is read, so that a wallet's signature has few spellings, all of one content
key: `v` of 0 or 27, the case of an address, null for absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import libipld

from .errors import BadSignature, InvalidIdentifier, MalformedToken
from .principals import parse_address, parse_chain_id
from .resources import is_authority, is_scheme, is_uri
from .signatures import WalletSigner, recover_address
from .siwe import SiweMessage, parse_rfc3339, siwe_text
from .strict_base64 import decode_padded_url, encode_padded_url

# --- canonical DAG-CBOR ----------------------------------------------------------------------------------------------
# Every length and number is written in the fewest bytes, map keys are sorted by length and then by bytes. There are no
# tags: a byte string stays a byte string, whatever its contents. (A general encoder that treats one that parses as a
# CID as a link encodes one signature in 1,300 as something else.)

_NUMBER: Final = 0x00
_BYTES: Final = 0x40
_TEXT: Final = 0x60
_ARRAY: Final = 0x80
_MAP: Final = 0xA0
_NULL: Final = b"\xf6"


def encode_dag_cbor(value: object) -> bytes:
    """Return the canonical bytes of a value."""
    if isinstance(value, str):
        text = value.encode()
        return _cbor_head(_TEXT, len(text)) + text
    if isinstance(value, bytes):
        return _cbor_head(_BYTES, len(value)) + value
    if isinstance(value, dict):
        # Encoded text keys sort by length first, because their encoding begins with the length.
        members = sorted([(_cbor_key(key), encode_dag_cbor(member)) for key, member in value.items()])
        return _cbor_head(_MAP, len(members)) + b"".join([key + member for key, member in members])
    if isinstance(value, list):
        return _cbor_head(_ARRAY, len(value)) + b"".join(map(encode_dag_cbor, value))
    if value is None:
        return _NULL
    if type(value) is int:  # not a bool
        return _cbor_head(_NUMBER, value)
    raise ValueError(f"{type(value).__name__} has no place in a CACAO")


def _cbor_key(key: object) -> bytes:
    if not isinstance(key, str):
        raise ValueError("a map key of a CACAO is text")
    return encode_dag_cbor(key)


def _cbor_head(major: int, number: int) -> bytes:
    """Return the major type with a length or a number, in the fewest bytes."""
    if not 0 <= number < 1 << 32:
        raise ValueError("number out of range")
    if number < 24:
        return bytes((major | number,))
    if number < 1 << 8:
        return bytes((major | 24, number))
    if number < 1 << 16:
        return bytes((major | 25,)) + number.to_bytes(2, "big")
    return bytes((major | 26,)) + number.to_bytes(4, "big")


MAX_CACAO_BYTES: Final = 294_912
"""The bytes that a header of 393,216 characters carries in base64."""

MAX_RESOURCES: Final = 1_024
"""Most resources of one message; clients write one, and one more for a policy statement."""

_ISSUER_PREFIX: Final = "did:pkh:eip155:"
_PAYLOAD_REQUIRED: Final = frozenset({"domain", "iss", "aud", "version", "nonce", "iat"})
_PAYLOAD_OPTIONAL: Final = frozenset({"scheme", "statement", "exp", "nbf", "request_id", "resources"})
# C7: without these no field can forge a line of the text, so two sets of fields never share one text.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Cacao:
    """A sign-in message and its signature."""

    message: SiweMessage
    signature: bytes = field(repr=False)  # tokens are never logged


def parse_cacao(data: bytes) -> Cacao:
    """Read a CACAO.

    Args:
        data: Untrusted bytes.

    Returns:
        The message, every field of its type and without control characters, times readable (C10). A null field counts
        as absent.

    Raises:
        MalformedToken: Anything else: not canonical DAG-CBOR (C1), unknown or missing keys, other types (C3).

    Does not check:
        The signature (verify_cacao), the time window, the ReCap.
    """
    envelope = _decoded(data)
    cacao = _cacao_of(envelope, most_resources=MAX_RESOURCES)
    # C2, Q25: decoding accepts longer lengths, integers and links. The types are already checked: this is cheap.
    if encode_dag_cbor(envelope) != data:
        raise MalformedToken("CACAO is not canonical")
    return cacao


def restore_cacao(data: bytes) -> Cacao:
    """Read a CACAO that was parsed before it was stored; the caller vouches for the store.

    A store may contain messages that an earlier version accepted and `parse_cacao` refuses: signatures that were
    written as links (tag 42), more than MAX_RESOURCES resources.
    """
    return _cacao_of(_decoded(data), most_resources=MAX_CACAO_BYTES)


def encode_cacao(cacao: Cacao) -> bytes:
    """Return the canonical bytes: absent fields left out, the address in EIP-55 (C1)."""
    message = cacao.message
    optional = {
        "exp": message.expiration_time,
        "nbf": message.not_before,
        "scheme": message.scheme,
        "resources": list(message.resources) or None,
        "statement": message.statement,
        "request_id": message.request_id,
    }
    payload: dict[str, object] = {key: value for key, value in optional.items() if value is not None}
    payload |= {
        "aud": message.uri,
        "iat": message.issued_at,
        "iss": message.iss,
        "nonce": message.nonce,
        "domain": message.domain,
        "version": 1,
    }
    signature = {"s": cacao.signature, "t": "eip191"}
    return encode_dag_cbor({"h": {"t": "eip4361"}, "p": payload, "s": signature})


def sign_cacao(message: SiweMessage, wallet: WalletSigner) -> Cacao:
    """Return the message signed by the wallet whose address it names."""
    if message.address != wallet.address:
        raise ValueError("the message names another wallet")
    return Cacao(message, wallet.sign_eip191(siwe_text(message)))


def verify_cacao(cacao: Cacao) -> None:
    """Check that the wallet named in the message signed its text (C5).

    Raises:
        BadSignature: It did not; also for a contract wallet, which cannot be recovered (C6).
    """
    if recover_address(cacao.message.digest, cacao.signature) != cacao.message.address:
        raise BadSignature


def header_text(data: bytes) -> str:
    """Return the text form of CACAO bytes: base64 with the URL-safe alphabet and padding (E3)."""
    return encode_padded_url(data)


def header_bytes(text: str) -> bytes:
    """Read the text form of a CACAO (E3).

    Raises:
        MalformedToken: Another alphabet, padding missing, too much or before the end, spare bits set, whitespace.
    """
    data = decode_padded_url(text)
    if data is None:
        raise MalformedToken("CACAO is not padded base64url")
    return data


def restore_header_bytes(text: str) -> bytes:
    """Read a text form that was read before it was stored: earlier versions accepted padding before the end."""
    try:
        return libipld.decode_multibase("U" + text)[1]
    except ValueError as exc:
        raise MalformedToken("CACAO is not padded base64url") from exc


def _decoded(data: bytes) -> Mapping[str, object]:
    if len(data) > MAX_CACAO_BYTES:
        raise MalformedToken("CACAO too large")
    try:
        value = libipld.decode_dag_cbor(data)
    except (ValueError, RecursionError) as exc:
        raise MalformedToken("CACAO is not DAG-CBOR") from exc
    if not isinstance(value, dict):
        raise MalformedToken("CACAO is no map")
    return value


def _cacao_of(envelope: Mapping[str, object], *, most_resources: int) -> Cacao:
    head, payload, signature = (_map_of(envelope, key) for key in "hps")
    _check_keys(envelope, frozenset("hps"))
    _check_keys(head, frozenset("t"))
    _check_keys(signature, frozenset("st"))
    _check_keys(payload, _PAYLOAD_REQUIRED, _PAYLOAD_OPTIONAL)
    if head["t"] != "eip4361" or signature["t"] != "eip191":  # C3
        raise MalformedToken("CACAO of another kind")
    signed = signature["s"]
    if not isinstance(signed, bytes) or len(signed) != 65:  # C3
        raise MalformedToken("CACAO signature is not 65 bytes")
    return Cacao(_message_of(payload, most_resources), signed)


def _map_of(outer: Mapping[str, object], key: str) -> Mapping[str, object]:
    inner = outer.get(key)
    if not isinstance(inner, dict):
        raise MalformedToken("CACAO part is no map")
    return inner


def _check_keys(value: Mapping[str, object], required: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    if not required <= value.keys() <= required | optional:
        raise MalformedToken("CACAO keys missing or unknown")


def _message_of(payload: Mapping[str, object], most_resources: int) -> SiweMessage:
    version = payload["version"]
    if type(version) is not int or version != 1:  # neither "1" nor 1.0 nor true (C4)
        raise MalformedToken("CACAO version is not 1")
    chain_id, address = _issuer(_text(payload, "iss"))
    message = SiweMessage(
        domain=_text(payload, "domain"),
        address=address,
        chain_id=chain_id,
        uri=_text(payload, "aud"),
        nonce=_text(payload, "nonce"),
        issued_at=_text(payload, "iat"),
        statement=_optional_text(payload, "statement"),
        expiration_time=_optional_text(payload, "exp"),
        not_before=_optional_text(payload, "nbf"),
        request_id=_optional_text(payload, "request_id"),
        resources=_resources(payload.get("resources"), most_resources),
        scheme=_optional_text(payload, "scheme"),
    )
    _check_syntax(message)
    return message


def _check_syntax(message: SiweMessage) -> None:
    if not is_authority(message.domain) or not is_uri(message.uri):
        raise MalformedToken("CACAO domain or audience has no valid form")
    if message.scheme is not None and not is_scheme(message.scheme):
        raise MalformedToken("CACAO scheme has no valid form")
    if not all(map(is_uri, message.resources)):
        raise MalformedToken("CACAO resource is no URI")
    try:
        for moment in (message.issued_at, message.expiration_time, message.not_before):  # C10
            if moment is not None:
                parse_rfc3339(moment)
    except InvalidIdentifier as exc:
        raise MalformedToken("CACAO time is no RFC 3339") from exc


def _issuer(text: str) -> tuple[int, bytes]:
    if not text.startswith(_ISSUER_PREFIX):
        raise MalformedToken("CACAO issuer is no Ethereum account")
    chain, _, address = text[len(_ISSUER_PREFIX) :].partition(":")
    try:
        return parse_chain_id(chain), parse_address(address)  # C9
    except InvalidIdentifier as exc:
        raise MalformedToken("CACAO issuer is no Ethereum account") from exc


def _text(payload: Mapping[str, object], key: str) -> str:
    return _checked_text(payload[key])


def _optional_text(payload: Mapping[str, object], key: str) -> str | None:
    value = payload.get(key)
    return None if value is None else _checked_text(value)


def _resources(value: object, most: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MalformedToken("CACAO resources are no array")
    if len(value) > most:  # C11
        raise MalformedToken("CACAO names too many resources")
    return tuple(map(_checked_text, value))


def _checked_text(value: object) -> str:
    if not isinstance(value, str) or _CONTROL_CHARACTER.search(value):
        raise MalformedToken("CACAO field is no text, or holds a control character")
    return value
