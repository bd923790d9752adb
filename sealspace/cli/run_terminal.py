"""The caller's terminal while a child runs in a pseudo-terminal of its own: keys, size, modes, stopping.

The caller's terminal is raw meanwhile: each key goes to the child's terminal, which has the modes that the caller's had
and makes a signal of Ctrl-C itself. So the child gets it once, and this process never.
"""

import fcntl
import os
import selectors
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_KEYS_BYTES = 4096


class UserTerminal:
    """The terminal that all three standard streams of this process are."""

    def __init__(self) -> None:
        self._modes: list[Any] = termios.tcgetattr(0)  # typeshed's own type
        self._child_terminal = -1
        self._typed = b""
        self._selector: selectors.BaseSelector | None = None
        self._is_raw = False

    @classmethod
    def of_this_process(cls) -> "UserTerminal | None":
        """Return the terminal if all three streams are terminals and this process is in its foreground."""
        try:
            if all(os.isatty(number) for number in range(3)) and os.tcgetpgrp(0) == os.getpgrp():
                return cls()
        except OSError:
            pass  # a terminal that does not control this session, which Ctrl-C on it does not reach
        return None

    def open_child_terminal(self) -> tuple[int, int]:
        """Return our end and the child's end of a new terminal of the same size and modes."""
        ours, its = os.openpty()
        termios.tcsetattr(its, termios.TCSANOW, self._modes)
        self._child_terminal = ours
        self._copy_size()
        return ours, its

    @staticmethod
    def control(descriptor: int) -> None:
        """Make a terminal that of the calling process's session, which has none."""
        fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Keep the caller's terminal raw while the block runs."""
        self._take()
        try:
            yield
        finally:
            self._give_back()

    def attach(self, selector: selectors.BaseSelector, ours: int) -> None:
        """Forward keys while a selector runs in which our end of the child's terminal is registered."""
        self._selector = selector
        self._child_terminal = ours
        self._listen()

    def send_typed(self) -> None:
        """Give the child's terminal what it takes of the keys; never blocks."""
        try:
            self._typed = self._typed[os.write(self._child_terminal, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:  # hung up
            self._typed = b""
        self._send_rest_later()

    def handlers(self, send: Callable[[int], None]) -> dict[int, Callable[[int, FrameType | None], None]]:
        """Return what to do at a new size, at a stop and when going on.

        Args:
            send: sends a signal to the child's process group.
        """

        def stop(_number: int, _frame: FrameType | None) -> None:
            # SIGTSTP does nothing in a session whose leader's parent is in another: nobody there would wake it.
            send(signal.SIGSTOP)
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)

        def go_on(_number: int, _frame: FrameType | None) -> None:
            self._take()
            send(signal.SIGCONT)

        return {signal.SIGWINCH: lambda _number, _frame: self._copy_size(), signal.SIGTSTP: stop, signal.SIGCONT: go_on}

    def _listen(self) -> None:
        assert self._selector is not None  # attached
        self._selector.register(0, selectors.EVENT_READ, lambda _: self._read_keys())

    def _read_keys(self) -> None:
        assert self._selector is not None  # called by it
        self._selector.unregister(0)  # until the child's terminal has taken these keys
        try:
            self._typed = os.read(0, _KEYS_BYTES)
        except OSError:
            self._typed = b""
        if self._typed:  # else the terminal is gone: SIGHUP follows
            self.send_typed()

    def _send_rest_later(self) -> None:
        """Go on when the child's terminal takes the rest; with nothing left, listen again."""
        assert self._selector is not None  # keys come by it alone
        if not self._typed:
            self._listen()
        with suppress(KeyError):  # the child's terminal was closed
            registered = self._selector.get_key(self._child_terminal)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._typed else 0)
            self._selector.modify(self._child_terminal, events, registered.data)

    def _copy_size(self) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._child_terminal, termios.TIOCSWINSZ, size)

    def _take(self) -> None:
        self._copy_size()  # again: it may have changed while no handler was told
        if self._is_foreground():
            tty.setraw(0, termios.TCSADRAIN)
            self._is_raw = True

    def _give_back(self) -> None:
        if self._is_raw and self._is_foreground():  # from the background it would stop this process
            termios.tcsetattr(0, termios.TCSADRAIN, self._modes)
            self._is_raw = False

    @staticmethod
    def _is_foreground() -> bool:
        try:
            return os.tcgetpgrp(0) == os.getpgrp()
        except OSError:
            return False
