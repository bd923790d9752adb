"""How a worker takes its part of the connections that arrive at a socket on which several workers
listen.

Without this, each worker takes what it finds: the first to wake takes a whole burst, and clients
that keep their connections remain on one worker for hours. So a worker that has more connections
than another lets that one accept first. It waits two milliseconds and no more: then it accepts one
in any case, and after many vain waits more and more at a time, so no client depends on a worker
that is blocked. All listen on one socket: what a dying worker leaves in its queue, another takes.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..logs import describe, log_warning
from .connection_counts import ConnectionCounts

_LET_OTHERS_S: Final = 0.002
_PATIENT_WAITS: Final = 25
_REST_S: Final = 1.0
# in one iteration of the loop, so that requests are answered between them
_MOST_AT_ONCE: Final = 64


@dataclass(slots=True, eq=False)
class Acceptor:
    """Takes connections from a shared socket while it is started; used in place of an
    `asyncio.Server`."""

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
    _vain_waits: int = 0
    _extra_accepts: int = 0  # connections that may be taken although other workers have fewer

    def start(self) -> None:
        """Listen."""
        self.bound.listen(self.backlog)
        self._may_accept()
        self._loop.add_reader(self.bound, self._take_some)

    def close(self) -> None:
        """Close the socket and take no more connections; those that are open remain.

        Once every process has closed it, the kernel refuses new connections: no client waits for
        the end of a drain.
        """
        self._loop.remove_reader(self.bound)
        self.bound.close()
        if self._pause is not None:
            self._pause.cancel()
        self._is_closed = True
        self.counts.withdraw(self.worker)  # no other worker waits for this one

    def lost(self) -> None:
        """Note that a connection has ended, and publish the new count."""
        if not self._is_closed:
            self._may_accept()

    def _take_some(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            if self._may_accept():
                self._vain_waits = self._extra_accepts = 0
            elif self._extra_accepts:
                self._extra_accepts -= 1
            else:
                self._stand_back(_LET_OTHERS_S)
                return
            try:
                taken, _ = self.bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # another worker was faster
                self._vain_waits = self._extra_accepts = 0
                return
            except OSError as error:
                # no descriptors or no memory; connections wait in the queue meanwhile
                log_warning(
                    "accept-failed",
                    code=errno.errorcode.get(error.errno or 0, ""),
                    **describe(error),
                )
                self._stand_back(_REST_S)
                return
            taken.setblocking(False)
            opening = self._loop.create_task(self._open(taken))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    def _may_accept(self) -> bool:
        return self.counts.is_ours(self.worker, self.open_now() + len(self._opening))

    def _stand_back(self, pause_s: float) -> None:
        self._loop.remove_reader(self.bound)
        self._pause = self._loop.call_later(pause_s, self._come_back)

    def _come_back(self) -> None:
        self._vain_waits += 1
        self._extra_accepts = 1 << min(max(self._vain_waits - _PATIENT_WAITS, 0), 6)
        self._loop.add_reader(self.bound, self._take_some)
        self._take_some()

    async def _open(self, taken: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self.make, taken)
        except OSError:  # the client has disconnected
            taken.close()
