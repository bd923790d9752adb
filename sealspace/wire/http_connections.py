"""HTTP/1.1 connections to one server.

h11 writes and parses the messages. This module moves their bytes, and keeps connections for later
requests. A request is sent once, and never again by itself.

Example:
    connections = Connections(URL("https://node.example"))
    response = await connections.respond(HttpRequest("GET", "/info", {}, None))
    while piece := await response.next_piece():
        ...
    response.close()
"""

import asyncio
import ipaddress
import select
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import cast

import h11
from aiohappyeyeballs import AddrInfoType, addr_to_addr_infos, start_connection
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from capabilities.frozen import frozen

MAX_HEAD_BYTES = 64 * 1024
"""Limit for the head of a response, beside the piece in which it ends.

The metadata of a value is returned in headers, and takes up to 16 KiB.
"""

PIECE_BYTES = 64 * 1024
"""Most bytes that are parsed at once. Larger buffers cost twice as much CPU a byte."""

READ_AHEAD_BYTES = 64 * 1024
"""Received bytes after which nothing more is read until some are parsed."""

MOST_CONNECTIONS = 100
"""Most connections at a time; further requests wait for a response to be closed."""

IDLE_S = 15.0
"""Seconds after which an unused connection is closed."""

_Part = h11.Response | h11.Data | h11.EndOfMessage
_PARTS = (h11.Response, h11.Data, h11.EndOfMessage)
_NEXT_ADDRESS_S = 0.25  # as RFC 8305 recommends: when to try a host's next address as well


class NotConnected(Exception):
    """No connection was made, so the server received nothing.

    Attributes:
        cause: the error of the operating system, of the name resolution or of TLS.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ConnectionLost(Exception):
    """The connection ended early, or what arrived is not HTTP.

    The server may have received the request.
    """


@frozen
class HttpRequest:
    """A request with a body that is complete, or comes in pieces.

    Without a `Content-Length` among the headers, pieces are sent in chunked encoding.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] | None


class _Connection(asyncio.Protocol):
    """One connection, with the bytes that arrived and were not parsed yet."""

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.is_lost = asyncio.Event()
        self.expiry: asyncio.TimerHandle | None = None
        self._arrived: deque[memoryview] = deque()
        self._arrived_bytes = 0
        self._has_ended = False
        self._failure: Exception | None = None
        self._has_news = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own

    def data_received(self, data: bytes) -> None:
        self._arrived.append(memoryview(data))
        self._arrived_bytes += len(data)
        if self._arrived_bytes > READ_AHEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._has_news.set()

    def eof_received(self) -> None:
        self._has_ended = True
        self._has_news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            # Bytes that arrived before are still parsed. The end of a body is not taken from this.
            self._failure = self._failure or ConnectionLost("the connection was reset")
        self._has_ended = True
        self.is_lost.set()
        self._has_news.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.expiry is not None:
            self.expiry.cancel()
        if self._transport is not None:
            self._transport.abort()

    def fail(self, failure: Exception) -> None:
        """Raise an error wherever more bytes are waited for."""
        self._failure = failure
        self._has_news.set()

    def is_usable(self) -> bool:
        """Return whether another request can be sent.

        A server that closed the connection, or sent bytes that nobody asked for, gets no further
        request on it: those bytes would be read as the next response.
        """
        if self._has_ended or self._arrived or self.http.trailing_data[0]:
            return False
        return self._failure is None and not self._has_unread_news()

    def _has_unread_news(self) -> bool:
        """Return whether bytes or the end arrived that the event loop has not read yet."""
        assert self._transport is not None
        arrivals = select.poll()
        arrivals.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(arrivals.poll(0))

    def start_next_cycle(self) -> bool:
        """Prepare for another request; return whether that is possible."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bool:
        """Write a part of a request, and wait until the buffer has space for the next one.

        Returns False if the connection was closed. A response may have arrived before.
        """
        data = self.http.send(event)
        if data and self._transport is not None and not self.is_lost.is_set():
            self._transport.write(data)
        await self._may_write.wait()
        return not self.is_lost.is_set()

    def parse(self) -> "_Part | None":
        """Parse the next part of a response, or return None if it has not arrived yet."""
        while True:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as exc:
                raise ConnectionLost(str(exc)) from exc
            if isinstance(event, _PARTS):
                return event
            if event is h11.NEED_DATA:
                if not self._feed():
                    return None
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionLost("the connection was closed")

    def _feed(self) -> bool:
        """Pass a bounded piece, or the end, to the parser; return False if there is neither."""
        if not self._arrived:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                self.http.receive_data(b"")
            return self._has_ended
        piece = self._arrived.popleft()
        if len(piece) > PIECE_BYTES:
            self._arrived.appendleft(piece[PIECE_BYTES:])
            piece = piece[:PIECE_BYTES]
        self._arrived_bytes -= len(piece)
        if self._arrived_bytes <= READ_AHEAD_BYTES and self._transport is not None:
            self._transport.resume_reading()
        self.http.receive_data(bytes(piece))
        return True

    async def wait(self) -> None:
        """Wait for bytes, the end or a failure."""
        self._has_news.clear()
        await self._has_news.wait()


class HttpResponse:
    """A response whose body is read piece by piece.

    The caller must close it.
    """

    def __init__(self, connections: "Connections", connection: _Connection) -> None:
        self._connections = connections
        self._connection = connection
        self._sending: asyncio.Task[None] | None = None
        self._is_complete = False
        self._is_closed = False
        self.status = 0
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

    @property
    def content_length(self) -> int | None:
        """The size of the body as announced, bytes."""
        text = self.headers.get("Content-Length")
        return None if text is None else int(text)

    async def send(self, request: HttpRequest, host: str) -> None:
        """Send the request, and wait for the head of the response.

        A body in pieces is sent on while the response is read: a server may refuse it early.
        """
        headers = {"Host": host, **request.headers}
        body = request.body
        if not isinstance(body, bytes | None):
            if "Content-Length" not in headers:
                headers["Transfer-Encoding"] = "chunked"
        elif body is not None or request.method != "GET":
            headers["Content-Length"] = str(len(body or b""))
        try:
            head = h11.Request(
                method=request.method,
                target=request.target,
                headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            )
        except h11.LocalProtocolError:
            # Not h11's text, which has the value. A line break could add another header.
            raise ValueError("a header of the request cannot be sent") from None
        await self._connection.send(head)
        if not isinstance(body, bytes | None):
            self._sending = asyncio.create_task(self._send_pieces(body))
        elif not body or await self._connection.send(h11.Data(body)):
            await self._connection.send(h11.EndOfMessage())
        await self._read_head()

    async def _send_pieces(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for piece in body:
                if not await self._connection.send(h11.Data(piece)):
                    return
            await self._connection.send(h11.EndOfMessage())
        except Exception as exc:
            self._connection.fail(exc)

    async def _read_head(self) -> None:
        while (event := self._connection.parse()) is None:
            await self._connection.wait()
        assert isinstance(event, h11.Response)
        self.status = event.status_code
        self.headers = CIMultiDictProxy(
            CIMultiDict(
                (name.decode(), value.decode("utf-8", "surrogateescape"))
                for name, value in event.headers.raw_items()
            )
        )

    async def next_piece(self) -> bytes:
        """Return the next bytes of the body, or b"" at its end.

        Raises:
            ConnectionLost: the body is not complete.
        """
        while (piece := self.arrived_piece()) is None:
            await self._connection.wait()
        return piece

    def arrived_piece(self) -> bytes | None:
        """Return the next bytes of the body, b"" at its end, or None if it has not arrived yet.

        Raises:
            ConnectionLost: the body is not complete.
        """
        while not self._is_complete:
            event = self._connection.parse()
            if event is None:
                return None
            if isinstance(event, h11.EndOfMessage):
                self._is_complete = True
            elif isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
        return b""

    def close(self) -> None:
        """Give the connection back if request and response are complete, else close it."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._sending is not None:
            self._sending.cancel()
        self._connections.give_back(self._connection)


