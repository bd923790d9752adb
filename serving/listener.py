"""An HTTP server with limits on connections and slow clients.

The node and the runner both use these connections (H5, H8, H9; RN155 to RN158). The only private
members of aiohttp that a connection uses are named in this module; subclasses use no others.

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
from dataclasses import field
from typing import Literal, TypeVar

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from capabilities.frozen import frozen
from capabilities.limits import counted_address

MAX_TARGET_BYTES = 65_534
MAX_HEADER_LINES = 100
# All header bytes of one request: enough for the longest kind of token and the other headers.
# Without this limit, one request could keep a hundred header lines of maximal length in memory.
MAX_HEAD_BYTES = 1 << 20
BACKLOG = 1024

Bound = Literal[
    "http.max_connections",
    "http.connections_per_client",
    "http.head_s",
    "http.unread_answer_s",
    "https-on-http-port",
]

# Bytes of an answer that the kernel keeps unsent for each connection. By default it keeps
# megabytes, so a client that reads no answers could have that many small requests processed.
_SMALL_BYTES = 1 << 17
_KERNEL_DEFAULT = 0

# aiohttp's parser does not know the method LIST, and refuses every request with it. It knows LINK,
# which has the same length and which no server of ours has.
_UNKNOWN_METHOD = b"LIST "
LIST_METHOD = "LINK"

_NAME_ALLOWANCE_BYTES = 64  # the parser counts a header's name with its value

# File descriptors reserved for everything else that a process opens.
_KEPT_DESCRIPTORS = 128

# Reading stops for a client with more unanswered requests than this. (Then its disconnect is not
# noticed either; with fewer requests ahead it is.)
_MANY_UNANSWERED = 8

# Seconds for which a refused client may go on sending. Closing a socket with unread bytes resets
# the connection, and the client would not see the answer.
_LINGER_S = 2.0

# SO_LINGER with a timeout of 0: the kernel drops unsent bytes when the connection is closed,
# instead of keeping them for a client that does not read.
_DISCARD = struct.pack("ii", 1, 0)

# Rate at which bodies of already answered requests are read and discarded, over all connections.
# Without it a few clients that keep sending would use up the event loop.
_DISCARDED_PER_S = 16 * 1024 * 1024

# Pause before the next accept when the process has no file descriptor or memory left.
_ACCEPT_RETRY_S = 1.0

_QUIET = logging.getLogger("sealspace.backend-server")
_QUIET.setLevel(logging.CRITICAL)  # otherwise each early disconnect would log a traceback

_Result = TypeVar("_Result")

# Complete responses. They are written to the transport directly, because no request was parsed that
# aiohttp could answer.
_REFUSALS = {
    408: b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    431: (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection:"
        b" close\r\n\r\n"
    ),
    414: b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
}


@frozen(kw_only=True)
class ConnectionLimits:
    """Limits on the HTTP connections of one process.

    The defaults are those of a runner.
    """

    max_connections: int = 640
    connections_per_client: int = 128
    head_s: float = 10.0
    unread_answer_s: float = 15.0
    keep_alive_s: float = 75.0
    max_header_line_bytes: int = 32 * 1024
    max_head_bytes: int = 80 * 1024
    max_idle: int = 256


class ConnectionBounds:
    """A counter that limits the open connections of one process.

    The counter is not thread-safe.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        client_of: Callable[[str | None], str | None] = counted_address,
    ) -> None:
        self.limits = limits
        self._client_of = client_of
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        available = 1 << 30
        if soft != resource.RLIM_INFINITY:
            available = max(soft - _KEPT_DESCRIPTORS, 1)
        self.most = min(limits.max_connections, available)
        self.open = 0
        self._by_client = Counter[str]()
        self._discarding_until_s = 0.0

    def take(self, peer: str | None) -> bool:
        """Count a new connection unless a limit is reached.

        Returns whether the connection was counted. Call `give_back` when a counted connection ends.

        Args:
            peer: address of the client; None: it has none.
        """
        # the process needs file descriptors for other things, too (H9, RN155)
        if self.open >= self.most:
            self.count_closed("http.max_connections")
            return False
        client = self._client(peer)
        if client is not None:
            # one client cannot take all connections (H9, RN155)
            if self._by_client[client] >= self.limits.connections_per_client:
                self.count_closed("http.connections_per_client")
                return False
            self._by_client[client] += 1
        self.open += 1
        return True

    def give_back(self, peer: str | None) -> None:
        """Remove a closed connection from the count."""
        self.open -= 1
        client = self._client(peer)
        if client is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def discard(self, size_bytes: int, now: float) -> float:
        """Count discarded request bytes, and return the seconds until the next read.

        The pauses limit the discarded bytes per second of all connections together (H8, RN157).
        """
        begins_at = max(self._discarding_until_s, now)
        self._discarding_until_s = begins_at + size_bytes / _DISCARDED_PER_S
        return self._discarding_until_s - now

    def count_closed(self, bound: Bound) -> None:
        """Hook for subclasses, called when a connection limit is reached."""

    def _client(self, peer: str | None) -> str | None:
        return self._client_of(peer) if self.limits.connections_per_client else None


