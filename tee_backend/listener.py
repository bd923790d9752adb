"""Connections of clients, bounded: how many, how long a head and an unread answer take, how much is
sent ahead.

The node and the runner both serve on these connections (H5, H8, H9; RN155 to RN158). Of the private
members of aiohttp a connection uses those that this module names, and its subclasses use no others.

Example:
    async with listening(app, bound, ConnectionLimits(max_connections=768)):
        ...  # requests are answered
"""

import asyncio
import logging
import resource
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from capabilities.limits import counted_address

MAX_TARGET_BYTES: Final = 65_534
MAX_HEADER_LINES: Final = 100
# All header bytes of one request together: enough for one token of the longest kind and everything
# around it. Without this bound a hundred lines of the longest kind would be kept in memory for one
# request.
MAX_HEAD_BYTES: Final = 1 << 20
BACKLOG: Final = 1024

Bound = Literal[
    "http.max_connections", "http.connections_per_client", "http.head_s", "http.unread_answer_s"
]

# How much of an answer the kernel keeps unsent for each connection. By default it keeps megabytes,
# and requests for that many small answers would be worked off for a client that reads none.
_SMALL_BYTES: Final = 1 << 17
_KERNELS_OWN: Final = 0

_NAME_ALLOWANCE_BYTES: Final = 64  # the parser counts a header's name with its value

# Descriptors for everything else that a process opens: without any, accepting stops.
_KEPT_DESCRIPTORS: Final = 128

# From a client with so many unanswered requests nothing more is read before it has its answers.
# (Nor is its disconnect noticed: that of a client with few requests ahead is.)
_MANY_DUE: Final = 8

# How long a refused client may go on sending: closing a socket with unread bytes resets the
# connection, and the client would not see the answer.
_LINGER_S: Final = 2.0

# What a client has not taken is dropped with the connection, instead of waiting in the kernel for a
# reader.
_DISCARD: Final = struct.pack("ii", 1, 0)

# What is read of bodies whose requests are answered, of all connections together: it is discarded,
# and at full speed a few clients that send on would use up the event loop.
_DISCARDED_PER_S: Final = 16 * 1024 * 1024

# How long accepting rests where the process has no descriptor left.
_REST_S: Final = 1.0

_QUIET: Final = logging.getLogger("sealspace.backend-server")
_QUIET.setLevel(logging.CRITICAL)  # each client that disconnects early would cost a traceback

_Answered = TypeVar("_Answered")

