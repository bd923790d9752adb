"""Stored values and their HTTP headers.

The headers contain the version and the metadata of a value.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Annotated

import msgspec
from blake3 import blake3

from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct

from ..errors import InvalidInput, MalformedAnswer, TransferBroken
from .transport import Answer, Stream

_METADATA_PREFIX = "x-tinycloud-meta-"
_MAX_METADATA_BYTES = 16 * 1024
_DIGEST = re.compile(r'"blake3-([0-9a-f]{64})"', re.ASCII)


@frozen
class Value:
    """A stored value.

    Attributes:
        body: the bytes; empty if only the metadata was read.
        etag: version of the value, as `if_match` takes it.
        content_type: the media type that is stored; None if it was not given.
        metadata: names in lower case, to texts.
        stored_at: when the node stored the value, epoch seconds, as the node says; None if it does
            not say. Only `metadata` and `metadata_many` give it.
    """

    body: bytes = field(repr=False)
    etag: str
    content_type: str | None
    metadata: Mapping[str, str]
    stored_at: float | None = None


# 2^37 s is in the year 6325; some machines cannot represent much later times.
_Time = Annotated[float, msgspec.Meta(ge=0, le=1 << 37)] | None
_Did = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"\Adid:[!-~]+\Z")] | None


class KeptVersion(FrozenStruct, rename="camel"):
    """A version of a value that the node keeps.

    Attributes:
        version: number, counted from 1 for each key.
        etag: version of the value, as `if_match` takes it.
        size_bytes: size of the value.
        stored_at: when the node stored the value, epoch seconds, as the node says; None if it does
            not say.
        replaced_at: when the value was replaced or deleted, likewise; None for the current value.
        is_current: whether this is the current value.
        stored_by: DID of who stored the value, as the node says: the wallet that signed in the key
            of the request, the recipient of the owner's grant, or the key itself. None if the node
            does not say.
    """

    version: int
    etag: str
    size_bytes: int
    stored_at: _Time
    replaced_at: _Time
    is_current: bool = msgspec.field(name="current")
    stored_by: _Did = None


def whole_value_of(answer: Answer) -> Value:
    """Read a value from a response and verify its ETag.

    Raises TransferBroken if the body does not match the ETag.
    """
    require_version_of(blake3(answer.body).hexdigest(), answer, moved_bytes=len(answer.body))
    return value_of(answer, answer.body)


def require_version_of(digest: str, answer: Answer | Stream, *, moved_bytes: int) -> None:
    """Check that a body matches the digest in its ETag (M1, J16).

    The digest is BLAKE3, in hexadecimal. An ETag of another form gives no digest to compare. The
    ETag is not signed: the check finds damaged bodies, not an attacker on the connection who
    changes both.

    Raises:
        TransferBroken: the digests differ.
    """
    announced = _DIGEST.fullmatch(answer.headers.get("ETag", ""))
    if announced is not None and announced[1] != digest:
        raise TransferBroken(
            f"{answer.asked}: the bytes do not match the ETag", moved_bytes=moved_bytes
        )


def value_of(answer: Answer | Stream, body: bytes = b"") -> Value:
    """Create a value from a body and response headers.

    The headers contain the version, the content type and the metadata.
    """
    metadata = {}
    for header, text in answer.headers.items():
        name = header.lower()
        if name.startswith(_METADATA_PREFIX):
            metadata[name.removeprefix(_METADATA_PREFIX)] = text
    stored_at = None
    # ValueError: not a date. OverflowError: a date that is no time on this machine.
    with suppress(ValueError, OverflowError):
        changed = parsedate_to_datetime(answer.headers.get("Last-Modified", ""))
        stored_at = changed.astimezone(UTC).timestamp()
    return Value(
        body=body,
        etag=etag_of(answer),
        content_type=answer.headers.get("Content-Type"),
        metadata=metadata,
        stored_at=stored_at,
    )


def etag_of(answer: Answer | Stream) -> str:
    """Return the ETag of a response.

    The ETag is the version of a value.
    """
    etag = answer.headers.get("ETag")
    if not etag:
        raise MalformedAnswer("the node's response has no ETag")
    return etag


def value_bytes_of(body: object) -> bytes:
    """Convert a value to the bytes that are stored; text becomes UTF-8.

    Raises InvalidInput for other types, and for text with a lone surrogate. A mapping is refused
    too, because the HTTP library would send it as a form.
    """
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput(
                "the text cannot be written as UTF-8: it contains a lone surrogate"
            ) from exc
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise InvalidInput(
        f"a value must be bytes or text, not {type(body).__name__}",
        hint="convert other types to text, for example with json.dumps(value)",
        step="write it as JSON",
    )


def stored_headers(
    body: object, content_type: str | None, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the request headers for storing a value.

    Text has the content type `text/plain;charset=UTF-8` by default, bytes have none. Raises
    InvalidInput if the metadata is too long, or a name or a text of it is not valid.
    """
    headers = {}
    for name, text in (metadata or {}).items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidInput("a metadata name may contain only letters, digits, `-` and `_`")
        headers[_METADATA_PREFIX + name.lower()] = header_value(text)
    if sum(len(name) + len(text) for name, text in headers.items()) > _MAX_METADATA_BYTES:
        raise InvalidInput(f"the metadata is longer than {_MAX_METADATA_BYTES} bytes")
    if content_type is None and isinstance(body, str):
        content_type = "text/plain;charset=UTF-8"
    if content_type is not None:
        headers["Content-Type"] = header_value(content_type)
    return headers


def condition_headers(*, if_absent: bool = False, if_match: str | None) -> dict[str, str]:
    """Return the headers of a conditional write: `If-Match`, `If-None-Match`, or none.

    Raises InvalidInput if both conditions are given, or the version is not a valid header value.
    """
    if if_absent and if_match is not None:
        raise InvalidInput("`if_absent` and `if_match` cannot be combined")
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if if_match is None else {"If-Match": header_value(if_match)}


def header_value(text: str) -> str:
    """Check that a string is a valid HTTP header value.

    Returns the string unchanged, or raises InvalidInput.
    """
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise InvalidInput(
            "a header value may contain only printable ASCII, without leading or trailing spaces"
        )
    return text
