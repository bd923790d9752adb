"""HTTP requests to one node.

Requests have limits of size and time. They are tried again where that is safe.

A token is valid once. A request therefore carries a function that mints tokens, and every try uses
a token of its own. A request that may have been carried out, because the connection broke after it
was sent, is tried again only if it is marked repeatable.

A slow node is not timed out while bytes move; see `TransportSettings.timeout_s`.

Example:
    async with Transport(url) as transport:
        answer = await transport.exchange(Request("GET", "/info", repeatable=True))
    assert answer.is_success
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Self, TypeVar
from urllib.parse import quote, unquote

from multidict import CIMultiDictProxy
from yarl import URL

from capabilities.frozen import frozen

from ..errors import (
    ClientClosed,
    InvalidInput,
    NodeRefused,
    NodeTimeout,
    NodeUnreachable,
    ResponseTooLarge,
)
from .http_connections import (
    ConnectionLost,
    Connections,
    HttpRequest,
    HttpResponse,
    NotConnected,
)
from .node_refusals import refusal_of

BYTES_PER_S = 16 * 1024
"""Slowest acceptable transfer, bytes per second; a slower one uses up its time and ends."""


Progress = Callable[[int, int | None], object]
"""Called with the bytes moved so far and the total, or None if the total is unknown."""


@dataclass
class Upload:
    """A streamed request body.

    Each attempt reads the body from the beginning. A body of known size must keep that size.
    """

    pieces: Callable[[], AsyncIterator[bytes]]
    size_bytes: int | None
    progress: Progress | None = None
    failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.failure = None
        moved_bytes = 0
        try:
            async for piece in self.pieces():
                if not isinstance(piece, bytes | bytearray | memoryview):
                    raise InvalidInput(
                        f"the source yields {type(piece).__name__}, not bytes",
                        hint='open files in binary mode ("rb")',
                    )
                moved_bytes += len(piece)
                if self.size_bytes is not None and moved_bytes > self.size_bytes:
                    break  # the source has grown, which is an error below
                if not piece:
                    continue  # an empty chunk would end a chunked body
                yield bytes(piece)
                if self.progress is not None:
                    self.progress(moved_bytes, self.size_bytes)
            if self.size_bytes not in (None, moved_bytes):
                raise InvalidInput(
                    "the size of the file changed while it was read",
                    hint="upload the file again while no other program changes it",
                )
        except Exception as exc:
            self.failure = exc  # kept because the connection fails too
            raise


class Pace:
    """The time budget of a request.

    Waiting reduces the budget, and transferred bytes extend it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._most_s = self._left_s = timeout_s
        self._limit: asyncio.Timeout | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Limit a `with` block to the request's remaining time budget.

        The elapsed time reduces the budget. Raises TimeoutError when the budget is used up.
        """
        try:
            async with asyncio.timeout(self._left_s) as self._limit:
                yield
        finally:
            self._save_left()
            self._limit = None

    def moved(self, size_bytes: int) -> None:
        """Extend a request's time budget after sending or receiving bytes.

        The extension is proportional to the number of bytes.
        """
        self._left_s = min(self._most_s, self._left_s + size_bytes / BYTES_PER_S)

    async def sent(self, upload: Upload) -> AsyncIterator[bytes]:
        """Yield the chunks of a request body.

        The timeout is paused while the source is read.
        """
        self._pause()
        async for piece in upload:
            self._reschedule(_now_s() + self._left_s)
            yield piece  # continues when the node, or a buffer before it, has accepted the piece
            self._pause()
            self.moved(len(piece))
        self._reschedule(_now_s() + self._left_s)

    def _pause(self) -> None:
        self._save_left()
        self._reschedule(None)

    def _save_left(self) -> None:
        """Store how much of the budget is left at this moment, unless the timeout is paused."""
        ends_at_s = None if self._limit is None else self._limit.when()
        if ends_at_s is not None:
            self._left_s = max(0.0, ends_at_s - _now_s())

    def _reschedule(self, when_s: float | None) -> None:
        if self._limit is not None:  # None: the node answered before it read the whole body
            self._limit.reschedule(when_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


Method = Literal["GET", "POST", "PUT", "DELETE"]

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Default limit for an answer; values may be larger, see `Kv.get`."""

