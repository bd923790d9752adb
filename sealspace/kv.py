"""Values in a space: put, get, list, delete, with conditions.

A key is the raw text of a path in a URI: what a URI cannot hold (spaces, non-ASCII) is percent-encoded by the caller,
and nothing decodes it again, so `a%20b` is a key of its own (U13).

Example:
    kv = client.kv("notes")
    etag = await kv.put("todo/1", b"buy milk", content_type="text/plain", if_absent=True)
    value = await kv.get("todo/1")
    await kv.put("todo/1", b"done", if_match=value.etag)
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from capabilities.abilities import KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.resources import SpaceId

from ._answers import json_object, required_text, text_list
from ._caller import Caller
from ._capability import space_capability
from ._listing import read_pages, require_advance
from .errors import InvalidInput, MalformedAnswer, PreconditionFailed
from .transport import MAX_ANSWER_BYTES, Answer

METADATA_PREFIX: Final = "x-tinycloud-meta-"
MAX_PAGE_KEYS: Final = 1000

_MAX_METADATA_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Value:
    """A stored value.

    Attributes:
        body: the bytes.
        etag: version of the value, with its quotes; depends on the bytes alone.
        content_type: as stored, or None.
        metadata: own metadata, names without `x-tinycloud-meta-`, lower case.
    """

    body: bytes = field(repr=False)
    etag: str
    content_type: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of keys.

    Attributes:
        keys: full keys, ascending.
        cursor: where the next page begins; None on the last page.
    """

    keys: tuple[str, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL under which anybody may read one version of one value.

    Attributes:
        url: the whole URL; any holder of it can read. Not shown when printed.
        expires_at: RFC 3339, as the node said it.
    """

    url: str = field(repr=False)
    expires_at: str


class Kv:
    """The values of one space; made by `Client.kv`.

    Args:
        caller: sends requests with the session's authority.
        space: the space.
    """

    def __init__(self, caller: Caller, space: SpaceId) -> None:
        self._caller = caller
        self._space = space

    @property
    def space(self) -> SpaceId:
        """The space."""
        return self._space

    async def get(self, key: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> Value:
        """Read a value.

        Args:
            key: the key.
            max_bytes: the node refuses to send more, and no more is read.
        Raises:
            NotFound: there is no value under this key.
            SpaceNotFound: the space is not hosted.
            ValueTooLarge: the value is larger than `max_bytes`.
            NotGranted, Unauthorized: the session may not read it.
        """
        headers = {"x-tinycloud-max-response-bytes": str(max_bytes)}
        answer = await self._invoke(KV_GET, key, headers=headers, repeatable=True, max_bytes=max_bytes)
        return value_of(answer)

    async def get_if_changed(self, key: str, etag: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> Value | None:
        """Read a value unless it still is the version that the caller has.

        Returns:
            The value, or None when its version is `etag`.
        Raises:
            As `get`.
        """
        headers = {"If-None-Match": header_value(etag), "x-tinycloud-max-response-bytes": str(max_bytes)}
        answer = await self._caller.exchange(
            [space_capability(self._space, "kv", key, KV_GET)],
            headers=headers,
            repeatable=True,
            max_answer_bytes=max_bytes,
        )
        if answer.status == 304:
            return None
        return value_of(self._caller.require(answer))

    async def metadata(self, key: str) -> Value:
        """Read a value's version and metadata; the body of the result is empty.

        Raises:
            As `get`.
        """
        return value_of(await self._invoke(KV_METADATA, key, repeatable=True))

    async def put(
        self,
        key: str,
        body: bytes | str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write a value; it is durable when this returns.

        Args:
            key: the key.
            body: the bytes; a text is sent as UTF-8, and typed `text/plain;charset=UTF-8` where nothing else is given.
            content_type: stored and given back.
            metadata: texts stored and given back; at most 16 KiB with the names.
            if_absent: only if there is no value now.
            if_match: only over the value of this version.
        Returns:
            The version of the new value.
        Raises:
            InvalidInput: the key cannot be used in a URI, or the body is neither bytes nor a text.
            PreconditionFailed: the condition does not hold, or a rival write won.
            NotGranted, Unauthorized: the session may not write it.
            QuotaExceeded, ValueTooLarge: there is not enough free space.
            NodeTimeout, NodeUnreachable: whether it was written is not known.
        """
        if if_absent and if_match is not None:
            raise InvalidInput("a put is either for an absent key or over a known value")
        data = _bytes_of(body)
        headers = _metadata_headers(metadata or {})
        if content_type is None and isinstance(body, str):
            content_type = "text/plain;charset=UTF-8"
        if content_type is not None:
            headers["Content-Type"] = header_value(content_type)
        headers |= _condition(if_absent=if_absent, if_match=if_match)
        answer = await self._invoke(KV_PUT, key, headers=headers, body=data)
        return _etag(answer)

    async def delete(self, key: str, *, if_match: str | None = None) -> str | None:
        """Delete a value; the deletion is durable when this returns.

        Returns:
            The version of what was removed; None when it was deleted before.
        Raises:
            NotFound: nothing was ever written under this key.
            PreconditionFailed: the value is not of version `if_match`.
            NotGranted, Unauthorized: the session may not delete it.
        """
        answer = await self._invoke(KV_DELETE, key, headers=_condition(if_absent=False, if_match=if_match))
        return answer.headers.get("ETag")

    async def signed_url(self, key: str, *, ttl_s: int | None = None, etag: str | None = None) -> SignedUrl:
        """Make a URL under which anybody may read this version of a value, for minutes.

        It ends with the grants of this session, when one of them is revoked, and when the value changes.

        Args:
            key: the key.
            ttl_s: its lifetime in seconds, 1 or more; a node allows 300. None: as long as it allows.
            etag: the version; None: the current one.
        Raises:
            InvalidInput: no lifetime.
            NotFound: there is no value under this key.
            SpaceNotFound: the space is not hosted.
            NotGranted, Unauthorized: the session may not read it.
        """
        if ttl_s is not None and ttl_s < 1:
            raise InvalidInput("a URL lives one second or more")
        body: dict[str, str | int] = {"space": self._space.text, "path": key}
        if ttl_s is not None:
            body["ttlSeconds"] = ttl_s
        if etag is not None:
            body["etag"] = etag
        mint = await self._caller.minter([space_capability(self._space, "kv", key, KV_GET)])
        answer = await self._caller.send_json("POST", "/signed/kv", msgspec.json.encode(body), mint=mint)
        said = json_object(self._caller.require(answer))
        path = required_text(said, "url")
        if not path.startswith("/signed/"):
            raise MalformedAnswer("the node's URL is not one of its own")
        return SignedUrl(self._caller.transport.url + path, required_text(said, "expiresAt"))

    async def list_page(self, prefix: str = "", *, limit: int = MAX_PAGE_KEYS, cursor: str | None = None) -> Page:
        """Read one page of the keys that begin with a prefix.

        Args:
            prefix: the session must be granted `tinycloud.kv/list` on it; "" is the whole space.
            limit: keys of a page, 1 to 1000; the same for all pages of one listing.
            cursor: of the page before.
        Raises:
            InvalidInput: the limit is out of range.
            MalformedAnswer: the keys do not ascend under the prefix, or a page that another one follows is empty.
            NotGranted, Unauthorized, SpaceNotFound.
        """
        if not 1 <= limit <= MAX_PAGE_KEYS:
            raise InvalidInput(f"a page holds 1 to {MAX_PAGE_KEYS} keys")
        headers = {"x-tinycloud-limit": str(limit)}
        if cursor is not None:
            headers["x-tinycloud-cursor"] = header_value(cursor)
        answer = await self._invoke(KV_LIST, prefix, headers=headers, repeatable=True)
        truncated = answer.headers.get("x-tinycloud-truncated") == "true"
        following = answer.headers.get("x-tinycloud-next-cursor") if truncated else None
        if truncated and not following:
            raise MalformedAnswer("the node's list is cut short without a cursor")
        keys = text_list(answer)
        require_advance(keys, prefix=prefix, after=None, limit=limit, is_last=following is None)
        return Page(tuple(keys), following)

    async def list(self, prefix: str = "", *, page_keys: int = MAX_PAGE_KEYS) -> AsyncIterator[str]:
        """Yield every key that begins with a prefix, ascending; read page by page.

        Raises:
            As `list_page`; MalformedAnswer where the list does not advance, or has no end.
        """

        async def ask(cursor: str | None) -> tuple[Page, str | None]:
            page = await self.list_page(prefix, limit=page_keys, cursor=cursor)
            return page, page.cursor

        last: str | None = None
        async for page in read_pages(ask):
            # A node that ignores cursors would send its first page for ever (Q1).
            require_advance(page.keys[:1], prefix=prefix, after=last, limit=page_keys, is_last=page.cursor is None)
            for last in page.keys:
                yield last

    async def _invoke(
        self,
        ability: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        capability = space_capability(self._space, "kv", key, ability)
        conditional = headers is not None and ("If-Match" in headers or "If-None-Match" in headers)
        answer = await self._caller.exchange(
            [capability], headers=headers or {}, body=body, repeatable=repeatable, max_answer_bytes=max_bytes
        )
        if conditional and answer.status == 503:
            # A lost race under a condition is reported so by some nodes (J8).
            raise PreconditionFailed(503, "a rival write is under way")
        return self._caller.require(answer)


def value_of(answer: Answer) -> Value:
    """Read a value from an answer that holds one."""
    own = {
        name.lower().removeprefix(METADATA_PREFIX): text
        for name, text in answer.headers.items()
        if name.lower().startswith(METADATA_PREFIX)
    }
    return Value(body=answer.body, etag=_etag(answer), content_type=answer.headers.get("Content-Type"), metadata=own)


def _etag(answer: Answer) -> str:
    etag = answer.headers.get("ETag")
    if not etag:
        raise MalformedAnswer("the node's answer has no ETag")
    return etag


def _bytes_of(body: object) -> bytes:
    """Return what is stored; the HTTP library would send a mapping as a form, and that would be stored."""
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput("a value that is a text is Unicode without lone surrogates") from exc
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise InvalidInput("a value is bytes or a text", hint="of anything else, json.dumps(value) makes a text")


def _condition(*, if_absent: bool, if_match: str | None) -> dict[str, str]:
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if if_match is None else {"If-Match": header_value(if_match)}


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    headers = {METADATA_PREFIX + _header_name(name): header_value(text) for name, text in metadata.items()}
    if sum(len(name) + len(text) for name, text in headers.items()) > _MAX_METADATA_BYTES:
        raise InvalidInput(f"metadata is longer than {_MAX_METADATA_BYTES} bytes")
    return headers


def _header_name(name: str) -> str:
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput("a metadata name holds letters, digits, `-` and `_` only")
    return name.lower()


def header_value(text: str) -> str:
    """Return a text that a header can carry as it is.

    Raises:
        InvalidInput: it cannot.
    """
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise InvalidInput("a header holds printable ASCII only, without spaces at its ends")
    return text
