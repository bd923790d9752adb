"""The child process of the command `sealspace run`.

Its output is masked, and signals are forwarded to it. The child inherits standard input; its
outputs are pipes. If one of the three standard streams is a terminal, the child stays in this
process group, and the terminal itself sends Ctrl-C and Ctrl-Z to both processes. Otherwise the
child gets a new session, and SIGINT is forwarded. Other signals are forwarded in both cases. If
this process is killed, the kernel sends SIGTERM to the child, so that it can remove its temporary
files.

Values are only in the environment of the child; no file is written.

Linux only: the calls that protect memory, end the child with its parent and wait for its end.
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
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from io import FileIO

from capabilities.frozen import frozen

from ...service.command_errors import CommandNotExecutable, CommandNotFound
from .run_masker import Masker
from .run_restarts import Environment, Restarts, Start, Watch
from .run_signals import Signals

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_READ_BYTES = 65_536
_SIGNALLED = 128  # a shell whose command was ended by signal n has the status 128 + n
_IDLE_S = 0.1  # pause in the output after which the held-back end of a prompt is shown

MASKED_STARTS = 16
"""Number of starts of a command, the newest included, whose values are masked in its output."""


@frozen
class Ended:
    """The end of a command.

    Attributes:
        status: the exit status of the last child; 128 + n if signal n ended it.
        is_by_user: whether a signal arrived with which a user ends a program. A command can end
            with any status after it.
    """

    status: int
    is_by_user: bool


def keep_out_of_core_dumps() -> None:
    """Protect this process's memory from core dumps and other processes.

    Raises:
        CommandNotExecutable: the system is not Linux.
    """
    if sys.platform != "linux":
        raise CommandNotExecutable(
            "cannot protect secrets in the memory of this command: the system is not Linux",
            hint="run the command on Linux, for example in a container",
        )
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def replace_process(command: Sequence[str], environment: Environment) -> None:
    """Replace this process with another command.

    This function never returns. The command gets the given environment.

    Raises:
        CommandNotFound, CommandNotExecutable.
    """
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606  # the user's own command, without a shell
    except OSError as error:
        raise _not_started(command[0], error) from None


def run_masked(
    command: Sequence[str],
    environment: Environment,
    patterns: Iterable[bytes],
    *,
    restarts: Restarts | None = None,
) -> Ended:
    """Run a command, and mask patterns in its output.

    Args:
        command: program and arguments; the program is looked up in the PATH of `environment`.
        environment: the complete environment of the child.
        patterns: byte sequences to mask, see `run_masker.patterns_of`.
        restarts: news for which the command is stopped and started again, until a user ends it by
            a signal.

    Raises:
        CommandNotFound, CommandNotExecutable.
    """
    start: Start | None = Start(environment=environment, patterns=frozenset(patterns))
    # A program may print a former value, for example from a file that it wrote earlier.
    masked: deque[frozenset[bytes]] = deque(maxlen=MASKED_STARTS)
    status = 0
    # Our earlier messages are written now, so that they do not come after the child's output.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Handlers are set before the child starts, so that an early signal is not lost.
    with Signals(is_apart=not any(os.isatty(number) for number in range(3))) as signals:
        watch = Watch(restarts, signals)
        while start is not None:
            masked.append(start.patterns)
            status = _run_once(command, start.environment, frozenset().union(*masked), watch)
            start = watch.following()
        return Ended(status=status, is_by_user=signals.is_ending)


def _run_once(
    command: Sequence[str], environment: Environment, patterns: frozenset[bytes], watch: Watch
) -> int:
    """Run a command to its end, and return its exit status."""
    with ExitStack() as stack:
        our_out, its_out = os.pipe()
        our_err, its_err = os.pipe()
        outputs = [
            _Output(stack.enter_context(FileIO(source)), target, patterns)
            for source, target in ((our_out, 1), (our_err, 2))
        ]
        try:
            child = subprocess.Popen(  # noqa: S603  # the user's own command, without a shell
                list(command),
                env=dict(environment),
                stdout=its_out,
                stderr=its_err,
                start_new_session=watch.signals.is_apart,
                # Safe, because this process has one thread: the event loop that read the secrets
                # is closed, and new values are read by another process.
                preexec_fn=partial(
                    _ask_for_end, ctypes.CDLL(None), signal.SIGTERM, parent=os.getpid()
                ),
            )
        except OSError as error:
            raise _not_started(command[0], error) from None
        finally:
            # While this process has them open too, the streams do not end with the child.
            os.close(its_out)
            os.close(its_err)
        watch.signals.begin(child)
        _forward_until_end(child, outputs, watch)
        status = child.wait()
        watch.signals.detach()
    if status < 0:  # -n if signal n ended the child
        return 128 - status
    return status


def end_with_parent(number: signal.Signals, *, parent: int) -> None:
    """Ask the kernel to send a signal to this process when its parent ends."""
    _ask_for_end(ctypes.CDLL(None), number, parent=parent)


def _ask_for_end(libc: ctypes.CDLL, number: signal.Signals, *, parent: int) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call above
        os.kill(os.getpid(), number)


def _not_started(program: str, error: OSError) -> CommandNotFound | CommandNotExecutable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return CommandNotFound(
            f"command not found: {program}",
            hint="check the spelling, or use the path of the program",
        )
    reason = (error.strerror or "refused").lower()
    hint = f"ls -l {program}"
    if error.errno == errno.E2BIG:
        hint = "pass fewer secrets: sealspace run --only A,B -- COMMAND"
    return CommandNotExecutable(f"cannot run {program}: {reason}", hint=hint)


class _Output:
    """An output stream of the child process."""

    def __init__(self, source: FileIO, target: int, patterns: Iterable[bytes]) -> None:
        self.source = source
        self._target = target
        self._masker = Masker(patterns)
        os.set_blocking(source.fileno(), False)

    def forward(self) -> int | None:
        """Copy the child process's available output to our own output.

        Returns the number of bytes read, 0 at the end of the stream, and None if no output is
        available. If the reader of our own output is gone, this returns 0 too. The caller then
        closes the pipe, so that the child's next write fails. `rest` writes what is held back.
        """
        piece = self.source.read(_READ_BYTES)
        if not piece:
            return None if piece is None else 0
        return len(piece) if self._write(self._masker.feed(piece)) else 0

    def flush(self) -> None:
        """Write the buffered output, unless it could reveal a secret."""
        self._write(self._masker.flush())

    def rest(self, *, is_cut: bool) -> None:
        """Forward the remaining output after the child has ended.

        Args:
            is_cut: a signal ended the child, perhaps while it wrote a value.
        """
        # At most one full pipe: a background process that inherited the pipe may write forever.
        left = 0
        if not self.source.closed:
            left = _READ_BYTES
            if sys.platform == "linux":
                left = fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        while left > 0:
            count = self.forward()
            if not count:
                break
            left -= count
        self._write(self._masker.end(is_cut=is_cut))

    def _write(self, data: bytes) -> bool:
        """Write data, and return whether the stream still has a reader."""
        try:
            while data:
                try:
                    data = data[os.write(self._target, data) :]
                except BlockingIOError:  # another program made the shared stream non-blocking
                    select.select([], [self._target], [])
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return False
        return True


def _end_of(child: "subprocess.Popen[bytes]") -> int:
    """Return a descriptor that becomes readable when the child ends."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.pidfd_open(child.pid)


