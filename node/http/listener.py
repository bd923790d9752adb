"""The HTTP listener of a worker: `tee_backend.listener` with this protocol's answers, on a socket
that is bound.

Rules kept here and there (H5, H6):
- one header value of `http.max_header_line_bytes`, 100 header lines, a request target of 65,534
  bytes; beyond: 431 or 414 with an empty body, as the HTTP stack of the protocol's clients expects;
- bodies remain as they were sent: nothing is unpacked;
- what follows a request remains in the kernel until that request is answered and its answer is
    taken;
- a head has to arrive within `http.head_s`; a client that takes nothing of its answer for
  `http.unread_answer_s` is disconnected; the number of connections is bounded (`ConnectionBounds`);
- nothing of a request that could not be parsed is logged: the first bytes of an over-long header
    are a credential.
"""

import asyncio
import socket
from dataclasses import dataclass

from aiohttp import web

from capabilities.limits import counted_address
from sealspace.cli.listening_socket import begin_to_listen
from tee_backend import listener
from tee_backend.listener import BACKLOG, MAX_HEAD_BYTES, Bound, ConnectionLimits, bound_unsent

from ..cohort import COHORT, Cohort
from ..config.tree import Http
from ..counts import RequestCounter
from ..logs import log_failure, log_warning
from ..services import SERVICES
from .acceptor import Acceptor
from .app import FIXED_HEADERS, fixed_paths
from .connection_counts import ConnectionCounts
from .messages.http_answers import COMMON_HEAD, CommonHead, WholeAnswer, request_id
from .messages.http_requests import is_proxy
from .messages.problems import status_answer
from .messages.request_log import REQUEST_LOG, RequestLog


class ConnectionBounds(listener.ConnectionBounds):
    """The open connections of one worker; belongs to its event loop's thread.

    A client that has shown no token yet costs a worker a connection and the memory of a request. A
    connection that meets a bound is counted under the name of its setting, and the first one is
    logged: a line for each would let an unauthenticated client fill the log.
    """

    def __init__(self, http: Http, counter: RequestCounter | None = None) -> None:
        """Begin with no connection."""
        limits = ConnectionLimits(
            max_connections=http.max_connections,
            connections_per_client=http.connections_per_client,
            head_s=http.head_s,
            unread_answer_s=http.unread_answer_s,
            keep_alive_s=http.keep_alive_s,
            max_header_line_bytes=http.max_header_line_bytes,
            max_head_bytes=MAX_HEAD_BYTES,
        )
        super().__init__(
            limits, lambda peer: None if is_proxy(peer, http) else counted_address(peer)
        )
        self._counter = counter
        self._reported_at: set[Bound] = set()

    def met(self, bound: Bound) -> None:
        """Count a connection that was closed for the bound of a setting."""
        if self._counter is not None:
            self._counter.gave_up(bound)
        if bound not in self._reported_at:
            self._reported_at.add(bound)
            log_warning("connection-given-up", bound=bound)


class Connection(listener.Connection):
    """One client connection of a worker: requests yield to their cohort, and most answers are one
    piece."""

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        common: CommonHead | None,
        cohort: Cohort,
        bounds: ConnectionBounds,
        log: RequestLog | None = None,
    ) -> None:
        super().__init__(server, loop=loop, bounds=bounds, arrived=cohort.arrived)
        self._common = common
        self._cohort = cohort
        self._log = log

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, in one piece where it has one; return whether the client is gone.

        What aiohttp does besides is omitted: no form of a request is kept, nothing is logged for
        each answer.
        """
        await self._cohort.yield_to_cohort()
        transport, common = self.transport, self._common
        if (
            isinstance(resp, WholeAnswer)
            and common is not None
            and transport is not None
            and not (transport.is_closing() or self.is_upgraded)
            and (piece := resp.piece(request, common)) is not None
        ):
            if self._due:
                self._due -= 1
                self._cohort.answered(1)
            transport.write(piece)
            is_lost = False
            if self.writing_paused:  # until the client has taken what was sent
                try:
                    await request.writer.drain()
                except ConnectionError:
                    is_lost = True
            self._release()
            return resp, is_lost
        return await super().finish_response(request, resp, start_time)

    def _note(self, status: int) -> None:
        """Log a request that reached no route, where requests are logged."""
        if self._log is not None:
            self._log.unrouted(status, self._peer)

    def _fault(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or what failed outside every route, without a word of
        the request."""
        if exc is not None:
            log_failure(request_id(request), request.method, exc)
        response = status_answer(request, status)
        response.headers.update(FIXED_HEADERS)
        return response


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
        """Accept nothing more, let requests under way finish within the drain limit, close
        everything."""
        self.server.close()
        await self.runner.cleanup()


async def start_listener(
    app: web.Application,
    bound: socket.socket,
    http: Http,
    *,
    counts: ConnectionCounts | None = None,
    worker: int = 0,
) -> Listener:
    """Serve an application on a bound socket."""
    # aiohttp takes 0 for no limit
    runner = web.AppRunner(app, shutdown_timeout=http.drain_s or 0.01)
    await runner.setup()
    manager = runner.server
    assert manager is not None  # set by setup()
    manager.request_handler = fixed_paths(app, manager.request_handler)
    loop = asyncio.get_running_loop()
    bound.setblocking(False)
    bound_unsent(bound)  # its connections inherit it
    begin_to_listen(bound, BACKLOG)
    common, cohort, services = app.get(COMMON_HEAD), app.get(COHORT) or Cohort(), app.get(SERVICES)
    log = app.get(REQUEST_LOG)
    bounds = ConnectionBounds(http, None if services is None else services.counter)

    def make() -> Connection:
        return Connection(manager, loop=loop, common=common, cohort=cohort, bounds=bounds, log=log)

    if counts is None:
        return Listener(runner, await loop.create_server(make, sock=bound, backlog=BACKLOG))

    def make_shared() -> Connection:
        connection = make()
        connection.ended = lambda _: acceptor.lost()
        return connection

    acceptor = Acceptor(
        bound,
        make_shared,
        lambda: len(manager.connections),
        counts=counts,
        worker=worker,
        backlog=BACKLOG,
    )
    acceptor.start()
    return Listener(runner, acceptor)