MAX_ERROR_BYTES = 64 * 1024
"""Limit for an error answer."""

_MAX_ASKED_CHARS = 500


@frozen
class TransportSettings:
    """Settings for timeouts and retries.

    Attributes:
        timeout_s: seconds to wait for the node. Each 16 KiB that move earn back a second, so a long
            transfer may take longer.
        tries: most tries of a request, the first included.
        backoff_s: pause before the second try, seconds; doubled for each further one.
        allow_plain_http: accept `http://` to other machines, on a network that you trust.
        user_agent: the header `User-Agent`, which tells the node's operator who sends the requests.
    """

    timeout_s: float = 30.0
    tries: int = 3
    backoff_s: float = 0.1
    allow_plain_http: bool = False
    user_agent: str = "sealspace"


@frozen
class Request:
    """A request to a node.

    The default is a POST to `/invoke`.
    """

    method: Method = "POST"
    path: str = "/invoke"
    mint: Callable[[], str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Upload | None = field(default=None, repr=False)
    repeatable: bool = False
    max_answer_bytes: int = MAX_ANSWER_BYTES
    serves_once: bool = False
    asked: str = ""

    @property
    def subject(self) -> str:
        """The text that describes this request in error messages.

        The query and the token are left out.
        """
        text = self.asked
        if not text:
            path, _, _ = self.path.partition("?")
            text = f"{self.method} {unquote(path)}"
        return text[:_MAX_ASKED_CHARS]


def json_request(method: Method, path: str, body: bytes, *, serves_once: bool = False) -> Request:
    """Return a request with a JSON body."""
    return Request(
        method,
        path,
        headers={"Content-Type": "application/json"},
        body=body,
        serves_once=serves_once,
    )


@frozen
class Answer:
    """A complete response from a node."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)
    asked: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def require(self) -> Self:
        """Raise an error unless the status is 2xx.

        Returns this response.

        Raises:
            NodeRefused: the answer is an error; the class depends on status and text (J8).
        """
        if not self.is_success:
            raise self.refusal()
        return self

    def refusal(self) -> NodeRefused:
        """Return the exception for this error response."""
        return refusal_of(self.status, self.headers, self.body, asked=self.asked)


def path_segment(text: str) -> str:
    """Percent-encode a string as one path segment.

    The result is that of JavaScript's `encodeURIComponent`.
    """
    return quote(text, safe="!'()*")


class Transport:
    """The HTTP connections of a client.

    They are bound to the event loop in which they are first used.
    """

    def __init__(self, url: str, *, settings: TransportSettings | None = None) -> None:
        self._settings = settings or TransportSettings()
        self.url = _checked_base(url, allow_plain_http=self._settings.allow_plain_http)
        """The node's address without a trailing slash."""
        self._connections: Connections | None = None
        self._is_closed = False
        self._left: list[Connections | None] = []
        self.before_tokens: Callable[[], Awaitable[object]] | None = None
        """Awaited before each try that carries a token; an exception prevents the request."""

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for the node, see `TransportSettings.timeout_s`."""
        return self._settings.timeout_s

    async def check_node(self) -> None:
        """Verify the attestation evidence of the node.

        Nothing is verified unless the client requires evidence. Requests without a token need this
        too if their response is trusted.
        """
        self.require_open("a request to the node")
        if self.before_tokens is not None:
            await self.before_tokens()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections permanently.

        Later requests raise ClientClosed.
        """
        self._is_closed = True
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    def require_open(self, asked: str) -> None:
        """Raise ClientClosed if the connections were closed."""
        if self._is_closed:
            raise ClientClosed(f"{asked}: the client for {self.url} is closed")

    def leave_connections(self) -> None:
        """Stop using the connections in a forked child process.

        The connections are not closed. References to them are kept, because garbage collection
        would close them.
        """
        self._left.append(self._connections)
        self._connections = None

    async def require(self, request: Request) -> Answer:
        """Send a request and return the successful response.

        Raises:
            NodeRefused: the answer is an error; the class depends on status and text (J8).
            TransportError: the same errors as `exchange`.
        """
        return (await self.exchange(request)).require()

    async def exchange(self, request: Request) -> Answer:
        """Send a request and return the response.

        The response may be an error. A 503 guarantees that nothing was done, so it is tried again
        with a fresh token, unless the request is marked `serves_once`; so is a failure to connect.
        After a broken connection or a timeout, only a repeatable request is tried again.
        """
        return await self._try_repeatedly(request, Stream.whole)

    async def stream(self, request: Request) -> "Stream":
        """Send a request and return the response as a stream.

        The caller must close the stream.
        """
        tried = await self._try_repeatedly(request, Stream.unread_if_success)
        if isinstance(tried, Stream):
            return tried
        raise tried.refusal()

    async def _try_repeatedly(
        self, request: Request, read: "Callable[[Stream], Awaitable[_Tried]]"
    ) -> "_Tried":
        tries = 0
        pause_s = self._settings.backoff_s
        while True:
            tries += 1
            tried = await self._try_once(request, read, is_last=tries >= self._settings.tries)
            if tried is not _Try.AGAIN:
                return tried
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _try_once(
        self, request: Request, read: "Callable[[Stream], Awaitable[_Tried]]", *, is_last: bool
    ) -> "_Tried | Literal[_Try.AGAIN]":
        """Send a request once and read the response.

        Returns `AGAIN` if the request failed and may be sent again.
        """
        subject = request.subject
        self.require_open(subject)
        if request.mint is not None:
            await self.check_node()
        try:
            tried = await read(await self._open(request))
        except NotConnected as exc:
            if is_last or _is_without_tls(exc):
                raise self._not_connected(subject, exc) from exc
            return _Try.AGAIN
        except (TimeoutError, ConnectionLost) as exc:
            if isinstance(request.body, Upload) and request.body.failure is not None:
                # The source's own error says more than the one that it caused.
                raise request.body.failure from exc
            if is_last or not request.repeatable:
                raise self._error_for_no_response(subject, exc) from exc
            return _Try.AGAIN
        if tried.status == 503 and not is_last and not request.serves_once:
            return _Try.AGAIN
        return tried

    def _not_connected(self, subject: str, error: NotConnected) -> NodeUnreachable:
        """Return the error for a node to which there is no connection."""
        if not _is_without_tls(error):
            return NodeUnreachable(f"{subject}: no connection to {self.url}")
        return NodeUnreachable(
            f"{subject}: {self.url} serves plain HTTP, not HTTPS",
            hint=f"if the node is on this machine, use {self.url.replace('https', 'http', 1)};"
            " otherwise, use the address of its TLS proxy",
        )

    def _error_for_no_response(
        self, subject: str, error: Exception
    ) -> NodeTimeout | NodeUnreachable:
        """Return the error for a request to which no response arrived."""
        if isinstance(error, TimeoutError):
            waited = f"within {self._settings.timeout_s:g} s"
            return NodeTimeout(f"{subject}: no response from {self.url} {waited}")
        return NodeUnreachable(f"{subject}: the connection to {self.url} was cut off")

    async def _open(self, request: Request) -> "Stream":
        """Send a request and wait for the response headers.

        Each call sends a fresh token.
        """
        self.require_open(request.subject)
        if self._connections is None:
            self._connections = Connections(URL(self.url))
        headers = {
            "User-Agent": self._settings.user_agent,
            "Accept": "*/*",
            # Bodies are not decompressed: a stored `Content-Encoding` is metadata.
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if request.mint is not None:
            headers["Authorization"] = request.mint()
        pace = Pace(self._settings.timeout_s)
        body: bytes | AsyncIterator[bytes] | None
        if isinstance(request.body, Upload):
            body = pace.sent(request.body)
            if request.body.size_bytes is not None:
                headers["Content-Length"] = str(request.body.size_bytes)
        else:
            body = request.body
        target = URL(self.url + request.path, encoded=True).raw_path_qs
        async with pace.waiting():
            # Redirects are not followed: they would send the token to another server.
            response = await self._connections.respond(
                HttpRequest(method=request.method, target=target, headers=headers, body=body)
            )
        return Stream(response, pace, request)


def _is_without_tls(error: NotConnected) -> bool:
    """Return whether a TLS connection failed because the server speaks plain HTTP."""
    return getattr(error.cause, "reason", None) == "WRONG_VERSION_NUMBER"


class Stream:
    """A response whose body is read piece by piece.

    The caller must close it. Obtain it with `Transport.stream`.
    """

    def __init__(self, response: HttpResponse, pace: Pace, request: Request) -> None:
        self._response = response
        self._pace = pace
        self._max_bytes = request.max_answer_bytes if response.status < 400 else MAX_ERROR_BYTES
        self.status = response.status
        self.headers = response.headers
        self.size_bytes = response.content_length
        self.moved_bytes = 0
        self.asked = request.subject

    def close(self) -> None:
        """Release the connection of this response.

        The connection is closed if the body was not read completely. Otherwise it can be reused.
        """
        self._response.close()

    async def whole(self) -> Answer:
        """Read the whole body and close the stream."""
        with closing(self):
            body = bytearray()
            async for chunk in self.pieces():
                body += chunk
        return Answer(status=self.status, headers=self.headers, body=bytes(body), asked=self.asked)

    async def unread_if_success(self) -> "Stream | Answer":
        """Read the body of an error response.

        A response with a 2xx status is returned unread, as this stream.
        """
        if 200 <= self.status < 300:
            return self
        return await self.whole()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the response body piece by piece."""
        while True:
            chunk = self._response.arrived_piece()
            if chunk is None:
                async with self._pace.waiting():
                    chunk = await self._response.next_piece()
            self._pace.moved(len(chunk))
            if not chunk:
                return
            self.moved_bytes += len(chunk)
            if self.moved_bytes > self._max_bytes:
                raise ResponseTooLarge(
                    f"{self.asked}: the response is longer than {self._max_bytes} bytes"
                )
            yield chunk


_Tried = TypeVar("_Tried", bound=Answer | Stream)


class _Try(Enum):
    """The result of a try without a response that counts."""

    AGAIN = "again"


def _checked_base(url: str, *, allow_plain_http: bool) -> str:
    """Check the node's address and remove a trailing slash."""
    try:
        url.encode()  # raises for a lone surrogate
        parsed = URL(url)
        host = parsed.host
    except ValueError as exc:
        raise InvalidInput("the node's address is not a URL") from exc
    if parsed.scheme not in ("http", "https") or not host:
        raise InvalidInput(
            "the node's address must begin with http:// or https://",
            hint="for a node on this machine: http://127.0.0.1:8000",
            step="correct the URL, --node or SEALSPACE_NODE; for a node on this machine:"
            " http://127.0.0.1:8000",
        )
    if parsed.user is not None or parsed.query_string or parsed.fragment:
        raise InvalidInput("the node's address must not have credentials, a query or a fragment")
    is_local = host == "localhost" or host.endswith(".localhost")
    with suppress(ValueError):  # not an IP address
        is_local |= ipaddress.ip_address(host).is_loopback
    if parsed.scheme == "http" and not allow_plain_http and not is_local:
        raise InvalidInput(
            "plain http:// is allowed only for a node on this machine",
            hint="use https://, or pass TransportSettings(allow_plain_http=True) on a network you"
            " trust",
            step="use https://",
        )
    return str(parsed).rstrip("/")