_REFUSALS: Final = {
    408: b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    431: (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection:"
        b" close\r\n\r\n"
    ),
    414: b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Bounds of the connections of one process; the defaults are those of a runner."""

    max_connections: int = 640
    connections_per_client: int = 128
    head_s: float = 10.0
    unread_answer_s: float = 15.0
    keep_alive_s: float = 75.0
    max_header_line_bytes: int = 32 * 1024
    max_head_bytes: int = 80 * 1024
    max_idle: int = 256


class ConnectionBounds:
    """The open connections of one process; belongs to its event loop's thread."""

    def __init__(
        self,
        limits: ConnectionLimits,
        client_of: Callable[[str | None], str | None] = counted_address,
    ) -> None:
        self.limits = limits
        self._client_of = client_of
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        available = max(soft - _KEPT_DESCRIPTORS, 1) if soft != resource.RLIM_INFINITY else 1 << 30
        self.most = min(limits.max_connections, available)
        self.open = 0
        self._by_client = Counter[str]()
        self._discarding_until_s = 0.0

    def take(self, peer: str | None) -> bool:
        """Count a new connection from an address, if the bounds allow it; a counted one has to be
        given back.

        Args:
            peer: the other end's address; None: it has none.
        """
        if self.open >= self.most:  # H9, RN155
            self.met("http.max_connections")
            return False
        if (client := self._client(peer)) is not None:
            if self._by_client[client] >= self.limits.connections_per_client:  # H9, RN155
                self.met("http.connections_per_client")
                return False
            self._by_client[client] += 1
        self.open += 1
        return True

    def give_back(self, peer: str | None) -> None:
        """Note that a counted connection has ended."""
        self.open -= 1
        if (client := self._client(peer)) is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def discard(self, size_bytes: int, now: float) -> float:
        """Count bytes that are discarded; return the seconds in which their connection reads no
        more (H8, RN157)."""
        self._discarding_until_s = (
            max(self._discarding_until_s, now) + size_bytes / _DISCARDED_PER_S
        )
        return self._discarding_until_s - now

    def met(self, bound: Bound) -> None:
        """Note a connection that was closed for the bound of a setting."""

    def _client(self, peer: str | None) -> str | None:
        return self._client_of(peer) if self.limits.connections_per_client else None


class Connection(web.RequestHandler):
    """One client connection; aiohttp's, with our bounds, without its error texts, and without a
    task per request.

    It reads what is awaited: a head, or the body of the request that is being answered. When
    anything else has come, as much as the kernel hands over at once, no more is read until it is
    awaited: no client fills a worker's memory behind an answer that it does not take.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        bounds: ConnectionBounds,
        arrived: Callable[[int], object] = bool,  # counts nothing
    ) -> None:
        limits = bounds.limits
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp reads None as "no access log"
            auto_decompress=False,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=limits.max_header_line_bytes + _NAME_ALLOWANCE_BYTES,
            max_headers=MAX_HEADER_LINES,
            keepalive_timeout=limits.keep_alive_s,
        )
        self._bounds = bounds
        self._arrived = arrived
        self.ended: Callable[[Connection], object] = bool  # nothing happens
        self._peer: str | None = None
        self._is_taken = False  # counts as an open connection
        self._heard = 0  # requests received
        self._due = 0  # those that were not answered
        self._body: StreamReader = EMPTY_PAYLOAD  # of the request that came last
        self._head_bytes = 0
        self._has_paused = False
        self._is_held = False  # nothing is read, even on request
        self._late_head: asyncio.TimerHandle | None = None
        self._unread_answer: asyncio.TimerHandle | None = None
        self._left_bytes: int | None = None  # of an answer, at the last look since sending paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, if the bounds allow one more; requests are answered in the connection's
        own task."""
        peer = transport.get_extra_info("peername")
        peer = peer[0] if isinstance(peer, tuple) else None
        if not (self._is_taken or self.take(peer)):
            self._force_close = True
            transport.close()
            return
        super().connection_made(transport)
        self._loop = _InTask(self._loop, self._messages)  # type: ignore[assignment]  # the part of a loop used from now

    def take(self, peer: str | None) -> bool:
        """Count the connection, if the bounds allow one more from this address."""
        self._peer, self._is_taken = peer, self._bounds.take(peer)
        return self._is_taken

    def give_back(self) -> None:
        """Count the connection no longer."""
        if self._is_taken:
            self._is_taken = False
            self._bounds.give_back(self._peer)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and bound what has arrived of a request's head so far."""
        is_body, is_awaited = not self._body.is_eof(), self._is_awaited()
        super().data_received(data)
        if self._request_count > self._heard:
            self._hear()
        elif not is_body:
            self._head_bytes += len(data)
        if is_left := is_body and not self._due:  # of a request that is answered
            self._loop.call_later(self._bounds.discard(len(data), self._loop.time()), self._release)
        if is_left or self._due > _MANY_DUE or (data and not is_awaited):
            if not self._is_held:  # nothing more is read until it is awaited
                self._is_held = True
                self._pause_transport_reading()
        elif self._head_bytes and not self._force_close:  # what follows a refusal is discarded
            if self._head_bytes > self._bounds.limits.max_head_bytes:  # H5, RN156
                self._refuse(431)
            elif self._late_head is None:
                # H8, RN156
                self._late_head = self._loop.call_later(
                    self._bounds.limits.head_s, self._refuse_late_head
                )

    def _hear(self) -> None:
        """Note requests whose heads are complete."""
        arrived, self._heard = self._request_count - self._heard, self._request_count
        self._due += arrived
        self._arrived(arrived)
        self._body = self._messages[-1][1]
        self._head_bytes = 0
        if self._late_head is not None:
            self._late_head.cancel()
            self._late_head = None

    def _is_awaited(self) -> bool:
        """Whether the next bytes are a head that is waited for, or belong to the request that is
        being answered."""
        if self._body.is_eof():
            return not (self._due or self.writing_paused)
        return self._due <= 1

    def _refuse_late_head(self) -> None:
        if not self._force_close:  # by then it may have been refused for its length
            self._bounds.met("http.head_s")
            self._refuse(408)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        self.give_back()
        self._arrived(-self._due)
        self._due = 0
        for timer in (self._late_head, self._unread_answer):
            if timer is not None:
                timer.cancel()
        self.ended(self)

    def pause_writing(self) -> None:
        """Handle a client that takes its answer slower than it is sent; make sure that it takes
        something."""
        super().pause_writing()
        self._left_bytes = None
        if self._unread_answer is None:
            self._look_again()

    def resume_writing(self) -> None:
        """Handle that it has taken nearly all."""
        super().resume_writing()
        self._release()  # an answer may have been written to its end before it was taken

    def _judge_answer(self) -> None:
        """Disconnect the client if it has taken nothing since the last look; a pause that is new is
        looked at twice."""
        transport, self._unread_answer = self.transport, None
        if transport is None or not self.writing_paused:
            return
        before, self._left_bytes = self._left_bytes, transport.get_write_buffer_size()
        if before is None or self._left_bytes < before:
            self._look_again()
            return
        self._bounds.met("http.unread_answer_s")
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        transport.abort()  # H8, RN157

    def _look_again(self) -> None:
        self._unread_answer = self._loop.call_later(
            self._bounds.limits.unread_answer_s, self._judge_answer
        )

    def _release(self) -> None:
        """Read on, if the next bytes are awaited now and nothing else keeps them waiting."""
        if self._is_held and self._is_awaited():
            self._is_held = False
            if not (self._reading_paused or self._buffer_paused):
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Read on, as aiohttp requests when its own buffers have space."""
        if not self._is_held:
            super()._resume_transport_reading()

    def pause_reading(self) -> None:
        """Stop reading and parsing until what has arrived is taken."""
        self._has_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading and parsing where something may wait; every reader of a body calls it,
        mostly in vain.

        What the parser holds back cannot be seen from here. It holds nothing where it was never
        paused (a pause may reach it only with the next piece of a body, long after reading went on)
        and no request waits behind this one (it stops by itself after so many).
        """
        if self._has_paused or self._messages or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _refuse(self, status: int) -> None:
        """Answer with an empty body, then read and discard what still arrives, for a while."""
        self._force_close = True  # aiohttp parses and answers nothing more here
        transport = self.transport
        if transport is None:
            return
        transport.write(_REFUSALS[status])
        self._note(status)
        if transport.can_write_eof():  # not within TLS
            transport.write_eof()
        self._loop.call_later(_LINGER_S, transport.close)

    def _note(self, status: int) -> None:
        """Note a request that reached no route."""

    @property
    def is_upgraded(self) -> bool:
        """Whether the request asks for an upgrade: what follows it is held back, and its answer is
        aiohttp's matter."""
        return self._upgraded

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; return whether the client is gone."""
        if self._due:
            self._due -= 1
            self._arrived(-1)
        resp, is_lost = await super().finish_response(request, resp, start_time)
        # follows an upgrade that is not supported
        if self._request_count > self._heard and self._messages:
            self._hear()
        self._release()
        return resp, is_lost

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or what failed outside every route, without a word of
        the request."""
        if isinstance(exc, ConnectionError):
            raise exc  # the answer is sent already, or no client is there to receive one
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way; the connection is given up")
        if isinstance(exc, HttpProcessingError):
            if isinstance(exc, LineTooLong):
                refused = 414 if exc.args[1] == MAX_TARGET_BYTES else 431
            else:
                refused = 431 if "Too many headers" in exc.message else 400
            if refused in _REFUSALS:
                self._refuse(refused)
                raise ConnectionError("answered")  # ends the request without another answer
            status, exc = 400, None
        response = self._fault(request, status, exc)
        self._note(response.status)
        response.force_close()
        return response

    def _fault(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be parsed (400), or that failed outside
        every route."""
        return web.Response(status=status)


class _InTask:
    """The event loop as a connection uses it: what it would start in a task runs in the
    connection's own task.

    A task of its own for each request, as aiohttp makes it, costs two more iterations of the loop.
    Where requests wait behind this one on the same connection, these iterations are made: other
    connections run in between. (From Python 3.12 on aiohttp begins such a task at once, on the loop
    itself, and this class is not used.)
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: Collection[object]) -> None:
        self._loop = loop
        self._waiting = waiting
        self.call_at, self.call_later = loop.call_at, loop.call_later
        self.create_future, self.time = loop.create_future, loop.time

    def create_task(self, answering: Coroutine[object, object, _Answered]) -> Awaitable[_Answered]:
        return self._loop.create_task(answering) if self._waiting else answering


@dataclass(frozen=True, slots=True)
class _Doorway:
    """Accepts the connections of one application, and closes idle ones where there are too many.

    A connection counts from the moment that it is accepted, so that a TLS handshake that never ends
    counts too.
    """

    server: web.Server
    bound: socket.socket
    bounds: ConnectionBounds
    tls: ssl.SSLContext | None
    connections: dict[Connection, asyncio.Task[None]] = field(default_factory=dict)

    async def accept(self) -> None:
        """Accept connections until this is cancelled; then handshakes end, and those that are open
        remain."""
        try:
            while True:
                try:
                    accepted, address = await asyncio.get_running_loop().sock_accept(self.bound)
                except OSError:
                    # no descriptors or no memory; connections wait in the queue meanwhile
                    await asyncio.sleep(_REST_S)
                    continue
                self._take(accepted, address[0] if isinstance(address, tuple) else None)
                # one for each turn of the loop, so that requests are answered between them
                await asyncio.sleep(0)
        finally:
            for opening in self.connections.values():
                opening.cancel()

    def _take(self, accepted: socket.socket, peer: str | None) -> None:
        """Begin to serve a connection, if the bounds allow one more.

        Where too many are idle, or where no place is free, the oldest idle one is closed (RN155).
        """
        # Idle is a connection that counts, where no request waits for its answer, and no answer for
        # its client.
        idle = [
            one
            for one in self.connections
            if one._is_taken and not (one._due or one.writing_paused)
        ]
        if idle and (
            len(idle) >= self.bounds.limits.max_idle or self.bounds.open >= self.bounds.most
        ):
            # First those that never had a request, then the one whose last answer is the longest
            # ago.
            oldest = min(
                idle, key=lambda one: one._next_keepalive_close_time if one._heard else 0.0
            )
            oldest.give_back()
            self.connections[oldest].cancel()
            if oldest.transport is not None:
                oldest.transport.abort()
        connection = Connection(self.server, loop=asyncio.get_running_loop(), bounds=self.bounds)
        connection.logger = _QUIET
        connection.ended = self._ended
        if connection.take(peer):
            self.connections[connection] = asyncio.create_task(self._opened(connection, accepted))
        else:
            accepted.close()

    async def _opened(self, connection: Connection, accepted: socket.socket) -> None:
        """Begin to serve a connection, after the handshake where there is TLS."""
        within_s = None if self.tls is None else self.bounds.limits.head_s  # RN156
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, accepted, ssl=self.tls, ssl_handshake_timeout=within_s
            )
            # An answer is under way until the kernel has it: hardly a byte waits in a buffer that
            # nothing counts. With 0 the TLS of asyncio pauses at every second look at an empty
            # buffer, and stays so.
            transport.set_write_buffer_limits(high=1)  # RN158
        except OSError as failed:  # the client has disconnected, or its handshake failed
            accepted.close()
            # Its frames refer to it and to 300 KiB of TLS, which would wait for the garbage
            # collector.
            failed.__traceback__ = None
        finally:
            if connection.transport is None:
                self._ended(connection)

    def _ended(self, connection: Connection) -> None:
        connection.give_back()
        self.connections.pop(connection, None)