class Connection(web.RequestHandler):
    """An aiohttp server connection with bounded buffers.

    A connection reads only what is expected next: a request head, or the body of the request that
    is being answered. When other bytes arrive, reading stops after at most one read, until they are
    expected. So a client that leaves a response unread cannot fill a worker's memory.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        bounds: ConnectionBounds,
        arrived: Callable[[int], object] = bool,  # counts nothing
        reads_list: bool = False,
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
        self._reads_list = reads_list
        self._first_bytes = b""  # of a head that may begin with LIST
        self.ended: Callable[[Connection], object] = bool  # nothing happens
        self._peer: str | None = None
        self._is_counted = False  # counts as an open connection
        self._received = 0  # requests received
        self._due = 0  # requests not yet answered
        self._body: StreamReader = EMPTY_PAYLOAD  # of the newest request
        self._head_bytes = 0
        self._has_paused = False
        self._is_paused = False  # nothing is read, even if aiohttp asks for it
        self._late_head: asyncio.TimerHandle | None = None
        self._unread_answer: asyncio.TimerHandle | None = None
        self._unsent_bytes: int | None = None  # of an answer, at the last check while paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a new connection unless the limits are reached."""
        address = transport.get_extra_info("peername")
        peer = address[0] if isinstance(address, tuple) else None
        # The accept loop may have counted this connection already.
        if not self._is_counted and not self.take(peer):
            self._force_close = True
            transport.close()
            return
        super().connection_made(transport)
        own_loop = _OwnTaskLoop(self._loop, self._messages)
        self._loop = own_loop  # type: ignore[assignment]  # the part of a loop used from now on

    def take(self, peer: str | None) -> bool:
        """Count this connection unless a limit is reached.

        Returns whether the connection was counted.
        """
        self._peer, self._is_counted = peer, self._bounds.take(peer)
        return self._is_counted

    def give_back(self) -> None:
        """Remove this connection from the count of open connections."""
        if self._is_counted:
            self._is_counted = False
            self._bounds.give_back(self._peer)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and enforce the limits on request headers."""
        # Both are read before these bytes are parsed, because parsing changes them.
        is_body = not self._body.is_eof()
        is_awaited = self._is_awaited()
        if self._reads_list:
            data = self._with_known_method(data, begins=is_awaited and not is_body)
        super().data_received(data)
        if self._request_count > self._received:
            self._count_arrived()
        elif not is_body:
            self._head_bytes += len(data)
        is_leftover = is_body and not self._due  # the rest of an answered request's body
        if is_leftover:
            pause_s = self._bounds.discard(len(data), self._loop.time())
            self._loop.call_later(pause_s, self._resume_if_awaited)
        has_many_unanswered = self._due > _MANY_UNANSWERED
        is_unexpected = bool(data) and not is_awaited
        if is_leftover or has_many_unanswered or is_unexpected:
            # More bytes came than were expected. `_resume_if_awaited` resumes reading when they are
            # due.
            if not self._is_paused:
                self._is_paused = True
                self._pause_transport_reading()
        elif self._head_bytes and not self._force_close:
            # An incomplete head has arrived. (After a refusal bytes are discarded, so no limit
            # applies.) A head is kept in memory until it is complete (H5, RN156).
            if self._head_bytes > self._bounds.limits.max_head_bytes:
                self._refuse(431)
            elif self._late_head is None:
                # a slow head keeps a connection without a request (H8, RN156)
                self._late_head = self._loop.call_later(
                    self._bounds.limits.head_s, self._refuse_late_head
                )

    def _with_known_method(self, data: bytes, *, begins: bool) -> bytes:
        """Replace the method LIST at the beginning of a request by `LIST_METHOD`.

        `begins` says whether the bytes may be the first ones of a request.

        While it is not clear whether a request begins with it, the bytes are held back. The limit
        on the time of a head applies to them.
        """
        if not begins or self._head_bytes:
            return data
        data = self._first_bytes + data
        self._first_bytes = b""
        if data.startswith(_UNKNOWN_METHOD):
            return LIST_METHOD.encode() + data[len(LIST_METHOD) :]
        if _UNKNOWN_METHOD.startswith(data):
            self._first_bytes = data
            if self._late_head is None:
                self._late_head = self._loop.call_later(
                    self._bounds.limits.head_s, self._refuse_late_head
                )
            return b""
        return data

    def _count_arrived(self) -> None:
        """Count the requests whose headers have fully arrived."""
        arrived = self._request_count - self._received
        self._received = self._request_count
        self._due += arrived
        self._arrived(arrived)
        # aiohttp queues each request with its body; the last one is the newest.
        self._body = self._messages[-1][1]
        self._head_bytes = 0
        if self._late_head is not None:
            self._late_head.cancel()
            self._late_head = None

    def _is_awaited(self) -> bool:
        """Return whether the server expects bytes from the client now."""
        if self._body.is_eof():
            # A new request is expected when all earlier ones are answered.
            return not (self._due or self.writing_paused)
        # A body belongs to the newest request, which may be the only one that is not answered.
        return self._due <= 1

    def _refuse_late_head(self) -> None:
        if not self._force_close:  # it may already have been refused for its length
            self._bounds.count_closed("http.head_s")
            self._refuse(408)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the resources of a closed connection."""
        super().connection_lost(exc)
        self.give_back()
        self._arrived(-self._due)
        self._due = 0
        for timer in (self._late_head, self._unread_answer):
            if timer is not None:
                timer.cancel()
        self.ended(self)

    def pause_writing(self) -> None:
        """Pause writing, and watch whether the client reads the response."""
        super().pause_writing()
        self._unsent_bytes = None
        if self._unread_answer is None:
            self._schedule_check()

    def resume_writing(self) -> None:
        """Let responses be written again, and resume reading requests."""
        super().resume_writing()
        # The answer may have been completely written before the client read it.
        self._resume_if_awaited()

    def _check_progress(self) -> None:
        """Disconnect a client that has stopped reading its response."""
        transport = self.transport
        self._unread_answer = None
        if transport is None or not self.writing_paused:
            return
        before = self._unsent_bytes
        self._unsent_bytes = transport.get_write_buffer_size()
        # Nothing is known at the first check. After it, the client reads if fewer bytes are unsent.
        if before is None or self._unsent_bytes < before:
            self._schedule_check()
            return
        self._bounds.count_closed("http.unread_answer_s")
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        transport.abort()  # otherwise the answer would stay in memory (H8, RN157)

    def _schedule_check(self) -> None:
        self._unread_answer = self._loop.call_later(
            self._bounds.limits.unread_answer_s, self._check_progress
        )

    def _resume_if_awaited(self) -> None:
        """Resume reading if the server expects bytes from the client now."""
        if self._is_paused and self._is_awaited():
            self._is_paused = False
            if not (self._reading_paused or self._buffer_paused):
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        # aiohttp calls this method when there is space again in its buffers.
        if not self._is_paused:
            super()._resume_transport_reading()

    def pause_reading(self) -> None:
        """Pause reading until the received bytes have been consumed."""
        self._has_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume reading after a pause.

        Every reader of a body calls this method, also when nothing is paused.

        Bytes inside the parser are not visible from here. The parser holds none if it was never
        paused (a pause may reach it with the next piece of a body, long after reading was resumed)
        and no request is queued behind this one (it stops by itself after a number of them).
        """
        if self._has_paused or self._messages or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _refuse(self, status: int) -> None:
        """Send an empty error response, then close the connection.

        Further bytes are discarded until the connection closes.
        """
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
        """Hook for subclasses, called when a request is refused before routing."""

    @property
    def is_discarding(self) -> bool:
        """Whether the rest of the body of an answered request is expected, and discarded."""
        return not self._due and not self._body.is_eof()

    @property
    def is_upgraded(self) -> bool:
        """Whether the request asks for a protocol upgrade.

        After such a request, aiohttp buffers further bytes.
        """
        return self._upgraded

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response, and return whether the client has disconnected."""
        if self._due:
            self._due -= 1
            self._arrived(-1)
        resp, is_lost = await super().finish_response(request, resp, start_time)
        # aiohttp may have held back requests behind an unsupported upgrade. They arrive only now.
        if self._request_count > self._received and self._messages:
            self._count_arrived()
        self._resume_if_awaited()
        return resp, is_lost

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the error response for an invalid or failed request.

        aiohttp calls this method for failures outside a route handler. The response contains no
        text of the request.
        """
        if isinstance(exc, ConnectionError):
            raise exc  # the response has been sent already, or the client is gone
        if request.writer.output_size > 0:
            raise ConnectionError("the response was already started; closing the connection")
        if isinstance(exc, HttpProcessingError):
            refused = _status_of(exc)
            if refused in _REFUSALS:
                self._refuse(refused)
                raise ConnectionError("answered")  # ends the request without a second response
            if "HTTPS traffic" in exc.message:  # its client sees only a failed connection
                self._bounds.count_closed("https-on-http-port")
            status, exc = 400, None
        response = self._fault(request, status, exc)
        self._note(response.status)
        response.force_close()
        return response

    def _fault(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.StreamResponse:
        """Return the error response with the given status.

        Subclasses replace this method. The status is 400 for a bad request.
        """
        return web.Response(status=status)


def _status_of(exc: HttpProcessingError) -> int:
    """Return the status for a request head that aiohttp's parser refused."""
    if isinstance(exc, LineTooLong):
        is_target = exc.args[1] == MAX_TARGET_BYTES
        return 414 if is_target else 431
    if "Too many headers" in exc.message:
        return 431
    return 400


