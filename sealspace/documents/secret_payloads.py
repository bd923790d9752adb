"""The plaintext of a secret (EN26).

    {"value": "open sesame", "createdAt": "2026-01-02T03:04:05.678Z", "updatedAt": …,
     "place": {"owner": …, "space": …, "path": …, "form": "secret"}}

Bytes are stored as base64 text, with the member `"encoding": "base64"`. Readers ignore members that
they do not know.

Example:
    from sealspace.documents.places import place_of

    place = place_of(client.kv("secrets").space, "vault/secrets/API_KEY")
    plaintext = secret_payload("open sesame", place=place, now=0.0)
    assert read_payload(plaintext, "", place=place).value == "open sesame"
"""

from dataclasses import field
from typing import Any

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import parse_json, shaped

from ..errors import InvalidSecretPayload, InvalidSecretValue
from ..session import iso_time
from .places import Place, place_json, require_place

MAX_SECRET_BYTES = 1024 * 1024
"""Longest plaintext of a secret as JSON; bytes may take up three quarters of it."""

_BASE64 = "base64"


@frozen
class Generated:
    """Metadata of a generated secret (EN26).

    The metadata is encrypted together with the value of the secret.

    Attributes:
        type: the type of secret that was generated: `hex32`, `password:64`.
        at: RFC 3339 text.
        tag: authentication tag, 32 bytes; only the runner that made it can verify it.
    """

    type: str
    at: str
    tag: bytes = field(repr=False)


@frozen
class Secret:
    """A decrypted secret.

    Attributes:
        value: text, or bytes if bytes were stored.
        created_at: RFC 3339 text, as the writer stated it; a second put does not keep it.
        updated_at: RFC 3339 text, as the writer stated it.
        etag: version of the stored envelope, for `if_match` of `Secrets.put`.
        generated: statements of the runner that made it; None if they are missing or malformed.
        is_bound: whether the plaintext states its place (EN45). An unbound value may have been
            stored by a client that knows no places, or be another secret's value that somebody
            stored here.
    """

    value: str | bytes = field(repr=False)
    created_at: str
    updated_at: str
    etag: str
    generated: Generated | None = None
    is_bound: bool = True


class _Payload(msgspec.Struct, rename="camel", kw_only=True):
    value: str
    encoding: Any = msgspec.UNSET
    created_at: str
    updated_at: str
    generated: Any = msgspec.UNSET
    place: Any = msgspec.UNSET


def secret_payload(
    value: object,
    generated: Generated | None = None,
    *,
    place: Place,
    now: float,
    created_at: str | None = None,
    updated_at: str | None = None,
) -> bytes:
    """Encode the plaintext of a secret (EN26).

    Errors contain no part of the value.

    Args:
        value: text or bytes.
        generated: statements of the runner that made the value.
        place: where the envelope will be stored (EN45).
        now: epoch seconds.
        created_at: RFC 3339 text of an earlier value; None: `now`.
        updated_at: RFC 3339 text of a value that moves to another place; None: `now`.
    Raises:
        InvalidSecretValue: the value has another type, is too long, or is not valid Unicode.
    """
    now_text = iso_time(now)
    payload = _Payload(
        value="",  # set below, by its type
        created_at=now_text if created_at is None else created_at,
        updated_at=now_text if updated_at is None else updated_at,
        place=place_json(place),
    )
    if isinstance(value, str):
        payload.value = value
    elif isinstance(value, bytes | bytearray | memoryview):
        payload.value = encode_standard(bytes(value))
        payload.encoding = _BASE64
    else:
        raise InvalidSecretValue(
            f"a secret must be text or bytes, not {type(value).__name__}; nothing was sent"
        )
    if generated is not None:
        payload.generated = {
            "type": generated.type,
            "at": generated.at,
            "tag": encode_url(generated.tag),
        }
    try:
        encoded = msgspec.json.encode(payload)
    except ValueError:
        raise InvalidSecretValue(
            "the secret's text cannot be written as UTF-8: it contains a lone surrogate"
        ) from None
    if len(encoded) > MAX_SECRET_BYTES:
        raise InvalidSecretValue(
            f"the secret is too long: the limit is {MAX_SECRET_BYTES} bytes",
            hint="encrypt the data, store the encrypted data as a value, and store the"
            " encryption key as a secret",
        )
    return encoded


def read_payload(plaintext: bytes, etag: str, *, place: Place) -> Secret:
    """Parse the plaintext of a secret (EN26).

    Errors contain no part of the plaintext.

    Args:
        plaintext: untrusted; whoever knows a network's public key can seal one.
        etag: version of the stored envelope.
        place: where the envelope was found.
    Returns:
        The secret. If the plaintext states no place, `is_bound` is False, and the caller decides
        whether it may be used.
    Raises:
        InvalidSecretPayload: the plaintext is not that of a secret.
        PlaceMismatch: the plaintext states another place.
    """
    try:
        payload = shaped(parse_json(plaintext, max_bytes=MAX_SECRET_BYTES), _Payload)
    except CapabilityError:
        # The cause is left out, because a parser's error may quote the plaintext.
        raise InvalidSecretPayload(
            "the secret's plaintext is not a JSON object, or lacks a member"
        ) from None
    is_bound = payload.place is not msgspec.UNSET
    if is_bound:
        require_place(payload.place, place)
    if payload.encoding is msgspec.UNSET:  # the value is text
        return Secret(
            value=payload.value,
            created_at=payload.created_at,
            updated_at=payload.updated_at,
            etag=etag,
            generated=_read_generated(payload.generated),
            is_bound=is_bound,
        )
    value_bytes = None
    if payload.encoding == _BASE64:
        value_bytes = decode_standard(payload.value)
    if value_bytes is None:
        # The encoded text is not returned instead, because callers would take it for the value.
        raise InvalidSecretPayload(
            "the secret's bytes are damaged, or their encoding is unknown to this client"
        )
    # A runner generates text only, so bytes have no statements of a runner.
    return Secret(
        value=value_bytes,
        created_at=payload.created_at,
        updated_at=payload.updated_at,
        etag=etag,
        is_bound=is_bound,
    )


def _read_generated(member: object) -> Generated | None:
    """Read the member `generated` of a plaintext; None if it is missing or malformed."""
    match member:
        case {"type": str(generation_type), "at": str(at), "tag": str(tag_text)}:
            tag = decode_url(tag_text)
            if tag is not None:
                return Generated(type=generation_type, at=at, tag=tag)
    return None
