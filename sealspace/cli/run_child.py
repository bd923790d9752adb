"""The child of `sealspace run`: its output is masked, signals reach it once, and its exit status is passed on.

The child's standard streams follow the caller's:

- All three are a terminal, in whose foreground this process is: the child has a pseudo-terminal and a session of its
  own. Ctrl-C is typed into that terminal.
- Some are a terminal, as in `sealspace run -- env | less`: the child inherits the input, its outputs are pipes, and it
  stays in this process group. The terminal itself sends Ctrl-C to both processes; this one leaves it to the child.
- None is: the same pipes, in a session of its own. Ctrl-C is passed on.

So a program that asks `isatty` behaves as it does without `run`, and only where somebody sees it: elsewhere nothing
reads keys that another program of the pipeline waits for. Other signals are passed on in all three cases. If this
process is killed, the kernel sends the child SIGTERM, so that it can remove files of its own.

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
from types import FrameType
from typing import Final, TypeAlias

from .errors import CommandNotExecutable, CommandNotFound
from .run_masker import Masker
from .run_terminal import UserTerminal

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_READ_BYTES: Final = 65_536
_HANG_UP_S: Final = 1.0  # the kernel hangs up a terminal whose session ended; this bounds the wait for it

_PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)

Environment: TypeAlias = Mapping[bytes, bytes]
_Ends: TypeAlias = tuple[int | None, int, int]


def keep_out_of_core_dumps() -> None:
    """Have the kernel write no core dump of this process, and let no other process of the user read its memory."""
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
    terminal = UserTerminal.of_this_process()
    with ExitStack() as stack:
        outputs, ends = _streams(terminal, patterns, stack)
        is_apart = terminal is not None or not any(os.isatty(number) for number in range(3))
        # Before the child starts: what it does first must not meet a terminal or a handler that is not ready.
        passing = _Passing(is_apart=is_apart)
        stack.enter_context(passing.handling(terminal))
        if terminal is not None:
            stack.enter_context(terminal.raw())
        try:
            child = _started(command, environment, ends, is_apart=is_apart, has_terminal=terminal is not None)
        finally:
            for end in {end for end in ends if end is not None}:
                os.close(end)  # the child has its own: each stream ends with the child
        passing.begin(child)
        _Pump(child, outputs, terminal, woken=passing.woken).run()
        number = child.wait()
    return number if number >= 0 else 128 - number


# --- starting ------------------------------------------------------------------------------------------------------


class _Output:
    """One output of the child: where it is read, where it is written, and its masker."""

    def __init__(self, source: int, target: int, patterns: Iterable[bytes], *, is_terminal: bool) -> None:
        self.source = source
        self.is_terminal = is_terminal
        self._is_closed = False
        self._target = target
        self._masker = Masker(patterns)
        os.set_blocking(source, False)

    def forward(self, size_bytes: int = _READ_BYTES) -> int | None:
        """Forward what is there; return how many bytes were read, 0 at the end, None if nothing is there yet.

        Once nobody reads this process's output, that is its end: the next write of the child to it fails.
        """
        try:
            piece = os.read(self.source, size_bytes)
        except BlockingIOError:
            return None
        except OSError:  # EIO: the terminal was hung up
            piece = b""
        return len(piece) if self._write(self._masker.feed(piece) if piece else self._masker.end()) else 0

    def rest(self) -> None:
        """Forward what the child wrote before it ended; a process that outlives it is not waited for."""
        left = _READ_BYTES if self.is_terminal else fcntl.fcntl(self.source, fcntl.F_GETPIPE_SZ)
        while left > 0:
            if self.is_terminal and not select.select([self.source], [], [], _HANG_UP_S)[0]:
                break
            count = self.forward(left)
            if count == 0:
                return
            if count is None:
                break
            left -= 0 if self.is_terminal else count
        self._write(self._masker.end())

    def close(self) -> None:
        """Close our end."""
        if not self._is_closed:
            os.close(self.source)
            self._is_closed = True

    def _write(self, data: bytes) -> bool:
        """Write; tell whether somebody reads it."""
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


def _streams(terminal: UserTerminal | None, patterns: Sequence[bytes], stack: ExitStack) -> tuple[list[_Output], _Ends]:
    """Return the outputs, and the child's three standard streams; None: it inherits ours."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if terminal is not None:
        ours, its = terminal.open_child_terminal()
        outputs = [_Output(ours, 1, patterns, is_terminal=True)]
        ends: _Ends = (its, its, its)
    else:
        (our_out, its_out), (our_err, its_err) = os.pipe(), os.pipe()
        outputs = [_Output(ours, target, patterns, is_terminal=False) for target, ours in ((1, our_out), (2, our_err))]
        ends = (None, its_out, its_err)
    for output in outputs:
        stack.callback(output.close)
    return outputs, ends


