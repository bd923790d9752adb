"""Restarts of the child process of `sealspace run --watch`."""

import math
import signal
import time
from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from capabilities.frozen import frozen

from .run_signals import Signals

Environment = Mapping[bytes, bytes]


@frozen
class Start:
    """What one start of a command gets.

    Attributes:
        environment: the complete environment of the child.
        patterns: byte sequences to mask in its output, see `run_masker.patterns_of`.
    """

    environment: Environment = field(repr=False)
    patterns: frozenset[bytes] = field(repr=False)


@frozen
class News:
    """A change that concerns a running command.

    Attributes:
        start: what the command gets when it is stopped and started again; None: it is left alone.
        stops: the command is stopped, and not started again.
        is_last: there will be no more news.
    """

    start: Start | None = None
    stops: bool = False
    is_last: bool = False


class Restarts(Protocol):
    """A source of news for a running command."""

    @property
    def stop_s(self) -> float:
        """Seconds from SIGTERM to SIGKILL when the command is stopped."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are news."""

    def take(self) -> News:
        """Return the news. This may block for a moment."""

    def close(self) -> None:
        """End the source. Its descriptor stays open until the command has ended."""


class Watch:
    """The restarts of a command, and the stop of its running child.

    Args:
        restarts: the source of news; None: the command is not restarted.
        signals: forwards signals to the child.
    """

    def __init__(self, restarts: Restarts | None, signals: Signals) -> None:
        self.signals = signals
        self._restarts = restarts
        self._start: Start | None = None
        self._kill_at: float | None = None

    @property
    def descriptor(self) -> int | None:
        """A descriptor that is readable when there are news; None: there will be none."""
        return None if self._restarts is None else self._restarts.fileno()

    @property
    def is_restarting(self) -> bool:
        """Whether the command is started again after its end."""
        return self._start is not None and not self.signals.is_ending

    def note_end(self) -> None:
        """Note that the child has ended, so that news neither stop nor kill it."""
        self._kill_at = math.inf

    def take_next_start(self) -> Start | None:
        """Return what the command is started with after its end, and forget it.

        None means that the command is not started again.
        """
        start = self._start
        self._start = self._kill_at = None
        return None if self.signals.is_ending else start

    def wait_s(self, pause_s: float | None) -> float | None:
        """Return how long the next wait for events may take.

        This is at most `pause_s`. None means that there is no limit.
        """
        if self._kill_at is None or self._kill_at == math.inf:
            return pause_s
        left_s = max(0.0, self._kill_at - time.monotonic())
        return left_s if pause_s is None else min(left_s, pause_s)

    def handle_news(self, *, has_news: bool) -> None:
        """Take the news, stop the command if needed, and kill it if it does not end in time."""
        if self._restarts is not None and self.signals.is_ending:
            self._close()
        if self._restarts is not None and has_news:
            self._act_on(self._restarts.take())
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = math.inf
            self.signals.send(signal.SIGKILL)

    def _act_on(self, news: News) -> None:
        """Note the next start, and stop the running command if the news say so."""
        stop_s = 0.0 if self._restarts is None else self._restarts.stop_s
        if news.start is not None:
            self._start = news.start
        if news.stops:
            self._start = None
        if news.stops or news.is_last:
            self._close()
        must_stop = news.stops or news.start is not None
        if must_stop and self._kill_at is None:  # otherwise it was stopped before
            self._kill_at = time.monotonic() + stop_s
            self.signals.send(signal.SIGTERM)

    def _close(self) -> None:
        if self._restarts is not None:
            self._restarts.close()
            self._restarts = None
