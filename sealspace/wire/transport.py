"""Requests to one node: bounded, retried only where a second try cannot do harm, errors mapped to
typed ones.

A token is valid once. Therefore a request does not carry a token but a way to mint one, and every
try mints its own; nothing here ever sends a used token again. A request whose fate is unknown (the
connection broke after it was sent) is tried again only if it says that it is repeatable.

A node that is slow is waited for as long as bytes move; see `TransportSettings.timeout_s`.

Example:
    async with Transport(url) as transport:
        answer = await transport.exchange(Request("GET", "/info", repeatable=True))
    assert answer.is_success
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import (
    ClientClosed,
    InvalidInput,
    NodeRefused,
    NodeTimeout,
    NodeUnreachable,
    ResponseTooLarge,
)
from .node_refusals import refusal_of

BYTES_PER_S: Final = 16 * 1024
"""The slowest transfer that goes on for ever: a node that trickles below it is given up."""


Progress: TypeAlias = Callable[[int, int | None], object]
"""Called with the bytes moved so far, and with all there are; None where that is not known."""


@dataclass
class Upload:
    """A body that is read while it is sent, from its beginning for each try; one of known size has
    to keep it."""

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
                        f"the source gives {type(piece).__name__}, not bytes",
                        hint="open files with `rb`",
                    )
                moved_bytes += len(piece)
                if self.size_bytes is not None and moved_bytes > self.size_bytes:
                    break
                if not piece:
                    continue  # an empty chunk would end the body
                yield bytes(piece)
                if self.progress is not None:
                    self.progress(moved_bytes, self.size_bytes)
            if self.size_bytes not in (None, moved_bytes):
                raise InvalidInput(
                    "the file changed its size while it was read",
                    hint="upload it when nobody writes to it",
                )
        except Exception as exc:
            self.failure = exc  # the HTTP library puts an error of its own in its place
            raise


class Pace:
    """What one try may still wait for the node: waiting uses time up, and bytes that move earn it
    back."""

    def __init__(self, timeout_s: float) -> None:
        self._most_s = self._left_s = timeout_s
        self._limit: asyncio.Timeout | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Bound what is done in the block by the time that is left, and take it off; raises
        TimeoutError."""
        try:
            async with asyncio.timeout(self._left_s) as self._limit:
                yield
        finally:
            self._take_off()
            self._limit = None

    def moved(self, size_bytes: int) -> None:
        """Earn time back for bytes that moved."""
        self._left_s = min(self._most_s, self._left_s + size_bytes / BYTES_PER_S)

    async def sent(self, upload: Upload) -> AsyncIterator[bytes]:
        """Yield the pieces of a body; while its source is read, nobody waits for the node."""
        self._pause()
        async for piece in upload:
            self._reschedule(_now_s() + self._left_s)
            yield piece  # continued when the node, or the buffer before it, has taken it
            self._pause()
            self.moved(len(piece))
        self._reschedule(_now_s() + self._left_s)

    def _pause(self) -> None:
        self._take_off()
        self._reschedule(None)

    def _take_off(self) -> None:
        ends_at_s = None if self._limit is None else self._limit.when()
        if ends_at_s is not None:
            self._left_s = max(0.0, ends_at_s - _now_s())

    def _reschedule(self, when_s: float | None) -> None:
        if self._limit is not None:  # the node may have answered before it has taken the body
            self._limit.reschedule(when_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


Method = Literal["GET", "POST", "PUT", "DELETE"]

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Longest answer unless the request says otherwise. Values may be larger: `Kv.get` has its own
bound."""

MAX_ERROR_BYTES = 64 * 1024
"""Longest answer that is not a success; it is for people, and cut when it is shown."""

MAX_HEADER_LINE_BYTES = 32 * 1024
"""Stored metadata comes back as headers; a node keeps at most 16 KiB of it for a value."""

_MAX_ASKED_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Timeouts and retries of a client."""

    timeout_s: float = 30.0
    tries: int = 3
    backoff_s: float = 0.1
    allow_plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a node; by default an invocation."""

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
        """What errors say that was asked for: no query, which may hold a nonce, and no token."""
        return (self.asked or f"{self.method} {unquote(self.path.partition('?')[0])}")[
            :_MAX_ASKED_CHARS
        ]


def json_request(method: Method, path: str, body: bytes, *, serves_once: bool = False) -> Request:
    """Return a request with a JSON body."""
    return Request(
        method,
        path,
        headers={"Content-Type": "application/json"},
        body=body,
        serves_once=serves_once,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)
    asked: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def require(self) -> Self:
        """Return this answer if it is a success.

        Raises:
            NodeRefused: it is not; the class says what it means (J8).
        """
        if not self.is_success:
            raise self.refusal()
        return self

    def refusal(self) -> NodeRefused:
        """Return the error that this answer means, which is no success."""
        return refusal_of(self.status, self.headers, self.body, asked=self.asked)


def path_segment(text: str) -> str:
    """Percent-encode a text as one path segment, as `encodeURIComponent` does (every ":" and "/"
    included)."""
    return quote(text, safe="!'()*")


class Transport:
    """The HTTP side of a client; belongs to the event loop it is first used on."""

    def __init__(self, url: str, *, settings: TransportSettings | None = None) -> None:
        self._settings = settings or TransportSettings()
        self.url = _checked_base(url, allow_plain_http=self._settings.allow_plain_http)
        """The node's address without a trailing slash."""
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        self._left: list[aiohttp.ClientSession | None] = []
        self.before_tokens: Callable[[], Awaitable[object]] | None = None
        """Awaited before each try that carries a token; what it raises ends the request unsent."""

    async def check_node(self) -> None:
        """Run the check that precedes a token: for answers that are trusted, or sealed to, without
        one."""
        self.require_open("a request to the node")
        if self.before_tokens is not None:
            await self.before_tokens()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, for good: later requests raise ClientClosed."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def require_open(self, asked: str) -> None:
        """Go on only where this was not closed."""
        if self._is_closed:
            raise ClientClosed(f"{asked}: this client of {self.url} was closed")

    def leave_connections(self) -> None:
        """Give up the connections without closing them; they are kept, because collecting them
        would close them."""
        self._left.append(self._session)
        self._session = None

    async def require(self, request: Request) -> Answer:
        """Make a request and return its answer if that is a success.

        Raises:
            NodeRefused: the node answered with an error, mapped by status and text (J8).
            TransportError: as `exchange`.
        """
        return (await self.exchange(request)).require()

    async def exchange(self, request: Request) -> Answer:
        """Make a request and return the node's answer, a refusal included.

        A 503 says that nothing was done, so it is tried again with a fresh token, unless the
        request serves once; so is a connection that was never made. A connection that broke, or
        took too long, is tried again only for a repeatable request.
        """
        return await self._retried(request, Stream.whole)

    async def stream(self, request: Request) -> "Stream":
        """Make a request and return the node's answer with its body unread; the caller closes
        it."""
        tried = await self._retried(request, Stream.unread_if_success)
        if isinstance(tried, Stream):
            return tried
        raise tried.refusal()

    async def _retried(
        self, request: Request, read: "Callable[[Stream], Awaitable[_Tried]]"
    ) -> "_Tried":
        tries_left = self._settings.tries
        pause_s = self._settings.backoff_s
        what = request.subject
        while True:
            tries_left -= 1
            self.require_open(what)
            if request.mint is not None:
                await self.check_node()
            try:
                tried = await read(await self._open(request))
                if tried.status != 503 or tries_left <= 0 or request.serves_once:
                    return tried
            except aiohttp.ClientConnectorError as exc:
                if tries_left <= 0:
                    raise NodeUnreachable(f"{what}: no connection to {self.url}") from exc
            except (TimeoutError, aiohttp.ClientError) as exc:
                if isinstance(request.body, Upload) and request.body.failure is not None:
                    # What the source of the body raised, in place of what the HTTP library made of
                    # it.
                    raise request.body.failure from exc
                if tries_left <= 0 or not request.repeatable:
                    if isinstance(exc, TimeoutError):
                        waited = f"within {self._settings.timeout_s:g} s"
                        raise NodeTimeout(f"{what}: no answer from {self.url} {waited}") from exc
                    raise NodeUnreachable(
                        f"{what}: the connection to {self.url} broke off"
                    ) from exc
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _open(self, request: Request) -> "Stream":
        """Make one try, with a token of its own, until the head of the answer is there."""
        self.require_open(request.subject)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # `Pace` bounds every wait
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
                middlewares=(_send_once,),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=MAX_HEADER_LINE_BYTES,
                max_field_size=MAX_HEADER_LINE_BYTES,
            )
        headers = CIMultiDict(request.headers)
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
        async with pace.waiting():
            # Redirects are not followed: a token is for the node it was made for.
            response = await self._session.request(
                request.method,
                URL(self.url + request.path, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            )
        return Stream(response, pace, request)


class _BrokeOff(aiohttp.ClientError):
    """The connection broke after the request may have been sent."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep the library from repeating GET and PUT by itself: the repeated request would carry a
    used token."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _BrokeOff("connection broke off") from exc


class Stream:
    """An answer whose body is read piece by piece; made by `Transport.stream`, to be closed."""

    def __init__(self, response: aiohttp.ClientResponse, pace: Pace, request: Request) -> None:
        self._response = response
        self._pace = pace
        self._max_bytes = request.max_answer_bytes if response.ok else MAX_ERROR_BYTES
        self.status = response.status
        self.headers = response.headers
        self.size_bytes = response.content_length
        self.moved_bytes = 0
        self.asked = request.subject

    def close(self) -> None:
        """Give the connection back, or end it where something of the body is unread."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def whole(self) -> Answer:
        """Read the body into an answer, and close this."""
        with closing(self):
            body = bytearray()
            async for chunk in self.pieces():
                body += chunk
        return Answer(self.status, self.headers, bytes(body), self.asked)

    async def unread_if_success(self) -> "Stream | Answer":
        """Return this, or a refusal as a whole."""
        return self if 200 <= self.status < 300 else await self.whole()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body piece by piece."""
        while True:
            async with self._pace.waiting():
                chunk = await self._response.content.readany()
            self._pace.moved(len(chunk))
            if not chunk:
                return
            self.moved_bytes += len(chunk)
            if self.moved_bytes > self._max_bytes:
                raise ResponseTooLarge(
                    f"{self.asked}: the answer is longer than {self._max_bytes} bytes"
                )
            yield chunk


_Tried = TypeVar("_Tried", bound=Answer | Stream)


def _checked_base(url: str, *, allow_plain_http: bool) -> str:
    """Check the node's address and take off a trailing slash."""
    try:
        url.encode()  # a lone surrogate is a ValueError too
        parsed = URL(url)
        host = parsed.host
    except ValueError as exc:
        raise InvalidInput("the node's address is not a URL") from exc
    if parsed.scheme not in ("http", "https") or not host:
        raise InvalidInput(
            "the node's address must begin with http:// or https://",
            hint="for a node on this machine: http://127.0.0.1:8000",
        )
    if parsed.user is not None or parsed.query_string or parsed.fragment:
        raise InvalidInput("the node's address may not hold credentials, a query or a fragment")
    if parsed.scheme == "http" and not allow_plain_http and not _is_loopback(host):
        raise InvalidInput(
            "plain http:// is only for a node on this machine",
            hint=(
                "use https://, or pass TransportSettings(allow_plain_http=True) on a network you"
                " trust"
            ),
            step="use https://",
        )
    return str(parsed).rstrip("/")


def _is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
