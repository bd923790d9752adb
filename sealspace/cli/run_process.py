"""The child of `sealspace run`: its output is masked, signals reach it once, and its exit status is
passed on.

The child inherits standard input; its outputs are pipes. If one of the three standard streams is a
terminal, the child stays in this process group, and the terminal itself sends Ctrl-C and Ctrl-Z to
both processes. Otherwise it has a session of its own, and Ctrl-C is passed on. Other signals are
passed on in both cases. If this process is killed, the kernel sends the child SIGTERM, so that it
can remove files of its own.

Nothing is written to a file, and values are in the environment of the child alone.
"""

import ctypes
import errno
import fcntl
import os
import select
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import FileIO
from types import FrameType
from typing import Final, TypeAlias

from .command_errors import CommandNotExecutable, CommandNotFound
from .run_masker import Masker

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_READ_BYTES: Final = 65_536
_IDLE_S: Final = 0.1  # without output, after which a prompt is shown whole

_PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)

Environment: TypeAlias = Mapping[bytes, bytes]


def keep_out_of_core_dumps() -> None:
    """Have the kernel write no core dump of this process, and let no other process of the user read
    its memory."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def replace_process(command: Sequence[str], environment: Environment) -> None:
    """Become the command, which inherits everything but the environment; returns only by raising.

    Raises:
        CommandNotFound, CommandNotExecutable.
    """
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606  # the user's own command, without a shell
    except OSError as error:
        raise _not_started(command[0], error) from None


def run_masked(command: Sequence[str], environment: Environment, patterns: Iterable[bytes]) -> int:
    """Run a command to its end with the patterns masked in its output.

    Args:
        command: program and arguments; the program is looked up in the PATH of `environment`.
        environment: the child's, whole.
        patterns: what is masked, see `run_masker.patterns_of`.

    Returns:
        The exit status; 128 + n if signal n ended the child.

    Raises:
        CommandNotFound, CommandNotExecutable.
    """
    patterns = tuple(patterns)
    is_apart = not any(os.isatty(number) for number in range(3))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with ExitStack() as stack:
        (our_out, its_out), (our_err, its_err) = os.pipe(), os.pipe()
        outputs = [
            _Output(stack.enter_context(FileIO(source)), target, patterns)
            for source, target in ((our_out, 1), (our_err, 2))
        ]
        # Before the child starts: an early signal must meet its handler.
        begin, woken = stack.enter_context(_passing_on(is_apart=is_apart))
        try:
            child = subprocess.Popen(  # noqa: S603  # the user's own command, without a shell
                list(command),
                env=dict(environment),
                stdout=its_out,
                stderr=its_err,
                start_new_session=is_apart,
                # One thread runs here: what was read from the node was read by a loop that is
                # closed.
                preexec_fn=partial(_end_with_parent, ctypes.CDLL(None), os.getpid()),
            )
        except OSError as error:
            raise _not_started(command[0], error) from None
        finally:
            os.close(its_out)  # the child has its own: each stream ends with the child
            os.close(its_err)
        begin(child)
        _forward_until_end(child, outputs, woken=woken)
        number = child.wait()
    return number if number >= 0 else 128 - number


def _end_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    """Run in the child before the command: have the kernel send SIGTERM when the parent ends."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def _not_started(program: str, error: OSError) -> CommandNotFound | CommandNotExecutable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return CommandNotFound(
            f"there is no command {program}", hint="sealspace run -- COMMAND, spelled as in a shell"
        )
    reason = (error.strerror or "refused").lower()
    hint = (
        "sealspace run --only A,B -- COMMAND takes fewer secrets"
        if error.errno == errno.E2BIG
        else f"ls -l {program}"
    )
    return CommandNotExecutable(f"cannot run {program}: {reason}", hint=hint)


class _Output:
    """An output of the child: the pipe it is read from, where it is written to, and its masker."""

    def __init__(self, source: FileIO, target: int, patterns: Iterable[bytes]) -> None:
        self.source = source
        self._target = target
        self._masker = Masker(patterns)
        os.set_blocking(source.fileno(), False)

    def forward(self) -> int | None:
        """Forward what can be read; return the number of bytes, 0 at the end, None if there is
        nothing to read yet.

        A reader of this process's output that is gone counts as the end: the child's next write to
        it fails.
        """
        piece = self.source.read(_READ_BYTES)
        if piece is None:
            return None
        return (
            len(piece)
            if self._write(self._masker.feed(piece) if piece else self._masker.end())
            else 0
        )

    def flush(self) -> None:
        """Show the end of a partial line as far as it reveals no value."""
        self._write(self._masker.flush())

    def rest(self) -> None:
        """Forward what the child wrote before it ended; a process that outlives it is not waited
        for."""
        left = fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        while left > 0 and (count := self.forward()) is not None:
            if count == 0:
                return
            left -= count
        self._write(self._masker.end())

    def _write(self, data: bytes) -> bool:
        """Write; return whether the stream still has a reader."""
        try:
            while data:
                try:
                    data = data[os.write(self._target, data) :]
                except BlockingIOError:  # a stream that another program made non-blocking
                    select.select([], [self._target], [])
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return False
        return True


def _forward_until_end(
    child: "subprocess.Popen[bytes]", outputs: Iterable[_Output], *, woken: int
) -> None:
    """Return when the child has ended and everything that it wrote is written."""
    opened = {output.source.fileno(): output for output in outputs}
    ended = os.pidfd_open(child.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for source in (ended, woken, *opened):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(_IDLE_S if opened else None)}
                if woken in ready:
                    with suppress(BlockingIOError):
                        os.read(woken, _READ_BYTES)
                for source in ready & opened.keys():
                    if opened[source].forward() == 0:
                        selector.unregister(source)
                        opened.pop(source).source.close()
                if not ready:
                    for output in opened.values():
                        output.flush()
                if ended in ready:
                    break
    finally:
        os.close(ended)
    for output in opened.values():
        output.rest()


@contextmanager
def _passing_on(
    *, is_apart: bool
) -> Iterator[tuple[Callable[["subprocess.Popen[bytes]"], None], int]]:
    """Pass signals on to the child while the block runs, with all its process group where that is
    its own.

    Yields what to call with the child: signals that come before it are passed on then; and a
    descriptor that can be read after each signal. A signal that was ignored before stays so, for
    the child too.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def send(number: int, _frame: FrameType | None = None) -> None:
        if child is None:
            early.append(number)
            return
        with suppress(ProcessLookupError):
            if is_apart:
                os.killpg(child.pid, number)
            else:
                child.send_signal(number)

    def begin(started: "subprocess.Popen[bytes]") -> None:
        nonlocal child
        child = started
        while early:
            send(early.pop(0))

    def leave(_number: int, _frame: FrameType | None) -> None:
        """The terminal has sent it to the child as well, which decides what follows."""

    handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(_PASSED_ON, send)
    handlers |= dict.fromkeys(_FROM_TERMINALS, send if is_apart else leave)
    former = {number: signal.getsignal(number) for number in handlers}
    woken, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    former_wakeup = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number, handler in handlers.items():
        if former[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield begin, woken
    finally:
        for number, handler_before in former.items():
            signal.signal(number, handler_before)
        signal.set_wakeup_fd(former_wakeup)
        os.close(wakeup)
        os.close(woken)