def _started(
    command: Sequence[str], environment: Environment, ends: _Ends, *, is_apart: bool, has_terminal: bool
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603  # the user's own command, without a shell
            list(command),
            env=dict(environment),
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            start_new_session=is_apart,
            # One thread runs here: what was read from the node was read by a loop that is closed.
            preexec_fn=partial(_prepare, ctypes.CDLL(None), os.getpid(), has_terminal),
        )
    except OSError as error:
        raise _not_started(command[0], error) from None


def _prepare(libc: ctypes.CDLL, parent: int, has_terminal: bool) -> None:
    """Run in the child before the command: take the terminal, and end when the parent does."""
    if has_terminal:
        UserTerminal.control(0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def _not_started(program: str, error: OSError) -> CommandNotFound | CommandNotExecutable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return CommandNotFound(f"there is no command {program}", hint="sealspace run -- COMMAND, spelled as in a shell")
    reason = (error.strerror or "refused").lower()
    hint = (
        "sealspace run --only A,B -- COMMAND takes fewer secrets" if error.errno == errno.E2BIG else f"ls -l {program}"
    )
    return CommandNotExecutable(f"cannot run {program}: {reason}", hint=hint)


# --- running -------------------------------------------------------------------------------------------------------


class _Pump:
    """Forwards bytes both ways until the child ends."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", outputs: Iterable[_Output], terminal: UserTerminal | None, *, woken: int
    ) -> None:
        self._child = child
        self._woken = woken
        self._outputs = list(outputs)
        self._terminal = terminal

    def run(self) -> None:
        """Return when the child has ended and all that it wrote before is written."""
        ended = os.pidfd_open(self._child.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ, None)
            selector.register(self._woken, selectors.EVENT_READ, lambda _: _drain(self._woken))
            for output in self._outputs:
                selector.register(output.source, selectors.EVENT_READ, partial(self._forward, selector, output))
            if self._terminal is not None:
                self._terminal.attach(selector, self._outputs[0].source)
            try:
                while self._step(selector):
                    pass
            finally:
                os.close(ended)
        for output in self._outputs:
            output.rest()

    def _step(self, selector: selectors.BaseSelector) -> bool:
        """Handle what is ready; tell whether the child still runs."""
        ready = selector.select()
        for key, events in ready:
            if key.data is not None:
                key.data(events)
        return all(key.data is not None for key, _ in ready)

    def _forward(self, selector: selectors.BaseSelector, output: _Output, events: int) -> None:
        if self._terminal is not None and events & selectors.EVENT_WRITE:
            self._terminal.send_typed()
        if events & selectors.EVENT_READ and output.forward() == 0:
            selector.unregister(output.source)
            output.close()
            self._outputs.remove(output)


def _drain(woken: int) -> None:
    with suppress(BlockingIOError):
        os.read(woken, _READ_BYTES)


class _Passing:
    """Passes signals on to the child; those that come before there is one, when it is there.

    Args:
        is_apart: the child is in a session of its own, so that what the terminal sends here is not sent to it.
    Attributes:
        woken: has a byte to read after each signal, while signals are handled. Python runs a handler before it waits
            or after: a signal that arrives in between would be noticed only when something else ends the wait.
    """

    def __init__(self, *, is_apart: bool) -> None:
        self.woken = -1
        self._is_apart = is_apart
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def begin(self, child: "subprocess.Popen[bytes]") -> None:
        """Name the child."""
        self._child = child
        while self._early:
            self.send(self._early.pop(0))

    def send(self, number: int) -> None:
        """Send a signal to the child, with all its process group where that is its own."""
        if self._child is None:
            self._early.append(number)
            return
        with suppress(ProcessLookupError):
            if self._is_apart:
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)

    @contextmanager
    def handling(self, terminal: UserTerminal | None) -> Iterator[None]:
        """Handle signals while the block runs; one that was ignored before stays so, for the child too."""

        def pass_on(number: int, _frame: FrameType | None) -> None:
            self.send(number)

        def leave(_number: int, _frame: FrameType | None) -> None:
            """The terminal has sent it to the child as well, which decides what follows."""

        handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(_PASSED_ON, pass_on)
        handlers |= dict.fromkeys(_FROM_TERMINALS, pass_on if self._is_apart else leave)
        if terminal is not None:
            handlers |= terminal.handlers(self.send)
        former = {number: signal.getsignal(number) for number in handlers}
        self.woken, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        former_wakeup = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            if former[number] is not signal.SIG_IGN:
                signal.signal(number, handler)
        try:
            yield
        finally:
            for number, handler_before in former.items():
                signal.signal(number, handler_before)
            signal.set_wakeup_fd(former_wakeup)
            os.close(wakeup)
            os.close(self.woken)
