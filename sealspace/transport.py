"""Requests to one node: bounded, retried only where a second try cannot do harm, errors mapped to typed ones.

A token is valid once. Therefore a request does not carry a token but a way to mint one, and every try mints its own;
nothing here ever sends a used token again. A request whose fate is unknown (the connection broke after it was sent) is
tried again only if it says that it is repeatable.

Example:
    transport = Transport("http://127.0.0.1:8000")
    answer = await transport.exchange(Request("GET", "/info", repeatable=True))
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ._refusals import refusal_of
from .errors import InvalidInput, NodeTimeout, NodeUnreachable, ResponseTooLarge

Method = Literal["GET", "POST", "PUT"]

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Longest answer unless the request says otherwise. Values may be larger: `Kv.get` has its own bound."""

MAX_ERROR_BYTES = 64 * 1024
"""Longest answer that is not a success; it is for people, and cut when it is shown."""

MAX_HEADER_LINE_BYTES = 32 * 1024
"""Stored metadata comes back as headers; a node keeps at most 16 KiB of it for a value."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Timeouts and retries of a client.

    Attributes:
        timeout_s: seconds for one try, from connecting to the last byte.
        tries: how often a request is made at most, the first included; 1 to 10.
        backoff_s: seconds before the second try; doubled before each further one.
        allow_plain_http: accept `http://` to an address that is not this machine. A listener on the way then reads
            stored values (not secrets) and can use a token before the node receives it.
    """

    timeout_s: float = 30.0
    tries: int = 3
    backoff_s: float = 0.1
    allow_plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a node.

    Attributes:
        method: HTTP method.
        path: path and query, percent-encoded already, from the leading "/".
        mint: makes the `Authorization` value; called anew for each try. None: the request carries none.
        headers: further headers.
        body: bytes to send; None: no body.
        repeatable: whether a try whose fate is unknown may be followed by another one.
        max_answer_bytes: largest body accepted.
        serves_once: what the body says is used up by a 503 too, so that sending it again can only be refused.
    """

    method: Method
    path: str
    mint: Callable[[], str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = False
    max_answer_bytes: int = MAX_ANSWER_BYTES
    serves_once: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered.

    Attributes:
        status: HTTP status.
        headers: response headers; looked up in any case.
        body: the bytes as sent, never unpacked.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def path_segment(text: str) -> str:
    """Percent-encode a text as one path segment, as `encodeURIComponent` does (every ":" and "/" included)."""
    return quote(text, safe="!'()*")


class Transport:
    """The HTTP side of a client; belongs to the event loop it is first used on.

    Args:
        url: address of the node, `https://…`, or `http://…` on this machine; a path in front of the routes is kept.
        settings: timeouts and retries, see `TransportSettings`.
    Raises:
        InvalidInput: the address is no such URL, or is plain HTTP to another machine.
    """

    def __init__(self, url: str, *, settings: TransportSettings | None = None) -> None:
        self._settings = settings or TransportSettings()
        self._base = _checked_base(url, allow_plain_http=self._settings.allow_plain_http)
        self._session: aiohttp.ClientSession | None = None
        self._before_tokens: Callable[[], Awaitable[object]] | None = None

    def guard_tokens(self, check: Callable[[], Awaitable[object]]) -> None:
        """Await `check` from now on before each try that carries a token; what it raises ends the request unsent."""
        self._before_tokens = check

    async def check_node(self) -> None:
        """Run the check that precedes a token: for answers that are trusted, or sealed to, without one."""
        if self._before_tokens is not None:
            await self._before_tokens()

    @property
    def url(self) -> str:
        """The node's address without a trailing slash."""
        return self._base

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the transport can be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def require(self, request: Request) -> Answer:
        """Make a request and return its answer if that is a success.

        Raises:
            NodeRefused: the node answered with an error, mapped by status and text (J8).
            TransportError: as `exchange`.
        """
        answer = await self.exchange(request)
        if not answer.is_success:
            raise refusal_of(answer.status, answer.headers, answer.body)
        return answer

    async def exchange(self, request: Request) -> Answer:
        """Make a request and return the node's answer, a refusal included.

        A 503 says that nothing was done, so it is tried again with a fresh token, unless the request serves once; so is
        a connection that was never made. A connection that broke, or took too long, is tried again only for a
        repeatable request.

        Raises:
            NodeUnreachable, NodeTimeout: no answer, after all tries.
            ResponseTooLarge: the body exceeds `max_answer_bytes`.
            SealspaceError: whatever the check of `guard_tokens` raises.
        """
        tries_left = self._settings.tries
        pause_s = self._settings.backoff_s
        while True:
            tries_left -= 1
            if request.mint is not None:
                await self.check_node()
            try:
                answer = await self._try(request)
                if answer.status != 503 or tries_left <= 0 or request.serves_once:
                    return answer
            except aiohttp.ClientConnectorError as exc:
                if tries_left <= 0:
                    raise NodeUnreachable(f"no connection to {self._base}") from exc
            except TimeoutError as exc:
                if tries_left <= 0 or not request.repeatable:
                    raise NodeTimeout(f"no answer from {self._base} within {self._settings.timeout_s:g} s") from exc
            except aiohttp.ClientError as exc:
                if tries_left <= 0 or not request.repeatable:
                    raise NodeUnreachable(f"the connection to {self._base} broke off") from exc
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _try(self, request: Request) -> Answer:
        """Make one try, with a token of its own."""
        if self._session is None:
            self._session = self._new_session()
        headers = CIMultiDict(request.headers)
        if request.mint is not None:
            headers["Authorization"] = request.mint()
        # Redirects are not followed: a token is for the node it was made for.
        async with self._session.request(
            request.method,
            URL(self._base + request.path, encoded=True),
            headers=headers,
            data=request.body,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:
            limit = request.max_answer_bytes if response.ok else MAX_ERROR_BYTES
            body = await _read_bounded(response, limit)
            return Answer(response.status, response.headers, body)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            middlewares=(_send_once,),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
        )


class _BrokeOff(aiohttp.ClientError):
    """The connection broke after the request may have been sent."""


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep the library from repeating GET and PUT by itself: the repeated request would carry a used token."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _BrokeOff("connection broke off") from exc


async def _read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read a body; stop as soon as it is longer than allowed."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise ResponseTooLarge(f"the answer is longer than {max_bytes} bytes")
    return bytes(body)


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
            hint="use https://, or pass TransportSettings(allow_plain_http=True) on a network you trust",
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
