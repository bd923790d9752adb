"""The HTTP listener: connections with this protocol's header bounds, on a socket that is already bound.

Rules kept here (H5, H6):
- one header value of `http.max_header_line_bytes`, 100 header lines, a request target of 65,534 bytes; beyond: 431 or
  414 with an empty body, as the HTTP stack of the protocol's clients expects;
- bodies stay as they were sent: nothing is unpacked;
- nothing of a request that could not be parsed is logged: the first bytes of an over-long header are a credential.

Example:
    listener = await start_listener(build_app(services), bound_socket, config.http)
    await listener.stop(drain_s=10)
"""

import asyncio
import socket
from collections.abc import Awaitable, Collection, Coroutine
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from .acceptor import Acceptor, Shares
from .answers import COMMON_HEAD, CommonHead, WholeAnswer
from .app import FIXED_HEADERS, fixed_paths
from .config import Http
from .in_step import IN_STEP, InStep
from .logs import log_failure
from .pages import page_answer
from .request_ids import request_id

MAX_TARGET_BYTES = 65_534
MAX_HEADER_LINES = 100
# All header bytes of one request together: room for one token of the longest kind and everything around it. Without
# this bound a hundred lines of the longest kind would be kept in memory for one request.
MAX_HEAD_BYTES = 1 << 20
_NAME_ROOM_BYTES = 64  # the parser counts a header's name with its value
_BACKLOG = 1024

# How long a refused client may go on sending: closing a socket with unread bytes resets the connection, and the client
# would not see the answer.
_LINGER_S = 2.0

_Answered = TypeVar("_Answered")

_REFUSALS = {
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
}


class Connection(web.RequestHandler):
    """One client connection; aiohttp's, with our bounds, without its error texts, and without a task per request."""

    __slots__ = ("_common", "_due", "_has_paused", "_head_bytes", "_in_step")

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        http: Http,
        common: CommonHead | None,
        in_step: InStep,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp reads None as "no access log"
            auto_decompress=False,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=http.max_header_line_bytes + _NAME_ROOM_BYTES,
            max_headers=MAX_HEADER_LINES,
            keepalive_timeout=http.keep_alive_s,
        )
        self._common = common
        self._in_step = in_step
        self._due = 0  # requests that came here and were not answered
        self._head_bytes = 0
        self._has_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve; requests are answered in the connection's own task."""
        super().connection_made(transport)
        self._loop = _InTask(self._loop, self._messages)  # type: ignore[assignment]  # what of a loop is used from here on

    def data_received(self, data: bytes) -> None:
        """Parse what came, and bound what has come of a request's head so far."""
        count, waiter = self._request_count, self._waiter
        super().data_received(data)
        if came := self._request_count - count:
            self._due += came
            self._in_step.came(came)
        if came or waiter is None or waiter.done():
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self._force_close:  # what follows a refusal is forgotten
            self._refuse(431)  # nothing is being answered: this connection waits for the rest of a head

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        self._in_step.went(self._due)
        self._due = 0

    def pause_reading(self) -> None:
        """Stop reading and parsing until somebody has taken what is there."""
        self._has_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading and parsing where something may wait; whoever takes a body calls it, mostly for nothing.

        What the parser holds back cannot be seen from here. It holds nothing where it was never paused (a pause may
        reach it only with the next piece of a body, long after reading went on) and no request waits behind this one
        (it stops by itself after so many).
        """
        if self._has_paused or self._messages or self._buffer_paused:
            super().resume_reading(resume_parser)

    def _refuse(self, status: int) -> None:
        """Answer with an empty body, then read and forget what still comes, for a while."""
        self._force_close = True  # aiohttp parses and answers nothing more here
        transport = self.transport
        if transport is None:
            return
        transport.write(_REFUSALS[status])
        transport.write_eof()
        self._loop.call_later(_LINGER_S, transport.close)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, in one piece where it has one; tell whether the client is gone.

        What aiohttp does besides has no part here: no form of a request is held, nothing is logged for each answer.
        """
        await self._in_step.turn()
        if self._due:
            self._due -= 1
            self._in_step.went(1)
        transport, common = self.transport, self._common
        if (
            isinstance(resp, WholeAnswer)
            and common is not None
            and transport is not None
            and not (transport.is_closing() or self._upgraded)
            and (piece := resp.piece(request, common)) is not None
        ):
            transport.write(piece)
            return resp, self.writing_paused and await self._is_lost(request)
        return await super().finish_response(request, resp, start_time)

    @staticmethod
    async def _is_lost(request: web.BaseRequest) -> bool:
        """Wait until the client has taken what was sent; tell whether it is gone."""
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
            raise exc  # the answer is out already, or nobody is there to hear one
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
        response.headers.update(FIXED_HEADERS)
        response.force_close()
        return response


class _SharedConnection(Connection):
    """One of those that several workers share: its end is told."""

    __slots__ = ("acceptor",)

    acceptor: Acceptor

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        self.acceptor.lost()


class _InTask:
    """The event loop as a connection uses it: what it would start in a task, it runs in the task that it has.

    A task of its own for each request, as aiohttp makes it, is two more turns of the loop. Where requests wait behind
    this one on the same connection, the turns are taken: others come in between. (From Python 3.12 on aiohttp begins
    such a task at once, on the loop itself, and this class is not asked.)
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
        shares: how the processes that listen on it share what comes; None: each takes what it finds.
    """
    runner = web.AppRunner(app, shutdown_timeout=http.drain_s)
    await runner.setup()
    manager = runner.server
    assert manager is not None  # set by setup()
    manager.request_handler = fixed_paths(app, manager.request_handler)
    loop = asyncio.get_running_loop()
    bound.setblocking(False)
    common, in_step = app.get(COMMON_HEAD), app.get(IN_STEP) or InStep()

    def make() -> Connection:
        return Connection(manager, loop=loop, http=http, common=common, in_step=in_step)

    if shares is None:
        return Listener(runner, await loop.create_server(make, sock=bound, backlog=_BACKLOG))

    def make_shared() -> Connection:
        connection = _SharedConnection(manager, loop=loop, http=http, common=common, in_step=in_step)
        connection.acceptor = acceptor
        return connection

    acceptor = Acceptor(bound, make_shared, lambda: len(manager.connections), shares=shares, backlog=_BACKLOG)
    acceptor.start()
    return Listener(runner, acceptor)
