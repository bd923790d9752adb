"""A person at a terminal: a pseudo-terminal with a foreground process, its input and its output.

Example:
    with Person([*COMMAND, "run", "--", "cat"], environment=env) as person:
        person.type(b"hello\n")
        person.expect("hello")
        assert person.end() == 0
"""

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from live_processes import is_readable
from patience import PATIENCE_S

_WAIT_S = PATIENCE_S


class Person:
    """A process whose standard streams are a new terminal.

    Args:
        command: program and arguments.
        environment: the process's.
        folder: its current one.
        stdin, stdout: descriptors instead of the terminal.
        rows, columns: of the terminal.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        stdin: int | None = None,
        stdout: int | None = None,
        rows: int = 31,
        columns: int = 97,
    ) -> None:
        self.terminal, its = os.openpty()
        self.resize(rows, columns)
        self.seen = b""
        self.process = subprocess.Popen(
            command,
            stdin=its if stdin is None else stdin,
            stdout=its if stdout is None else stdout,
            stderr=its,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
        )
        # kept open: what the process leaves of modes is looked at when it has ended
        self._its = its

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_WAIT_S)
        os.close(self._its)
        os.close(self.terminal)

    def resize(self, rows: int, columns: int) -> None:
        """Resize the terminal."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.terminal, keys)

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Wait for the next match in the terminal's output and return it."""
        deadline = time.monotonic() + _WAIT_S
        while (match := re.search(pattern.encode(), self.seen, re.DOTALL)) is None:
            left = deadline - time.monotonic()
            assert left > 0 and is_readable(self.terminal, left), (pattern, self.seen)
            self.seen += os.read(self.terminal, 65536)
        self.seen = self.seen[match.end() :]
        return match

    def end(self) -> int:
        """Wait for the end of the process while reading; return its exit status."""
        deadline = time.monotonic() + _WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if is_readable(self.terminal, 0.02):
                self.seen += os.read(self.terminal, 65536)
        while is_readable(self.terminal, 0.0):
            self.seen += os.read(self.terminal, 65536)
        return self.process.returncode

    @property
    def is_raw(self) -> bool:
        """Return whether keys reach the program unprocessed."""
        return not termios.tcgetattr(self._its)[3] & termios.ICANON

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type(b"\x03")

    def stop(self) -> None:
        """Terminate the process from outside."""
        self.process.send_signal(signal.SIGTERM)
