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
import math
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, redirect_stderr, suppress
from functools import partial
from io import FileIO
from pathlib import Path

from capabilities.frozen import frozen

from ...service.command_errors import CommandNotExecutable, CommandNotFound
from .run_output import READ_BYTES, ChildStream, OwnStreams
from .run_restarts import Environment, Restarts, Start, Watch
from .run_signals import Signals

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_SIGNALLED = 128  # a shell whose command was ended by signal n has the status 128 + n
_IDLE_S = 0.1  # pause in the output after which the held-back end of a prompt is shown

_MAX_WAITING_BYTES = 262_144
"""Most output of former starts that waits for its reader when a command is started again."""
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
        raise _not_started(command[0], environment, error) from None


def run_masked(
    command: Sequence[str],
    environment: Environment,
    patterns: Iterable[bytes],
    *,
    restarts: Restarts | None = None,
) -> Ended:
    """Run a command, and mask patterns in its output.

    The command is stopped and restarted even while nobody reads its output. This function returns
    when all output was written, or has no reader any more.

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
        # Our messages must not wait for a reader either.
        with OwnStreams() as own, redirect_stderr(own.messages):
            while start is not None:
                masked.append(start.patterns)
                patterns = frozenset[bytes]().union(*masked)
                status = _run_once(command, start.environment, patterns, own, watch)
                start = watch.take_next_start()
        return Ended(status=status, is_by_user=signals.is_ending)


def _run_once(
    command: Sequence[str],
    environment: Environment,
    patterns: frozenset[bytes],
    own: OwnStreams,
    watch: Watch,
) -> int:
    """Run a command to its end, and return its exit status."""
    with ExitStack() as stack:
        our_out, its_out = os.pipe()
        our_err, its_err = os.pipe()
        streams = [
            ChildStream(stack.enter_context(FileIO(source)), target, patterns)
            for source, target in ((our_out, own.out), (our_err, own.err))
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
            raise _not_started(command[0], environment, error) from None
        finally:
            # While this process has them open too, the streams do not end with the child.
            os.close(its_out)
            os.close(its_err)
        watch.signals.begin(child)
        _forward_until_end(child, streams, own, watch)
        _wait_for_readers(own, watch)
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


def _not_started(
    program: str, environment: Environment, error: OSError
) -> CommandNotFound | CommandNotExecutable:
    if isinstance(error, FileNotFoundError | NotADirectoryError) or not _is_there(
        program, environment
    ):
        return CommandNotFound(
            f"command not found: {program}",
            hint="check the spelling, or use the path of the program",
        )
    reason = (error.strerror or "refused").lower()
    hint = f"ls -l {program}"
    if error.errno == errno.E2BIG:
        hint = "pass fewer secrets: sealspace run --only A,B -- COMMAND"
    return CommandNotExecutable(f"cannot run {program}: {reason}", hint=hint)


def _is_there(program: str, environment: Environment) -> bool:
    """Return whether a program is in a folder of PATH, as far as these folders can be read.

    The kernel's error does not say it: one folder of another user makes it "permission denied" for
    every name.
    """
    if os.sep in program:
        return True
    folders = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath))).split(os.pathsep)
    return any(os.access(Path(folder, program), os.F_OK) for folder in folders)


def _end_of(child: "subprocess.Popen[bytes]") -> int:
    """Return a descriptor that becomes readable when the child ends."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.pidfd_open(child.pid)


def _forward_until_end(
    child: "subprocess.Popen[bytes]", streams: Sequence[ChildStream], own: OwnStreams, watch: Watch
) -> None:
    """Forward the child's output until the child has ended.

    Args:
        child: the started process.
        streams: the child's output streams.
        own: our own output streams.
        watch: stops the child when there are news.
    """
    ended = _end_of(child)
    try:
        ready: set[int] = set()
        while ended not in ready:
            ready = _next_events(streams, own, watch, ended=ended)
            _forward_ready(streams, own, ready)
            if ended not in ready:  # a child that has ended by itself is not restarted
                watch.handle_news(has_news=watch.descriptor in ready)
    finally:
        os.close(ended)
    is_cut = _is_ended_by_signal(child)
    for stream in streams:
        stream.forward_rest(is_cut=is_cut)


def _wait_for_readers(own: OwnStreams, watch: Watch) -> None:
    """Wait before a restart until not too much output of the former starts waits for its reader.

    Without this limit, output that nobody reads would fill the memory after many restarts.
    """
    watch.note_end()
    while watch.is_restarting and own.waiting_bytes > _MAX_WAITING_BYTES:
        ready = _next_events((), own, watch)
        own.write_ready()
        watch.handle_news(has_news=watch.descriptor in ready)


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


def _next_events(
    streams: Sequence[ChildStream], own: OwnStreams, watch: Watch, *, ended: int | None = None
) -> set[int]:
    """Wait for an event, and return the descriptors that are ready; none after a pause.

    Args:
        streams: the output streams of the child.
        own: our own output streams.
        watch: the watch, which has the descriptors of signals and news.
        ended: a descriptor that becomes readable when the child ends.
    """
    awaited = [stream.awaited() for stream in streams]
    waiting = select.poll()
    for source in (ended, watch.signals.woken, watch.descriptor, *awaited):
        if source is not None:
            waiting.register(source, select.POLLIN)
    for target in own.full():
        waiting.register(target, select.POLLOUT)
    # With an open stream, the wait ends after a pause in the output, so that `_forward_ready` can
    # show the held-back end of a prompt.
    has_streams = any(source is not None for source in awaited)
    wait_s = watch.wait_s(_IDLE_S if has_streams else None)
    wait_ms = None if wait_s is None else math.ceil(wait_s * 1000)
    ready = {descriptor for descriptor, _ in waiting.poll(wait_ms)}
    # A signal that arrives just before `poll` would not end the wait, and its Python handler,
    # which forwards it, would run only afterwards. Its byte in this pipe ends the wait. The byte
    # itself says nothing.
    if watch.signals.woken in ready:
        with suppress(BlockingIOError):
            os.read(watch.signals.woken, READ_BYTES)
    return ready


def _forward_ready(streams: Sequence[ChildStream], own: OwnStreams, ready: set[int]) -> None:
    """Forward the available output, and close the streams that have ended.

    If nothing is ready, the output has paused, and what is held back is written.
    """
    for stream in streams:
        if ready:
            stream.forward(ready)
        else:
            stream.flush()
    own.write_ready()