def _forward_until_end(
    child: "subprocess.Popen[bytes]", outputs: Sequence[_Output], watch: Watch
) -> None:
    """Forward the child's output until the child has ended.

    Args:
        child: the started process.
        outputs: its output streams.
        watch: stops the child when there are news.
    """
    opened = {output.source.fileno(): output for output in outputs}
    ended, news = _end_of(child), watch.descriptor
    try:
        with selectors.DefaultSelector() as selector:
            sources = [ended, watch.signals.woken, *opened]
            if news is not None:
                sources.append(news)
            for source in sources:
                selector.register(source, selectors.EVENT_READ)
            ready: set[int] = set()
            while ended not in ready:
                ready = _next_events(selector, watch, has_streams=bool(opened))
                _forward_ready(opened, ready, selector)
                if ended not in ready:  # a child that has ended by itself is not restarted
                    watch.proceed(has_news=news in ready)
                if news is not None and watch.descriptor is None:
                    selector.unregister(news)
                    news = None
    finally:
        os.close(ended)
    is_cut = _is_ended_by_signal(child)
    for output in outputs:
        output.rest(is_cut=is_cut)


def _is_ended_by_signal(child: "subprocess.Popen[bytes]") -> bool:
    """Return whether a signal ended a child, or its own child if it is a shell."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        # It stays a zombie, so that no other process gets its number while signals are forwarded.
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:  # `Signals.send` has waited for it meanwhile
        return child.returncode < 0 or child.returncode > _SIGNALLED
    return ended is None or ended.si_code != os.CLD_EXITED or ended.si_status > _SIGNALLED


def _next_events(selector: selectors.BaseSelector, watch: Watch, *, has_streams: bool) -> set[int]:
    """Wait for an event, and return the descriptors that can be read; none after a pause."""
    # With an open stream, the wait ends after a pause in the output, so that `_forward_ready` can
    # show the held-back end of a prompt.
    wait_s = watch.wait_s(_IDLE_S if has_streams else None)
    ready = {key.fd for key, _ in selector.select(wait_s)}
    # A signal that arrives just before `select` would not end the wait, and its Python handler,
    # which forwards it, would run only afterwards. Its byte in this pipe ends the wait. The byte
    # itself says nothing.
    if watch.signals.woken in ready:
        with suppress(BlockingIOError):
            os.read(watch.signals.woken, _READ_BYTES)
    return ready


def _forward_ready(
    opened: dict[int, _Output], ready: set[int], selector: selectors.BaseSelector
) -> None:
    """Forward the available output, and close the streams that have ended.

    If nothing is ready, the output has paused, and what is held back is written.

    Args:
        opened: descriptor -> open stream; ended streams are removed.
        ready: the descriptors that can be read.
        selector: waits for the streams.
    """
    if not ready:
        for output in opened.values():
            output.flush()
    for source in ready & opened.keys():
        if opened[source].forward() == 0:
            selector.unregister(source)
            opened.pop(source).source.close()
