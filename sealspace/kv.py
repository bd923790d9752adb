"""A client for the key-value data of a space.

A key is the raw text of a URI path. The caller percent-encodes what a URI cannot contain, such as
spaces and non-ASCII. Nothing decodes it again, so `a%20b` is a key of its own (U13).

Example:
    kv = client.kv()
    await kv.put("todo/1", "buy milk", if_absent=True)
    value = await kv.get("todo/1")
    await kv.put("todo/1", b"done", if_match=value.etag)
    await kv.put_many({"todo/2": "read", "todo/3": "sleep"})
    assert [key async for key in kv.list("todo/")] == ["todo/1", "todo/2", "todo/3"]
    await kv.upload("film", "film.mp4", progress=lambda moved, size: print(f"{moved} of {size}"))
    await kv.download("film", "copy.mp4")
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import field, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from blake3 import blake3

from capabilities.abilities import KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.capability_errors import InvalidIdentifier
from capabilities.frozen import frozen
from capabilities.resources import SpaceId
from capabilities.siwe import parse_rfc3339
from capabilities.tokens import Capability

from .errors import (
    InvalidInput,
    LifetimeTooLong,
    MalformedAnswer,
    NotFound,
    PreconditionFailed,
    SpaceNotFound,
    ValueTooLarge,
)
from .session import INVOCATION_TTL_S, space_capability
from .wire.caller import Caller, in_words
from .wire.changes import DEFAULT_POLL_S, Change, ChangesPage, Feed, follow_changes
from .wire.node_answers import (
    decoded,
    json_object,
    read_pages,
    require_advance,
    required_text,
    text_list,
)
from .wire.transfers import (
    MOST_READS,
    MOST_WRITES,
    VERSION_HEADER,
    Part,
    Source,
    body_in_pieces,
    multipart,
    packed_keys,
    packed_parts,
    read_request,
    require_written,
    save,
    upload_of,
    values_in_batch,
    verified_pieces,
    write_in_order,
)
from .wire.transport import Answer, Progress, Request, Stream, json_request
from .wire.values import (
    KeptVersion,
    Value,
    condition_headers,
    etag_of,
    header_value,
    stored_headers,
    value_bytes_of,
    value_of,
    whole_value_of,
)

__all__ = [
    "MAX_PAGE_KEYS",
    "MAX_STREAM_BYTES",
    "MAX_URL_TTL_S",
    "MAX_VALUE_BYTES",
    "Change",
    "ChangesPage",
    "KeptVersion",
    "Kv",
    "Page",
    "SignedUrl",
    "Value",
]

MAX_PAGE_KEYS = 1000

MAX_VALUE_BYTES = 64 * 1024 * 1024
"""Default limit for a value that is read into memory."""

MAX_STREAM_BYTES = 1_000_000_000
"""Default limit for a value that is read as a stream: the largest value that a node stores by
default."""

_MAX_BATCH_BYTES = 96 * 1024 * 1024
"""Limit for a batch answer: a node puts up to 64 MiB of values into it, encoded in base64."""

MAX_URL_TTL_S = 300
"""Longest lifetime of a signed URL, and of the token that makes one, seconds."""

_DEFAULT_URL_TTL_S = 290.0
"""Lifetime of the token for a signed URL, below the limit in case the node's clock is behind."""

_CLOCKS_APART_S = 2.0
"""Tolerance for an end that is too early: the clocks differ, or the time is in whole seconds."""


_CONDITIONS = ("If-Match", "If-None-Match")
_VERSIONS = msgspec.json.Decoder(Annotated[tuple[KeptVersion, ...], msgspec.Meta(min_length=1)])


@frozen
class Page:
    """A page of keys.

    Attributes:
        keys: full keys, ascending.
        cursor: where the next page begins; None on the last page.
    """

    keys: tuple[str, ...]
    cursor: str | None


@frozen
class SignedUrl:
    """A URL that lets anyone read one version of a value.

    Attributes:
        url: the whole URL, a secret; hidden when this object is printed.
        expires_at: RFC 3339 text, as the node sent it.
    """

    url: str = field(repr=False)
    expires_at: str