class Connections:
    """The connections to one server, for one event loop."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._is_closed = False

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Send a request once, and return the response with its head.

        Raises:
            NotConnected: there is no connection.
            ConnectionLost: the connection ended before the head of the response.
        """
        await self._places.acquire()
        try:
            connection = await self._take_connection()
        except BaseException:
            self._places.release()
            raise
        response = HttpResponse(self, connection)
        try:
            await response.send(request, self._url.host_port_subcomponent or "")
        except BaseException:
            response.close()
            raise
        return response

    async def close(self) -> None:
        """Close all connections, those in use too."""
        self._is_closed = True
        if self._loop.is_closed():
            return
        closing = list(self._open)
        for connection in closing:
            connection.abort()
        for connection in closing:
            await connection.is_lost.wait()
        self._open.clear()
        self._idle.clear()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request, or close it if it cannot be used again."""
        self._places.release()
        if connection.start_next_cycle():
            connection.expiry = self._loop.call_later(IDLE_S, connection.abort)
            self._idle.append(connection)
        else:
            connection.abort()
            self._open.discard(connection)

    async def _take_connection(self) -> _Connection:
        """Take an idle connection or make one, unless the connections were closed meanwhile."""
        self._require_open()
        connection = self._take_idle_connection() or await self._connect()
        try:
            self._require_open()
        except ConnectionLost:
            connection.abort()
            raise
        return connection

    def _require_open(self) -> None:
        if self._is_closed:
            raise ConnectionLost("the connections were closed")

    def _take_idle_connection(self) -> _Connection | None:
        """Take the connection that was used last, if any can be used."""
        while self._idle:
            connection = self._idle.pop()
            if connection.expiry is not None:
                connection.expiry.cancel()
            if connection.is_usable():
                return connection
            connection.abort()
            self._open.discard(connection)
        return None

    async def _connect(self) -> _Connection:
        host = self._url.raw_host or ""
        is_tls = self._url.scheme == "https"
        try:
            connected_socket = await start_connection(
                await self._addresses(host, self._url.port or 443),
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
                interleave=1,
                loop=self._loop,
            )
            _, connection = await self._loop.create_connection(
                _Connection,
                sock=connected_socket,
                ssl=tls_context() if is_tls else None,
                server_hostname=host.rstrip(".") if is_tls else None,
            )
        except (OSError, UnicodeError) as exc:
            raise NotConnected(exc) from exc
        self._open.add(connection)
        return connection

    async def _addresses(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Return the addresses of a host, which may be an address itself."""
        try:
            ipaddress.ip_address(host)  # raises for a name
        except ValueError:
            return await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return addr_to_addr_infos((host, port)) or ()


@cache
def tls_context() -> ssl.SSLContext:
    """Return the settings of TLS: certificates are verified, by the authorities of the system.

    Loading these takes 20 ms of CPU, so it is done once in a process, and only for TLS.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
