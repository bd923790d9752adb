"""Children that are kept for further calls of the same series (RN260, RN261).

A series is the calls of one caller, with one API key, to one program. A child that ran a call with
secrets or storage waits for the next call of its series. It runs that call only if nothing that it
was given has changed: the same grants, secret values, hosts and limits. Otherwise it ends.

An idle child has no place of the executor. There are never more idle children than free places, so
idle and running children together are as many as the runner is dimensioned for.

Example:
    child = kept.take(scope)
    if child is None:
        child = await pool.take(unused=True, program=program)
        kept.lend(child, scope)
    ...
    kept.give_back(child, payer, most=free_places)
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from serving.shares import Payer

from .child import Child
from .runs import ReuseScope

IDLE_S = 30.0
"""Seconds after which an idle child ends, and with it what its memory contains."""
MOST_RUNS = 100
"""Runs of one child, which bounds how long a program that took a child over can stay.

A new child takes 5 ms of processor time. So this adds 0.05 ms to a run.
"""

MOST_BYTES = 128 * 1024 * 1024
"""Private memory of a kept child, with its program and the buffers of a run.

A component in Python has 50 MiB, and a small program 8 MiB.
"""


@dataclass(frozen=True, slots=True)
class _Idle:
    """Why and for whom an idle child is kept.

    Attributes:
        scope: the calls that it may run.
        payer: its payer; None for all unknown payers together.
        timer: ends the child.
    """

    scope: ReuseScope
    payer: Payer | None
    timer: asyncio.TimerHandle


class KeptChildren:
    """The children that are kept for calls of the same series.

    Args:
        end: kills and reaps a child in the background.
    """

    def __init__(self, end: Callable[[Child], None]) -> None:
        self._end = end
        self._idle: dict[Child, _Idle] = {}  # the child that waits longest is first
        # Children that run a call. One that is missing here ends after its run.
        self._lent: dict[Child, ReuseScope] = {}
        self._is_closed = False

    @property
    def count(self) -> int:
        """The number of child processes that wait for another call."""
        return len(self._idle)

    def take(self, scope: ReuseScope) -> Child | None:
        """Return an idle child that may run a call, or None.

        Children of the series whose contents differ end, those that run a call after that call.
        """
        self._end_series(scope.series, unless=scope.contents)
        for child, idle in list(self._idle.items()):
            if idle.scope != scope:
                continue
            if child.is_waiting():
                del self._idle[child]
                idle.timer.cancel()
                self.lend(child, scope)
                return child
            self._end_idle(child)
        return None

    def lend(self, child: Child, scope: ReuseScope) -> None:
        """Note that a child runs a call, after which it may be kept."""
        self._lent[child] = scope

    def give_back(self, child: Child, payer: Payer, *, most: int) -> None:
        """Keep a child after a completed run, unless its series has changed.

        Args:
            child: a child that was lent.
            payer: the payer of the run.
            most: number of idle children above which some end, see `trim`.
        """
        scope = self._lent.pop(child, None)
        child.runs += 1
        # A program that took its child over cannot stay without end, nor keep memory (RN261).
        is_kept = child.runs < MOST_RUNS and child.private_bytes() <= MOST_BYTES
        if scope is None or not is_kept or self._is_closed:
            self._end(child)
            return
        timer = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle, child)
        share = payer if payer.is_known else None
        self._idle[child] = _Idle(scope=scope, payer=share, timer=timer)
        self.trim(most)

    def discard(self, child: Child) -> None:
        """End a child after its run."""
        self._lent.pop(child, None)
        self._end(child)

    def trim(self, most: int) -> None:
        """End idle children until at most `most` are left.

        The payer with most idle children loses the one that waits longest. All unknown payers
        count as one.
        """
        while len(self._idle) > most:
            # otherwise one payer could have the children of all others end (RN261)
            counts = Counter(idle.payer for idle in self._idle.values())
            largest = max(counts.values())
            for child, idle in self._idle.items():
                if counts[idle.payer] == largest:
                    self._end_idle(child)
                    break

    def end_series(self, series: bytes) -> None:
        """End the children of a series, those that run a call after that call."""
        self._end_series(series, unless=None)

    def close(self) -> None:
        """End all idle children, and keep no further ones."""
        self._is_closed = True
        self.trim(0)

    def _end_series(self, series: bytes, *, unless: bytes | None) -> None:
        """End the children of a series, except those with the given contents."""
        for child, idle in list(self._idle.items()):
            if idle.scope.series == series and idle.scope.contents != unless:
                self._end_idle(child)
        for child, scope in list(self._lent.items()):
            if scope.series == series and scope.contents != unless:
                del self._lent[child]

    def _end_idle(self, child: Child) -> None:
        self._idle.pop(child).timer.cancel()
        self._end(child)