class Kv:
    """A client that reads and writes values in a space.

    Use `Client.kv` to get an instance.

    Args:
        caller: sends requests with the session's authority.
        space: the space.
    """

    def __init__(self, caller: Caller, space: SpaceId) -> None:
        self._caller = caller
        self._space = space

    @property
    def space(self) -> SpaceId:
        """The id of this space."""
        return self._space

    async def get(
        self, key: str, *, max_bytes: int = MAX_VALUE_BYTES, version: int | None = None
    ) -> Value:
        """Read a value, or one version of it.

        Args:
            key: the key.
            max_bytes: largest accepted value; use `download` or `stream` for larger ones.
            version: number of the version in `versions`; None: the current value.
        Raises:
            NotFound: there is no value under this key, or this version is not kept; the message
                then lists those that are.
            MalformedAnswer: the node has no versions.
            SpaceNotFound: the node does not host the space.
            ValueTooLarge: the value is larger than `max_bytes`.
            NotGranted, Unauthorized: the session may not read it.
            TransferBroken: the body does not match the digest in its ETag.
        """
        answer = await self._invoke(KV_GET, key, read_request(max_bytes, version=version))
        # M56: a node without versions ignores the header, and returns the current value.
        if version is not None and answer.headers.get(VERSION_HEADER) != str(version):
            raise MalformedAnswer("the node does not keep versions of values")
        return whole_value_of(answer)

    async def get_if_changed(
        self, key: str, etag: str, *, max_bytes: int = MAX_VALUE_BYTES
    ) -> Value | None:
        """Read a value if it has changed since a known version.

        The value has changed if its version differs from `etag`.

        Returns:
            The value, or None if its version is `etag`.
        Raises:
            SealspaceError: the same errors as `get`.
        """
        answer = await self._caller.invoke(
            self._rights(KV_GET, key), read_request(max_bytes, etag=etag)
        )
        if answer.status == 304:
            return None
        with self._name_missing(key):
            return whole_value_of(answer.require())

    async def metadata(self, key: str) -> Value:
        """Read the version and the metadata of a value.

        The `body` of the result is empty.

        Raises:
            SealspaceError: the same errors as `get`.
        """
        return value_of(await self._invoke(KV_METADATA, key, Request(repeatable=True)))

    async def versions(self, key: str) -> tuple[KeptVersion, ...]:
        """Return the versions of a value that the node keeps (M56).

        The newest is first. After a deletion none of them is the current value. Only the owner in
        person may call this.

        Raises:
            NotFound: there is no value under this key, and no version is kept.
            MalformedAnswer: the node has no versions.
            SealspaceError: the same errors as `get`.
        """
        request = Request(headers={VERSION_HEADER: "all"}, repeatable=True)
        return decoded(
            _VERSIONS, await self._invoke(KV_METADATA, key, request), "a list of versions"
        )

    async def metadata_many(self, keys: Iterable[str]) -> dict[str, Value]:
        """Read the versions and the metadata of several values.

        One request reads up to 100. The `body` of each result is empty.

        Returns:
            Key to metadata, in the order of the keys, without the keys that have no value.
        Raises:
            SealspaceError: the same errors as `metadata`, except NotFound; then it returns nothing.
        """
        metadata: dict[str, Value] = {}
        for pack in packed_keys(keys, MOST_READS):
            metadata |= await self._read(pack, None)
        return metadata

    async def size_bytes(self, key: str) -> int:
        """Return the size of a value in bytes.

        The value is not downloaded, but `kv/get` is required.

        Raises:
            SealspaceError: the same errors as `get`.
        """
        with closing(await self._open_stream(key, MAX_STREAM_BYTES)) as stream:
            if stream.size_bytes is None:
                raise MalformedAnswer("the node's response does not give the value's size")
            return stream.size_bytes

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
        """Write a value.

        The value is durable when the call returns.

        Args:
            key: the key.
            body: bytes, or text. Text is sent as UTF-8, by default with the content type
                `text/plain;charset=UTF-8`.
            content_type: stored with the value and returned with it.
            metadata: names and texts stored and returned with the value; at most 16 KiB in all.
            if_absent: write only if there is no value now.
            if_match: write only over the value of this version.
        Returns:
            The version (ETag) of the new value.
        Raises:
            InvalidInput: the key cannot be used in a URI, or the body is neither bytes nor text.
            PreconditionFailed: the condition is not met, or a concurrent write won.
            NotGranted, Unauthorized: the session may not write it.
            QuotaExceeded, ValueTooLarge: there is not enough free space.
            NodeTimeout, NodeUnreachable: the value may or may not have been written.
        """
        headers = stored_headers(body, content_type, metadata)
        headers |= condition_headers(if_absent=if_absent, if_match=if_match)
        request = Request(headers=headers, body=body_in_pieces(value_bytes_of(body)))
        return etag_of(await self._invoke(KV_PUT, key, request))

    async def get_many(
        self, keys: Iterable[str], *, max_bytes: int = MAX_VALUE_BYTES
    ) -> dict[str, Value]:
        """Read several values.

        One request reads up to 100 values. Values of one request are read at the same moment.

        Args:
            keys: the keys.
            max_bytes: limit for each value, as in `get`.
        Returns:
            Key to value, in the order of the keys, without the keys that have no value.
        Raises:
            SealspaceError: the same errors as `get`, except NotFound; no value is returned then.
        """
        values: dict[str, Value] = {}
        for pack in packed_keys(keys, MOST_READS):
            values |= await self._read(pack, max_bytes)
        return values

    async def put_many(
        self, values: Mapping[str, bytes | str], *, content_type: str | None = None
    ) -> dict[str, str]:
        """Write several values.

        The values are durable when the call returns. One commit takes up to 250 values of at most
        64 KiB each, 4 MiB together, and writes all of them or none. Larger values are written after
        that, one by one.

        Args:
            values: key to bytes or text, as in `put`.
            content_type: content type of all values; None: as in `put`.
        Returns:
            Key to the version of the new value.
        Raises:
            BatchIncomplete: one commit failed after others succeeded; it lists the written keys.
            InvalidInput: a key or value is not valid; nothing was sent.
            SealspaceError: the same errors as `put`; nothing was written.
        """
        parts = {
            key: Part(value_bytes_of(body), stored_headers(body, content_type, None))
            for key, body in values.items()
        }
        self._rights(KV_PUT, *parts)  # raises for a key that is not valid, before anything is sent

        async def write(keys: Sequence[str]) -> None:
            if len(keys) == 1:
                part = parts[keys[0]]
                await self._invoke(
                    KV_PUT, keys[0], Request(headers=part.headers, body=body_in_pieces(part.body))
                )
            else:
                form, form_type = multipart({key: parts[key] for key in keys}, self._caller.entropy)
                request = Request(headers={"Content-Type": form_type}, body=body_in_pieces(form))
                answer = await self._caller.invoke(self._rights(KV_PUT, *keys), request)
                require_written(answer.require(), keys)

        await write_in_order(packed_parts(parts), write)
        # The ETag of a value depends on its bytes alone (M1).
        return {key: f'"blake3-{blake3(part.body).hexdigest()}"' for key, part in parts.items()}

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Delete several values.

        The values are deleted in atomic commits of up to 250 values each.

        Raises:
            NotFound: one of the keys never had a value.
            BatchIncomplete: one commit failed after others succeeded; it lists the deleted keys.
            NotGranted, Unauthorized: the session may not delete all of them; none is deleted.
        """

        async def write(keys: Sequence[str]) -> None:
            (await self._caller.invoke(self._rights(KV_DELETE, *keys), Request())).require()

        await write_in_order(packed_keys(keys, MOST_WRITES), write)

    async def stream(self, key: str, *, max_bytes: int = MAX_STREAM_BYTES) -> AsyncIterator[bytes]:
        """Yield the bytes of a value in pieces.

        Only one piece is in memory at a time.

        Args:
            key: the key.
            max_bytes: largest accepted value.
        Raises:
            TransferBroken: the value was cut off, or does not match its ETag. Discard the pieces
                that were already yielded.
            SealspaceError: the same errors as `get`.
        """
        with closing(await self._open_stream(key, max_bytes)) as stream:
            async for piece in verified_pieces(stream):
                yield piece

    async def download(
        self,
        key: str,
        to: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
        max_bytes: int = MAX_STREAM_BYTES,
    ) -> Value:
        """Download a value to a file.

        The value can have any size: only one piece is in memory at a time.

        Args:
            key: the key.
            to: a path, which is replaced atomically at the end, or an open binary file.
            progress: called with the bytes so far and the total.
            max_bytes: largest accepted value.
        Returns:
            Version and metadata; the body is empty.
        Raises:
            TransferBroken: the value was cut off, or does not match its ETag; the file at the path
                is unchanged.
            OSError: the file cannot be written.
            InvalidInput: the path is not a regular file.
            SealspaceError: the same errors as `get`.
        """
        with closing(await self._open_stream(key, max_bytes)) as stream:
            head = value_of(stream)
            await save(verified_pieces(stream), stream, to, progress)
        return head

    async def upload(
        self,
        key: str,
        source: Source,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Upload a value of any size from a file.

        The value is durable when the call returns.

        Args:
            key: the key.
            source: a path, an open binary file (read from its current position), or a synchronous
                or asynchronous iterable of bytes.
            content_type: the same as in `put`.
            metadata: the same as in `put`.
            if_absent: the same as in `put`.
            if_match: the same as in `put`.
            progress: called with the bytes sent so far and the total; the total is None if the
                source is an iterable.
        Returns:
            The version (ETag) of the new value.
        Raises:
            InvalidInput: the source does not yield bytes, or changed its size; nothing was stored.
            OSError: the file cannot be read; nothing was stored. Any other error of the source is
                raised as it is.
            SealspaceError: the same errors as `put`.
        """
        # The default content type depends on the type of the value, and for bytes there is none.
        # A file is stored like bytes.
        headers = stored_headers(b"", content_type, metadata)
        headers |= condition_headers(if_absent=if_absent, if_match=if_match)
        body = await upload_of(source, progress)
        # A body of unknown size comes from a source that may be readable only once. Its request is
        # not repeated.
        is_readable_once = body.size_bytes is None
        request = Request(headers=headers, body=body, serves_once=is_readable_once)
        return etag_of(await self._invoke(KV_PUT, key, request))

    async def delete(
        self, key: str, *, if_match: str | None = None, purge: bool = False
    ) -> str | None:
        """Delete a value.

        The deletion is durable when the call returns. The node may keep versions of the value for
        a time; `purge` deletes them too (M57), also those of a value that was deleted before.

        Returns:
            The version of the removed value; None if it was already deleted.
        Raises:
            NotFound: the key never had a value.
            PreconditionFailed: the value's version is not `if_match`.
            NotGranted, Unauthorized: the session may not delete it.
        """
        headers = condition_headers(if_match=if_match)
        if purge:
            headers["x-sealspace-purge"] = "true"
        answer = await self._invoke(KV_DELETE, key, Request(headers=headers))
        return answer.headers.get("ETag")

    async def signed_url(
        self, key: str, *, ttl_s: int | None = None, at_most: bool = False, etag: str | None = None
    ) -> SignedUrl:
        """Create a URL that lets anyone read a value.

        The URL is for one version of the value, and is valid for up to five minutes. The URL stops
        working when a grant of this session expires or is revoked, or when the value changes.

        Args:
            key: the key.
            ttl_s: lifetime in seconds, 1 to 300; None: about five minutes, or less if a grant of
                the session ends earlier.
            at_most: accept a shorter lifetime if this one is not possible.
            etag: the version; None: the current one.
        Raises:
            InvalidInput: the lifetime is not positive.
            LifetimeTooLong: the node allows less, or a grant of the session ends earlier.
            NotFound: there is no value under this key.
            SpaceNotFound: the node does not host the space.
            NotGranted, Unauthorized: the session may not read it.
        """
        if ttl_s is not None and ttl_s < 1:
            raise InvalidInput("the lifetime of a URL must be at least one second")
        wanted = self._rights(KV_GET, key)
        subject = f"a signed URL for {key}"
        if ttl_s is not None and not at_most:
            _require_lifetime(subject, ttl_s, MAX_URL_TTL_S)
            _require_lifetime(subject, ttl_s, self._caller.held_for_s(wanted))
        members = {"space": self._space.text, "path": key, "ttlSeconds": ttl_s, "etag": etag}
        stated = {name: value for name, value in members.items() if value is not None}
        body = msgspec.json.encode(stated)
        # The URL ends with the token that made it (wire §5.10). A token has at least its usual
        # lifetime; a shorter one of the URL is stated in the body alone.
        token_ttl_s = _DEFAULT_URL_TTL_S if ttl_s is None else min(ttl_s, MAX_URL_TTL_S)
        unsigned = json_request("POST", "/signed/kv", body)
        request = await self._caller.authorized(
            replace(unsigned, asked=f"{subject}, {in_words(wanted)}"),
            wanted,
            ttl_s=max(token_ttl_s, INVOCATION_TTL_S),
        )
        began = self._caller.clock.now()
        with self._name_missing(key):
            answer = json_object(await self._caller.transport.require(request))
        path = required_text(answer, "url")
        expires_at = required_text(answer, "expiresAt")
        # A URL of another host would send the value's readers to an attacker.
        if not path.startswith("/signed/"):
            raise MalformedAnswer("the node's response has a URL that is not the node's own")
        if ttl_s is not None and not at_most:  # the node may have shortened the lifetime
            try:
                ends_at = parse_rfc3339(expires_at)
            except InvalidIdentifier as exc:
                raise MalformedAnswer(
                    "the node's response does not say when the URL expires"
                ) from exc
            _require_lifetime(subject, ttl_s, ends_at - began + _CLOCKS_APART_S)
        return SignedUrl(self._caller.transport.url + path, expires_at)

    async def list_page(
        self, prefix: str = "", *, limit: int = MAX_PAGE_KEYS, cursor: str | None = None
    ) -> Page:
        """Return one page of the keys below a prefix.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`; "" is the whole
                space. The session needs `tinycloud.kv/list` on it.
            limit: largest number of keys, 1 to 1000; the same for all pages of one listing.
            cursor: `cursor` of the page before; None: the first page.
        Raises:
            InvalidInput: the limit is out of range.
            MalformedAnswer: the keys do not ascend below the prefix, or a page before the last one
                is empty.
            NotGranted, Unauthorized: the session may not list the keys.
            SpaceNotFound: the node does not host the space.
        """
        if not 1 <= limit <= MAX_PAGE_KEYS:
            raise InvalidInput(f"the page size must be 1 to {MAX_PAGE_KEYS} keys, not {limit}")
        headers = {"x-tinycloud-limit": str(limit)}
        if cursor is not None:
            headers["x-tinycloud-cursor"] = header_value(cursor)
        answer = await self._invoke(KV_LIST, prefix, Request(headers=headers, repeatable=True))
        is_truncated = answer.headers.get("x-tinycloud-truncated") == "true"
        next_cursor = answer.headers.get("x-tinycloud-next-cursor") if is_truncated else None
        if is_truncated and not next_cursor:
            raise MalformedAnswer(
                "the node's list of keys is incomplete, but has no cursor for the next page"
            )
        keys = text_list(answer)
        require_advance(keys, prefix=prefix, after=None, limit=limit, is_last=next_cursor is None)
        return Page(tuple(keys), next_cursor)

    async def list(self, prefix: str = "", *, page_keys: int = MAX_PAGE_KEYS) -> AsyncIterator[str]:
        """Yield all keys below a prefix, in ascending order.

        The prefix is that of `list_page`. The keys are fetched in pages of up to `page_keys`.

        Raises:
            MalformedAnswer, InvalidInput, NotGranted, Unauthorized, SpaceNotFound: see `pages`.
        """
        async for page in self.pages(prefix, page_keys=page_keys):
            for key in page.keys:
                yield key

    async def pages(
        self, prefix: str = "", *, page_keys: int = MAX_PAGE_KEYS
    ) -> AsyncIterator[Page]:
        """Yield all keys below a prefix, one page at a time.

        The keys are in ascending order.

        Raises:
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `list_page`.
        """

        last_key: str | None = None
        async for page in read_pages(
            lambda cursor: self.list_page(prefix, limit=page_keys, cursor=cursor),
            attrgetter("cursor"),
        ):
            # A node that ignores cursors would send its first page again and again (Q1). Only the
            # first key is compared, because `list_page` has compared the others with each other.
            require_advance(
                page.keys[:1],
                prefix=prefix,
                after=last_key,
                limit=page_keys,
                is_last=page.cursor is None,
            )
            if page.keys:
                last_key = page.keys[-1]
            yield page

    async def changes(
        self,
        prefix: str,
        *,
        cursor: str | None = None,
        limit: int = 500,
        follow: bool = True,
        poll_s: float = DEFAULT_POLL_S,
    ) -> AsyncIterator[ChangesPage]:
        """Yield the changes of the values below a prefix, and wait for further ones.

        The session needs `tinycloud.kv/sync` on the prefix, which is part of no sign-in.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`. Not empty.
            cursor: `cursor` of the last page that was handled; None: begin with all values.
            limit: a page ends with the commit that reaches this number of changes, 1 to 1000.
            follow: False: end with the present changes.
            poll_s: seconds between requests if the node has no place to wait.
        Raises:
            InvalidInput: the prefix is empty, or the limit is out of range.
            SealspaceError: the same errors as `list_page`. To continue, pass the last cursor.
        """
        feed = Feed(
            caller=self._caller, space=self._space, prefix=prefix, limit=limit, poll_s=poll_s
        )
        async for page in follow_changes(feed, cursor, waits=follow):
            yield page

    async def _open_stream(self, key: str, max_bytes: int) -> Stream:
        request = await self._caller.invocation(self._rights(KV_GET, key), read_request(max_bytes))
        with self._name_missing(key):
            return await self._caller.transport.stream(request)

    async def _read(self, keys: Sequence[str], max_bytes: int | None) -> dict[str, Value]:
        """Read several values, or only their metadata if there is no limit.

        The request is split if the values do not fit in one response.
        """
        if len(keys) == 1:
            try:
                if max_bytes is None:
                    return {keys[0]: await self.metadata(keys[0])}
                return {keys[0]: await self.get(keys[0], max_bytes=max_bytes)}
            except SpaceNotFound:
                raise
            except NotFound:
                return {}
        if max_bytes is None:
            answer = await self._caller.invoke(
                self._rights(KV_METADATA, *keys), Request(repeatable=True)
            )
            return values_in_batch(answer.require(), keys, has_bodies=False)
        request = replace(read_request(max_bytes), max_answer_bytes=_MAX_BATCH_BYTES)
        answer = await self._caller.invoke(self._rights(KV_GET, *keys), request)
        try:
            return values_in_batch(answer.require(), keys)
        except ValueTooLarge:
            # Either the values are too large together, or one of them is. In the second case,
            # halving ends with a read of that one value, which raises the error.
            middle = len(keys) // 2
            return await self._read(keys[:middle], max_bytes) | await self._read(
                keys[middle:], max_bytes
            )

    async def _invoke(self, ability: str, key: str, request: Request) -> Answer:
        answer = await self._caller.invoke(self._rights(ability, key), request)
        if answer.status == 503 and any(name in request.headers for name in _CONDITIONS):
            # Some nodes report a lost race of a conditional write as 503 (J8).
            raise PreconditionFailed(503, "another write is in progress", asked=answer.asked)
        with self._name_missing(key):
            return answer.require()

    def _rights(self, ability: str, *keys: str) -> Sequence[Capability]:
        return [space_capability(self._space, "kv", key, ability) for key in keys]

    @contextmanager
    def _name_missing(self, key: str) -> Iterator[None]:
        """Add the key and the space to NotFound errors."""
        try:
            yield
        except SpaceNotFound:
            raise
        except NotFound as missing:
            missing.restate(
                f"value with the key {key} in the space {self._space.text}",
                hint=f'list the keys with `client.kv("{self._space.text}").list()`',
            )
            raise


def _require_lifetime(subject: str, asked_s: float, possible_s: float) -> None:
    if asked_s > possible_s:
        raise LifetimeTooLong(subject, asked_s=asked_s, possible_s=possible_s)