class _OwnTaskLoop:
    """An event loop wrapper that creates fewer tasks for requests.

    Request handlers run in the task of their connection. aiohttp starts a task for each request,
    which costs two more iterations of the loop. If requests are queued on the same connection, the
    task is started anyway, so that other connections run in between. (From Python 3.12 on, aiohttp
    starts such a task eagerly on the loop itself, and this class is not used.)
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: Collection[object]) -> None:
        self._loop = loop
        self._waiting = waiting
        self.call_at, self.call_later = loop.call_at, loop.call_later
        self.create_future, self.time = loop.create_future, loop.time

    def create_task(self, answering: Coroutine[object, object, _Result]) -> Awaitable[_Result]:
        return self._loop.create_task(answering) if self._waiting else answering


@frozen
class _Acceptor:
    """The accept loop of an HTTP server.

    Idle connections are closed when there are too many. A connection counts as soon as it is
    accepted, so that a TLS handshake which never ends counts too.
    """

    server: web.Server
    bound: socket.socket
    bounds: ConnectionBounds
    tls: ssl.SSLContext | None
    reads_list: bool = False
    connections: dict[Connection, asyncio.Task[None]] = field(default_factory=dict)

    async def accept(self) -> None:
        """Accept connections until cancelled.

        Cancellation aborts unfinished TLS handshakes. Established connections are not affected.
        """
        try:
            while True:
                try:
                    accepted, address = await asyncio.get_running_loop().sock_accept(self.bound)
                except OSError:
                    # No file descriptors or no memory. New connections wait in the kernel's queue.
                    await asyncio.sleep(_ACCEPT_RETRY_S)
                    continue
                self._take(accepted, address[0] if isinstance(address, tuple) else None)
                # Accept one in each iteration, so that requests are answered in between.
                await asyncio.sleep(0)
        finally:
            for opening in self.connections.values():
                opening.cancel()

    def _take(self, client_socket: socket.socket, peer: str | None) -> None:
        """Start serving a new connection unless a limit is reached.

        If too many connections are idle, or the connection limit is reached, an idle connection is
        closed (RN155).
        """
        # A counted connection is idle if no request waits for an answer and no answer is unsent.
        idle = [
            candidate
            for candidate in self.connections
            if candidate._is_counted and not (candidate._due or candidate.writing_paused)
        ]
        are_too_many_idle = len(idle) >= self.bounds.limits.max_idle
        are_too_many_open = self.bounds.open >= self.bounds.most
        if idle and (are_too_many_idle or are_too_many_open):
            closed = _first_to_close(idle)
            closed.give_back()
            self.connections[closed].cancel()
            if closed.transport is not None:
                closed.transport.abort()
        connection = Connection(
            self.server,
            loop=asyncio.get_running_loop(),
            bounds=self.bounds,
            reads_list=self.reads_list,
        )
        connection.logger = _QUIET
        connection.ended = self._forget
        if connection.take(peer):
            self.connections[connection] = asyncio.create_task(
                self._serve_accepted(connection, client_socket)
            )
        else:
            client_socket.close()

    async def _serve_accepted(self, connection: Connection, client_socket: socket.socket) -> None:
        """Start serving an accepted connection."""
        # a handshake may never end (RN156)
        handshake_s = None if self.tls is None else self.bounds.limits.head_s
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, client_socket, ssl=self.tls, ssl_handshake_timeout=handshake_s
            )
            # With a limit of one byte, writing is paused until the kernel has taken the answer, so
            # that hardly a byte waits in a buffer that no limit covers (RN158). Not 0: asyncio's
            # TLS would then pause at an empty buffer, and never resume.
            transport.set_write_buffer_limits(high=1)
        except OSError as error:  # the client has disconnected, or its handshake failed
            client_socket.close()
            # The traceback's frames refer to this exception and to 300 KiB of TLS state. Without
            # this line, that memory would be freed only by the garbage collector.
            error.__traceback__ = None
        finally:
            if connection.transport is None:
                self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """Stop counting a connection that has ended."""
        connection.give_back()
        self.connections.pop(connection, None)


def _first_to_close(idle: list[Connection]) -> Connection:
    """Return the idle connection that is closed for a new one (RN155).

    Args:
        idle: the idle connections in the order in which they were accepted, at least one.
    """
    silent: list[Connection] = []
    kept: list[Connection] = []
    for connection in idle:
        # Its client was answered before it sent its whole body, mostly by a refusal.
        if connection.is_discarding:
            return connection
        group = kept if connection._received else silent
        group.append(connection)
    # The larger group loses one. So clients that send nothing cannot close the connections that
    # others keep after a request, and clients that keep many cannot close new ones, which have not
    # sent their request yet.
    if len(silent) >= len(kept):
        return silent[0]
    return min(kept, key=lambda connection: connection._next_keepalive_close_time)


def bound_unsent(listening: socket.socket) -> None:
    """Limit the unsent bytes per connection in kernel buffers.

    Connections inherit the limit from the listening socket.
    """
    if listening.family != socket.AF_UNIX:  # the kernel keeps less than that of a Unix socket
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _SMALL_BYTES)


@contextmanager
def in_large_pieces(transport: asyncio.Transport | None) -> Iterator[None]:
    """Lift the limit on unsent bytes until the `with` block ends.

    A large value is sent faster without the limit.
    """
    lifted = None if transport is None else transport.get_extra_info("socket")
    _set_unsent(lifted, _KERNEL_DEFAULT)
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
    client_of: Callable[[str | None], str | None] = counted_address,
    reads_list: bool = False,
    drain_s: float = 1.0,
) -> AsyncIterator[None]:
    """Serve an application on a socket until the `with` block ends.

    At the end, requests in progress have `drain_s` seconds to finish.

    Request bodies are not decompressed. `client_of` returns the client by which a connection from
    an address is counted, or None. With `reads_list`, a request with the method LIST has the method
    `LIST_METHOD` for the application.
    """
    runner = web.AppRunner(app, access_log=None, logger=_QUIET, shutdown_timeout=drain_s)
    await runner.setup()
    assert runner.server is not None  # set by setup()
    bound.setblocking(False)
    bound_unsent(bound)  # its connections inherit it
    bound.listen(BACKLOG)
    acceptor = _Acceptor(
        server=runner.server,
        bound=bound,
        bounds=ConnectionBounds(limits, client_of),
        tls=tls,
        reads_list=reads_list,
    )
    accepting = asyncio.create_task(acceptor.accept())
    try:
        yield
    finally:
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        bound.close()
        await runner.cleanup()
