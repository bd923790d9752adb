"""The HTTP listener: connections with this protocol's header bounds, on a socket that is already bound.

Rules kept here (H5, H6):
- one header value of `http.max_header_line_bytes`, 100 header lines, a request target of 65,534 bytes; beyond: 431 or
  414 with an empty body, as the HTTP stack of the protocol's clients expects;
- bodies remain as they were sent: nothing is unpacked;
- what follows a request remains in the kernel until that request is answered and its answer is taken;
- a head has to arrive within `http.head_s`; a client that takes nothing of its answer for `http.unread_answer_s` is
  disconnected; the number of connections is bounded (`connection_bounds`);
- nothing of a request that could not be parsed is logged: the first bytes of an over-long header are a credential.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Collection, Coroutine
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from ..cohort import COHORT, Cohort
from ..config.tree import Http
from ..listening_socket import begin_to_listen
from ..logs import log_failure
from ..services import SERVICES
from .acceptor import Acceptor, Shares
from .app import FIXED_HEADERS, fixed_paths
from .connection_bounds import ConnectionBounds
from .messages.answers import COMMON_HEAD, CommonHead, WholeAnswer
from .messages.pages import page_answer
from .messages.request_ids import request_id
from .messages.request_log import REQUEST_LOG, RequestLog
from .unsent import bound_unsent

MAX_TARGET_BYTES = 65_534
MAX_HEADER_LINES = 100
# All header bytes of one request together: enough for one token of the longest kind and everything around it. Without
# this bound a hundred lines of the longest kind would be kept in memory for one request.
MAX_HEAD_BYTES = 1 << 20
_NAME_ALLOWANCE_BYTES = 64  # the parser counts a header's name with its value
_BACKLOG = 1024

# From a client with so many unanswered requests nothing more is read before it has its answers. (Nor is its disconnect
# noticed: that of a client with few requests ahead is.)
_MANY_DUE = 8

# How long a refused client may go on sending: closing a socket with unread bytes resets the connection, and the client
# would not see the answer.
_LINGER_S = 2.0

# What a client has not taken is dropped with the connection, instead of waiting in the kernel for a reader.
_DISCARD = struct.pack("ii", 1, 0)

_Answered = TypeVar("_Answered")

_REFUSALS = {
    408: b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
}


class Connection(web.RequestHandler):
    """One client connection; aiohttp's, with our bounds, without its error texts, and without a task per request.

    It reads what is awaited: a head, or the body of the request that is being answered. When anything else has come, as
    much as the kernel hands over at once, no more is read until it is awaited: no client fills a worker's memory behind
    an answer that it does not take.
    """

    __slots__ = (
        "_body",
        "_bounds",
        "_cohort",
        "_common",
        "_due",
        "_has_paused",
        "_head_bytes",
        "_heard",
        "_http",
        "_is_held",
        "_is_taken",
        "_late_head",
        "_left_bytes",
        "_log",
        "_peer",
        "_unread_answer",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        http: Http,
        common: CommonHead | None,
        cohort: Cohort,
        bounds: ConnectionBounds,
        log: RequestLog | None = None,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp reads None as "no access log"
            auto_decompress=False,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=http.max_header_line_bytes + _NAME_ALLOWANCE_BYTES,
            max_headers=MAX_HEADER_LINES,
            keepalive_timeout=http.keep_alive_s,
        )
        self._http = http
        self._common = common
        self._cohort = cohort
        self._bounds = bounds
        self._log = log
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
        """Begin to serve, if the bounds allow one more; requests are answered in the connection's own task."""
        peer = transport.get_extra_info("peername")
        peer = peer[0] if isinstance(peer, tuple) else None
        if not self._bounds.take(peer):
            self._force_close = True
            transport.close()
            return
        self._peer, self._is_taken = peer, True
        super().connection_made(transport)
        self._loop = _InTask(self._loop, self._messages)  # type: ignore[assignment]  # the part of a loop used from now

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and bound what has arrived of a request's head so far."""
        is_body, is_awaited = not self._body.is_eof(), self._is_awaited()
        super().data_received(data)
        if self._request_count > self._heard:
            self._hear()
        elif not is_body:
            self._head_bytes += len(data)
        if self._due > _MANY_DUE or (data and not is_awaited):
            self._hold()
        elif self._head_bytes:
            self._bound_head()

    def _hear(self) -> None:
        """Note requests whose heads are complete."""
        arrived, self._heard = self._request_count - self._heard, self._request_count
        self._due += arrived
        self._cohort.arrived(arrived)
        self._body = self._messages[-1][1]
        self._head_bytes = 0
        if self._late_head is not None:
            self._late_head.cancel()
            self._late_head = None

    def _is_awaited(self) -> bool:
        """Whether the next bytes are a head that is waited for, or belong to the request that is being answered."""
        if self._body.is_eof():
            return not (self._due or self.writing_paused)
        return self._due <= 1

    def _bound_head(self) -> None:
        """Refuse a head that gets too long, or that arrives too slowly."""
        if self._force_close:  # what follows a refusal is discarded
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._late_head is None:
            self._late_head = self._loop.call_later(self._http.head_s, self._refuse_late_head)

    def _refuse_late_head(self) -> None:
        if not self._force_close:  # by then it may have been refused for its length
            self._bounds.met("http.head_s")
            self._refuse(408)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        if self._is_taken:
            self._is_taken = False
            self._bounds.give_back(self._peer)
        self._cohort.answered(self._due)
        self._due = 0
        for timer in (self._late_head, self._unread_answer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Handle a client that takes its answer slower than it is sent; make sure that it takes something."""
        super().pause_writing()
        self._left_bytes = None
        if self._unread_answer is None:
            self._unread_answer = self._loop.call_later(self._http.unread_answer_s, self._judge_answer)

    def resume_writing(self) -> None:
        """Handle that it has taken nearly all."""
        super().resume_writing()
        self._release()  # an answer may have been written to its end before it was taken

    def _judge_answer(self) -> None:
        """Disconnect the client if it has taken nothing since the last look; a pause that is new is looked at twice."""
        transport, self._unread_answer = self.transport, None
        if transport is None or not self.writing_paused:
            return
        before, self._left_bytes = self._left_bytes, transport.get_write_buffer_size()
        if before is None or self._left_bytes < before:
            self._unread_answer = self._loop.call_later(self._http.unread_answer_s, self._judge_answer)
            return
        self._bounds.met("http.unread_answer_s")
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        transport.abort()

    def _hold(self) -> None:
        """Read nothing more until it is awaited."""
        if not self._is_held:
            self._is_held = True
            self._pause_transport_reading()

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
        """Go on reading and parsing where something may wait; every reader of a body calls it, mostly in vain.

        What the parser holds back cannot be seen from here. It holds nothing where it was never paused (a pause may
        reach it only with the next piece of a body, long after reading went on) and no request waits behind this one
        (it stops by itself after so many).
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
        transport.write_eof()
        self._loop.call_later(_LINGER_S, transport.close)

    def _note(self, status: int) -> None:
        """Log a request that reached no route, where requests are logged."""
        if self._log is not None:
            self._log.unrouted(status, self._peer)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, in one piece where it has one; return whether the client is gone.

        What aiohttp does besides is omitted: no form of a request is kept, nothing is logged for each answer.
        """
        await self._cohort.yield_to_cohort()
        if self._due:
            self._due -= 1
            self._cohort.answered(1)
        transport, common = self.transport, self._common
        if (
            isinstance(resp, WholeAnswer)
            and common is not None
            and transport is not None
            and not (transport.is_closing() or self._upgraded)
            and (piece := resp.piece(request, common)) is not None
        ):
            transport.write(piece)
            is_lost = self.writing_paused and await self._is_lost(request)
        else:
            resp, is_lost = await super().finish_response(request, resp, start_time)
            if self._request_count > self._heard and self._messages:  # follows an upgrade that is not supported
                self._hear()
        self._release()
        return resp, is_lost

    @staticmethod
    async def _is_lost(request: web.BaseRequest) -> bool:
        """Wait until the client has taken what was sent; return whether it is gone."""
        try:
            await request.writer.drain()
        except ConnectionError:
            return True
        return False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or what failed outside every route, without a word of the request."""
        if isinstance(exc, ConnectionError):
            raise exc  # the answer is sent already, or no client is there to receive one
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way; the connection is given up")
        response: web.StreamResponse
        if isinstance(exc, HttpProcessingError):
            if (refused := _parse_status(exc)) in _REFUSALS:
                self._refuse(refused)
                raise ConnectionError("answered")  # ends the request without another answer
            response = page_answer(400, "")
        else:
            if exc is not None:
                log_failure(request_id(request), request.method, exc)
            response = page_answer(status, request.headers.get("Accept", ""))
        self._note(response.status)
        response.headers.update(FIXED_HEADERS)
        response.force_close()
        return response


class _SharedConnection(Connection):
    """One of those that several workers share: the acceptor is notified of its end."""

    __slots__ = ("acceptor",)

    acceptor: Acceptor

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        self.acceptor.lost()


class _InTask:
    """The event loop as a connection uses it: what it would start in a task runs in the connection's own task.

    A task of its own for each request, as aiohttp makes it, costs two more iterations of the loop. Where requests wait
    behind this one on the same connection, these iterations are made: other connections run in between. (From Python
    3.12 on aiohttp begins such a task at once, on the loop itself, and this class is not used.)
    """

    __slots__ = ("_loop", "_waiting", "call_at", "call_later", "create_future", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: Collection[object]) -> None:
        self._loop = loop
        self._waiting = waiting
        self.call_at, self.call_later = loop.call_at, loop.call_later
        self.create_future, self.time = loop.create_future, loop.time

    def create_task(self, answering: Coroutine[object, object, _Answered]) -> Awaitable[_Answered]:
        return self._loop.create_task(answering) if self._waiting else answering


def _parse_status(error: HttpProcessingError) -> int:
    if isinstance(error, LineTooLong):
        return 414 if error.args[1] == MAX_TARGET_BYTES else 431
    return 431 if "Too many headers" in error.message else 400


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening application; made by `start_listener`."""

    runner: web.AppRunner
    server: asyncio.AbstractServer | Acceptor

    @property
    def open_connections(self) -> int:
        """How many connections of clients are open."""
        return 0 if self.runner.server is None else len(self.runner.server.connections)

    async def stop(self) -> None:
        """Accept nothing more, let requests under way finish within the drain limit, close everything."""
        self.server.close()
        await self.runner.cleanup()


async def start_listener(
    app: web.Application, bound: socket.socket, http: Http, *, shares: Shares | None = None
) -> Listener:
    """Serve an application on a bound socket.

    Args:
        app: what `build_app` made.
        bound: a stream socket that is bound; other processes may listen on it too.
        http: the bounds, and how long stopping may take.
        shares: how the processes that listen on it share what arrives; None: each takes what it finds.

    Raises:
        ConfigurationError: another process listens at that address.
    """
    runner = web.AppRunner(app, shutdown_timeout=http.drain_s)
    await runner.setup()
    manager = runner.server
    assert manager is not None  # set by setup()
    manager.request_handler = fixed_paths(app, manager.request_handler)
    loop = asyncio.get_running_loop()
    bound.setblocking(False)
    bound_unsent(bound)  # its connections inherit it
    begin_to_listen(bound, _BACKLOG)
    common, cohort, services = app.get(COMMON_HEAD), app.get(COHORT) or Cohort(), app.get(SERVICES)
    log = app.get(REQUEST_LOG)
    bounds = ConnectionBounds(http, None if services is None else services.tally)

    def make() -> Connection:
        return Connection(manager, loop=loop, http=http, common=common, cohort=cohort, bounds=bounds, log=log)

    if shares is None:
        return Listener(runner, await loop.create_server(make, sock=bound, backlog=_BACKLOG))

    def make_shared() -> Connection:
        connection = _SharedConnection(
            manager, loop=loop, http=http, common=common, cohort=cohort, bounds=bounds, log=log
        )
        connection.acceptor = acceptor
        return connection

    acceptor = Acceptor(bound, make_shared, lambda: len(manager.connections), shares=shares, backlog=_BACKLOG)
    acceptor.start()
    return Listener(runner, acceptor)
