"""The HTTP listener of a worker process.

Rules kept here and in `serving.listener` (H5, H6):

- A header value may have `http.max_header_line_bytes`, a request 100 header lines and a target of
  65,534 bytes. Beyond, the answer is 431 or 414 with an empty body.
- Bodies are not decompressed.
- Bytes that follow a request stay in the kernel until the request is answered and its answer read.
- A head must arrive within `http.head_s`. A client that reads nothing of its answer for
  `http.unread_answer_s` is disconnected. The number of connections is limited (`ConnectionBounds`).
- Nothing of a request that could not be parsed is logged, because the beginning of an over-long
  header is part of a credential.
"""

import asyncio
import socket
from functools import partial

from aiohttp import web

from capabilities.frozen import frozen
from capabilities.limits import counted_address
from sealspace.service.listening_socket import begin_to_listen
from serving import listener
from serving.listener import BACKLOG, MAX_HEAD_BYTES, Bound, ConnectionLimits, bound_unsent

from ..cohort import COHORT, Cohort
from ..config.tree import Http
from ..counts import RequestCounter
from ..logs import log_failure, log_warning
from ..services import SERVICES
from .acceptor import Acceptor
from .app import FIXED_HEADERS, fixed_paths
from .connection_counts import ConnectionCounts
from .messages.common_head import COMMON_HEAD, CommonHead
from .messages.http_answers import WholeAnswer
from .messages.http_requests import is_proxy
from .messages.problems import status_answer
from .messages.request_ids import request_id
from .messages.request_log import REQUEST_LOG, RequestLog


class ConnectionBounds(listener.ConnectionBounds):
    """The connection limits of one worker.

    Only the event loop's thread may use an instance.

    A client without any token costs a worker a connection and the memory of a request. Connections
    closed for a limit are counted by the name of its setting, and the first of each is logged. A
    log line for each would let unauthenticated clients fill the log.
    """

    def __init__(self, http: Http, counter: RequestCounter | None = None) -> None:
        """Read the connection limits from the settings.

        `counter` counts the connections that are closed because of a limit.
        """
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

    def count_closed(self, bound: Bound) -> None:
        """Count a connection that was closed because of a limit."""
        if self._counter is not None:
            self._counter.limit_exceeded(bound)
        if bound not in self._reported_at:
            self._reported_at.add(bound)
            log_warning("connection-given-up", bound=bound)


class Connection(listener.Connection):
    """An HTTP connection of a client.

    Most responses are sent with a single write.
    """

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
        """Send a response, in one write if possible.

        The second result is whether the client has disconnected.

        aiohttp's access log and its clean-up of forms are omitted, since neither is used.
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
            if self._due:  # the number of unanswered requests; 0 once the connection is lost
                self._due -= 1
                self._cohort.answered(1)
            transport.write(piece)
            is_lost = False
            if self.writing_paused:  # wait until the client has read what was sent
                try:
                    await request.writer.drain()
                except ConnectionError:
                    is_lost = True
            self._resume_if_awaited()  # the next request may be read now
            return resp, is_lost
        return await super().finish_response(request, resp, start_time)

    def _note(self, status: int) -> None:
        """Log a request that was refused before routing."""
        if self._log is not None:
            self._log.unrouted(status, self._peer)

    def _fault(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.StreamResponse:
        """Return the response to an error outside of route handlers."""
        if exc is not None:
            log_failure(request_id(request), request.method, exc)
        response = status_answer(request, status)
        response.headers.update(FIXED_HEADERS)
        return response


@frozen
class Listener:
    """A running HTTP server for one application.

    Use `start_listener` to get an instance.
    """

    runner: web.AppRunner
    server: asyncio.AbstractServer | Acceptor

    @property
    def open_connections(self) -> int:
        """Return the number of open client connections."""
        return 0 if self.runner.server is None else len(self.runner.server.connections)

    async def stop(self) -> None:
        """Stop the server after the running requests have finished.

        The requests have a limited time to finish. Then all connections are closed.
        """
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
    """Serve an aiohttp application on a bound socket."""
    drain_s = http.drain_s or 0.01  # aiohttp treats 0 as no limit
    runner = web.AppRunner(app, shutdown_timeout=drain_s)
    await runner.setup()
    manager = runner.server
    assert manager is not None  # set by setup()
    manager.request_handler = fixed_paths(app, manager.request_handler)
    loop = asyncio.get_running_loop()
    bound.setblocking(False)
    bound_unsent(bound)  # accepted connections inherit the option
    begin_to_listen(bound, BACKLOG)
    services = app.get(SERVICES)
    make = partial(
        Connection,
        manager,
        loop=loop,
        common=app.get(COMMON_HEAD),
        cohort=app.get(COHORT) or Cohort(),
        bounds=ConnectionBounds(http, None if services is None else services.counter),
        log=app.get(REQUEST_LOG),
    )

    if counts is None:  # no other worker listens on the socket
        return Listener(runner, await loop.create_server(make, sock=bound, backlog=BACKLOG))

    def make_shared() -> Connection:
        """Make a connection that tells the acceptor below when it has ended."""
        connection = make()
        connection.ended = lambda _: acceptor.lost()
        return connection

    acceptor = Acceptor(
        bound=bound,
        make=make_shared,
        open_now=lambda: len(manager.connections),
        counts=counts,
        worker=worker,
        backlog=BACKLOG,
    )
    acceptor.start()
    return Listener(runner, acceptor)