def bound_unsent(listening: socket.socket) -> None:
    """Bound what the kernel keeps unsent for each connection that is accepted from a socket."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _SMALL_BYTES)


@contextmanager
def in_large_pieces(transport: asyncio.Transport | None) -> Iterator[None]:
    """Lift that bound for a connection while the block runs: a large value is one answer, and
    smaller pieces cost."""
    lifted = None if transport is None else transport.get_extra_info("socket")
    _set_unsent(lifted, _KERNELS_OWN)
    try:
        yield
    finally:
        _set_unsent(lifted, _SMALL_BYTES)


def _set_unsent(connected: socket.socket | None, size_bytes: int) -> None:
    with suppress(OSError):  # it is closed
        if connected is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size_bytes)


@asynccontextmanager
async def listening(
    app: web.Application,
    bound: socket.socket,
    limits: ConnectionLimits,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve an application on a socket until the block ends; bodies are not decompressed."""
    runner = web.AppRunner(app, access_log=None, logger=_QUIET, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None  # set by setup()
    bound.setblocking(False)
    bound_unsent(bound)  # its connections inherit it
    bound.listen(BACKLOG)
    accepting = asyncio.create_task(
        _Doorway(runner.server, bound, ConnectionBounds(limits), tls).accept()
    )
    try:
        yield
    finally:
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        bound.close()
        await runner.cleanup()
