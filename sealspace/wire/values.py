"""A stored value, and the headers that carry what is stored with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from ..errors import InvalidInput, MalformedAnswer, TransferBroken
from .transport import Answer, Stream

_METADATA_PREFIX: Final = "x-tinycloud-meta-"
_MAX_METADATA_BYTES: Final = 16 * 1024
_DIGEST: Final = re.compile(r'"blake3-([0-9a-f]{64})"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Value:
    """A stored value."""

    body: bytes = field(repr=False)
    etag: str
    content_type: str | None
    metadata: Mapping[str, str]


def whole_value_of(answer: Answer) -> Value:
    """Read a value from an answer that holds its body, compared with its version; raises
    TransferBroken."""
    require_version_of(blake3(answer.body).hexdigest(), answer, moved_bytes=len(answer.body))
    return value_of(answer, answer.body)


def require_version_of(digest: str, answer: Answer | Stream, *, moved_bytes: int) -> None:
    """Compare the BLAKE3 of a body, in hex, with the version that the node announced (M1, J16).

    An ETag of another form says nothing about the body. One of this form is not signed either: the
    comparison finds bodies that were damaged or changed alone, not a party on the way that changes
    both.
    """
    announced = _DIGEST.fullmatch(answer.headers.get("ETag", ""))
    if announced is not None and announced[1] != digest:
        raise TransferBroken(
            f"{answer.asked}: the bytes are not those of the ETag", moved_bytes=moved_bytes
        )


def value_of(answer: Answer | Stream, body: bytes = b"") -> Value:
    """Read a value's version and metadata from an answer."""
    own = {
        name.lower().removeprefix(_METADATA_PREFIX): text
        for name, text in answer.headers.items()
        if name.lower().startswith(_METADATA_PREFIX)
    }
    return Value(
        body=body,
        etag=etag_of(answer),
        content_type=answer.headers.get("Content-Type"),
        metadata=own,
    )


def etag_of(answer: Answer | Stream) -> str:
    """Return the version that an answer names."""
    etag = answer.headers.get("ETag")
    if not etag:
        raise MalformedAnswer("the node's answer has no ETag")
    return etag


def bytes_of(body: object) -> bytes:
    """Return what is stored; the HTTP library would send a mapping as a form, and that would be
    stored."""
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput("a value that is a text is Unicode without lone surrogates") from exc
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    hint = "of anything else, json.dumps(value) makes a text"
    raise InvalidInput("a value is bytes or a text", hint=hint, step="write it as JSON")


def stored_headers(
    body: object, content_type: str | None, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the headers that are stored with a value."""
    headers = {
        _METADATA_PREFIX + _header_name(name): header_value(text)
        for name, text in (metadata or {}).items()
    }
    if sum(len(name) + len(text) for name, text in headers.items()) > _MAX_METADATA_BYTES:
        raise InvalidInput(f"metadata is longer than {_MAX_METADATA_BYTES} bytes")
    if content_type is None and isinstance(body, str):
        content_type = "text/plain;charset=UTF-8"
    if content_type is not None:
        headers["Content-Type"] = header_value(content_type)
    return headers


def condition(*, if_absent: bool = False, if_match: str | None) -> dict[str, str]:
    """Return the headers of a conditional write."""
    if if_absent and if_match is not None:
        raise InvalidInput("a put is either for an absent key or over a known value")
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if if_match is None else {"If-Match": header_value(if_match)}


def _header_name(name: str) -> str:
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput("a metadata name holds letters, digits, `-` and `_` only")
    return name.lower()


def header_value(text: str) -> str:
    """Return a text that a header can carry as it is; raises InvalidInput."""
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise InvalidInput("a header holds printable ASCII only, without spaces at its ends")
    return text
