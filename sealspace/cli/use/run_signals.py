"""Signals of the command `sealspace run`, which are forwarded to its child process."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_ENDING = (signal.SIGTERM, *_FROM_TERMINALS)
"""Signals with which a user ends a program. SIGHUP asks many programs to read their settings."""


class Signals:
    """A context in which signals are forwarded to the current child process.

    Signals that were ignored before stay ignored, also in the child.

    Args:
        is_apart: whether children are leaders of their own process groups; then a signal is for the
            whole group. Otherwise the terminal sends SIGINT and SIGQUIT to the child too, so they
            are not forwarded.

    Attributes:
        woken: a descriptor that becomes readable after each signal.
        is_ending: whether a signal arrived with which a user ends a program.
    """

    def __init__(self, *, is_apart: bool) -> None:
        self.is_apart = is_apart
        self.is_ending = False
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self.woken, self._wakeup = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self._wakeup, False)

    def __enter__(self) -> Self:
        from_terminals = self._forward if self.is_apart else self._leave
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            **dict.fromkeys(_PASSED_ON, self._forward),
            **dict.fromkeys(_FROM_TERMINALS, from_terminals),
        }
        self._handlers_before = {number: signal.getsignal(number) for number in handlers}
        self._former_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            if self._handlers_before[number] is not signal.SIG_IGN:
                signal.signal(number, handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler_before in self._handlers_before.items():
            signal.signal(number, handler_before)
        signal.set_wakeup_fd(self._former_wakeup)
        os.close(self._wakeup)
        os.close(self.woken)

    def begin(self, child: "subprocess.Popen[bytes]") -> None:
        """Forward signals to a child from now on, beginning with those that arrived earlier."""
        self._child = child
        while self._early:
            self.send(self._early.pop(0))

    def detach(self) -> None:
        """Keep further signals for the next child, because the current one has ended."""
        self._child = None

    def send(self, number: int) -> None:
        """Send a signal to the child, or keep it for the next one."""
        if self._child is None:
            self._early.append(number)
            return
        with suppress(ProcessLookupError):
            if self.is_apart:
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self.is_ending = self.is_ending or number in _ENDING
        self.send(number)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        """Ignore a signal that the terminal also sends to the child.

        SIG_IGN in place of this handler would apply to the child too.
        """
        self.is_ending = True
        if self._child is None:
            self._early.append(number)


INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit statuses of a command that a user ended by a signal."""
