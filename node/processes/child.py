"""One process that the supervisor starts, reads messages from and restarts.

A child imports from the same places as its parent and from nowhere else: not from the current directory, where a folder
named `spaces` would otherwise be taken for ours.
"""

import subprocess
import sys
import time
from contextlib import suppress

from ..config.loading import child_environment
from .launch import Launch, encode_launch

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_STEADY_S = 30.0  # a process that ran this long is restarted without delay

# The import path is the parent's, given as the first argument; -P keeps the current directory out meanwhile. Imports
# create only permanent objects, so the collector is off until `receive_launch`: it takes a sixth of their time.
_CODE = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv.pop(1).split('\\n'); "
    "from sealspace.cli.root import main; sys.exit(main())"
)

# glibc returns the end of its heap as soon as 128 KiB of it are free and requests it again a moment later: some 500
# pages for an upload of 10 MiB. So blocks of up to 2 MiB are taken from the heap, which keeps 4 MiB of freed memory.
# Once set, both are fixed: otherwise glibc raises them to 32 and 64 MiB. Other C libraries ignore both variables.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}


class Child:
    """One process: how to start it, whether it runs, when to start it again."""

    def __init__(self, name: str, command: str) -> None:
        self.name = name
        self.command = command
        self.ready = False
        self.launched = False
        self.failures = 0
        self.due_at = 0.0
        self.status_fd = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._heard = b""

    @property
    def running(self) -> bool:
        """Whether a process was started and has not been reaped."""
        return self._process is not None

    def spawn(self, *, pass_fds: list[int]) -> None:
        """Start the process; it waits for its settings."""
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter with our own code
            [sys.executable, "-P", "-c", _CODE, "\n".join(paths), self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            env=_MALLOC | child_environment(),  # what the operator sets takes precedence
            process_group=0,  # a Ctrl-C reaches the supervisor alone, which stops the others in order
        )
        assert self._process.stdout is not None  # stdout=PIPE
        self.status_fd = self._process.stdout.fileno()
        self._started_at = time.monotonic()
        self.ready = self.launched = False
        self._heard = b""

    def send(self, launch: Launch) -> None:
        """Send the process its settings, which also start its work."""
        self.launched = True
        assert self._process is not None and self._process.stdin is not None  # stdin=PIPE
        with suppress(BrokenPipeError):  # it ended meanwhile, which its status pipe reports
            self._process.stdin.write(encode_launch(launch))
            self._process.stdin.flush()

    def lines(self, said: bytes) -> list[bytes]:
        """Return the complete lines of the output that the process has sent so far."""
        *lines, self._heard = (self._heard + said).split(b"\n")
        return lines

    def reap(self) -> int:
        """Reap a process that ended, and schedule the next one; return its exit status."""
        assert self._process is not None
        status = self._process.wait()
        self._close_pipes()
        steady = time.monotonic() - self._started_at > _STEADY_S
        self.failures = 0 if steady else self.failures + 1
        delay_s = 0.0 if steady else min(_FIRST_DELAY_S * 2 ** (self.failures - 1), _LONGEST_DELAY_S)
        self.due_at = time.monotonic() + delay_s
        self._process = None
        self.ready = self.launched = False
        return status

    def signal(self, number: int) -> None:
        """Send a signal if the process runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def join(self, deadline: float) -> bool:
        """Wait for the end of the process; return whether it ended before the deadline."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        self._close_pipes()
        self._process = None
        return True

    def _close_pipes(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
