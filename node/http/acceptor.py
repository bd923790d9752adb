"""Even distribution of new connections over the worker processes.

The workers share a listening socket. Without this, the first worker to wake takes a whole burst,
and clients that keep their connections stay on that worker for hours. Therefore a worker that has
more connections than another pauses for two milliseconds and lets the other accept first. After the
pause it accepts one connection in any case, and after many pauses more and more at a time. So no
client depends on a worker that is blocked. All workers listen on one socket: what a dying worker
leaves in the queue, another accepts.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from ..logs import describe, log_warning
from .connection_counts import ConnectionCounts

_YIELD_S = 0.002
_PATIENT_PAUSES = 25
_RETRY_S = 1.0
# Per iteration of the event loop, so that requests are answered in between.
_MAX_AT_ONCE = 64
_MOST_DOUBLINGS = 6  # to _MAX_AT_ONCE


@dataclass(slots=True, eq=False)
class Acceptor:
    """The accept loop of a worker process.

    Other workers accept connections from the same listening socket.
    """

    bound: socket.socket
    make: Callable[[], asyncio.Protocol]
    open_now: Callable[[], int]
    counts: ConnectionCounts
    worker: int
    backlog: int
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _opening: set[asyncio.Task[None]] = field(default_factory=set)
    _pause: asyncio.TimerHandle | None = None
    _is_closed: bool = False
    _idle_pauses: int = 0  # consecutive pauses in which no worker accepted what waits
    _extra_accepts: int = 0  # may be accepted although other workers have fewer

    def start(self) -> None:
        """Start listening on the socket and accepting connections."""
        self.bound.listen(self.backlog)
        self._may_accept()
        self._loop.add_reader(self.bound, self._accept_some)

    def close(self) -> None:
        """Stop accepting connections, and close the listening socket.

        Open connections stay open.

        Once every process has closed the socket, the kernel refuses new connections, so no client
        waits for the end of a drain.
        """
        self._loop.remove_reader(self.bound)
        self.bound.close()
        if self._pause is not None:
            self._pause.cancel()
        self._is_closed = True
        self.counts.withdraw(self.worker)  # so that no other worker waits for this one

    def lost(self) -> None:
        """Update the shared connection count after a connection has ended."""
        if not self._is_closed:
            self._may_accept()

    def _accept_some(self) -> None:
        """Accept waiting connections, or pause if another worker should be first."""
        for _ in range(_MAX_AT_ONCE):
            if self._may_accept():
                self._idle_pauses = self._extra_accepts = 0
            elif self._extra_accepts:
                self._extra_accepts -= 1
            else:
                self._pause_accepting(_YIELD_S)
                return
            try:
                client, _ = self.bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # another worker was faster
                self._idle_pauses = self._extra_accepts = 0
                return
            except OSError as error:
                # Out of descriptors or memory. New connections wait in the kernel's queue.
                log_warning(
                    "accept-failed",
                    code=errno.errorcode.get(error.errno or 0, ""),
                    **describe(error),
                )
                self._pause_accepting(_RETRY_S)
                return
            client.setblocking(False)
            opening = self._loop.create_task(self._open(client))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    def _may_accept(self) -> bool:
        return self.counts.is_ours(self.worker, self.open_now() + len(self._opening))

    def _pause_accepting(self, pause_s: float) -> None:
        self._loop.remove_reader(self.bound)
        self._pause = self._loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        """Accept again after a pause.

        After the first pauses, one connection is accepted in any case. Then each further pause
        doubles the number, up to as many as are accepted at once: the other workers seem blocked.
        """
        self._idle_pauses += 1
        doublings = max(self._idle_pauses - _PATIENT_PAUSES, 0)
        self._extra_accepts = 2 ** min(doublings, _MOST_DOUBLINGS)
        self._loop.add_reader(self.bound, self._accept_some)
        self._accept_some()

    async def _open(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self.make, client)
        except OSError:  # the client has disconnected
            client.close()
