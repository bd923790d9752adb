"""The process that looks for new values of secrets while a command runs.

It is a process of its own, because `run_process` starts children safely only from a process with
one thread. Requests use threads to resolve host names, and a slow node would delay the output of
the command. New values come back through a pipe, and are never in a file or an argument.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from multiprocessing.connection import Connection

from ...errors import InvalidInput
from ..terminal import pass_on_message, tell
from .run_output import MessageStream
from .run_process import end_with_parent
from .run_restarts import News, Start
from .secret_watch import SecretWatch, Update

_IGNORED = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals for the command. A terminal, or a user, may send them to the whole process group."""
ENDED = (
    "no longer looking for new values: the watching process has ended; to watch again, start this"
    " command again"
)


class Updates:
    """The changes that a watching process sends.

    Args:
        source: the end of the pipe that is read.
        end: ends the watching process.
    """

    def __init__(self, source: Connection, end: Callable[[], None]) -> None:
        self._source = source
        self._end = end

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is an update."""
        return self._source.fileno()

    def receive(self) -> Update | None:
        """Wait for the next update; None: the process has ended."""
        try:
            update: Update = self._source.recv()
        except (EOFError, OSError):
            return None
        return update

    def close(self) -> None:
        """End the watching process."""
        self._end()


class CommandRestarts:
    """The restarts of a command for new values of its secrets.

    Args:
        updates: the changes of the secrets.
        start_with: returns what the command gets with new values.
        stop_s: seconds from SIGTERM to SIGKILL when the command is stopped.
    """

    def __init__(
        self,
        updates: Updates,
        start_with: Callable[[Mapping[str, str | bytes]], Start],
        *,
        stop_s: float,
    ) -> None:
        self.stop_s = stop_s
        self._updates = updates
        self._start_with = start_with

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are news."""
        return self._updates.fileno()

    def take(self) -> News:
        """Return the news of the next update.

        New values that cannot be passed to a command leave the running one alone.
        """
        update = self._updates.receive()
        if update is not None and update.message:
            pass_on_message(update.message)
            return News()
        if update is None:
            tell(ENDED)
            return News(is_last=True)
        if update.is_lost:
            return News(stops=True)
        try:
            start = self._start_with(update.values)
        except InvalidInput as error:
            tell(f"not restarting the command: {error.message}; next: {error.step}")
            return News()
        tell(f"new value of {', '.join(update.replaced):.300}: restarting the command")
        return News(start=start)

    def close(self) -> None:
        """End the watching process."""
        self._updates.close()


@contextmanager
def watching(
    make_watch: Callable[[Callable[[Update], None]], SecretWatch], *, sends_messages: bool = False
) -> Iterator[Updates]:
    """Watch secrets in another process, which ends at the end of the `with` block.

    Args:
        make_watch: takes the function that delivers updates, and returns the watch.
        sends_messages: the messages of the watch come as updates. Otherwise the process prints
            them, and waits while nobody reads standard error.
    """
    fork = multiprocessing.get_context("fork")
    source, target = fork.Pipe(duplex=False)
    process = fork.Process(
        target=_watch, args=(make_watch, source, target, os.getpid(), sends_messages)
    )
    # Blocked until the process ignores them, so that none of them ends it at its start.
    former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former_mask)
    target.close()  # so that reading ends when the process does

    def end() -> None:
        process.kill()
        process.join()

    try:
        yield Updates(source, end)
    finally:
        end()
        source.close()


def _watch(
    make_watch: Callable[[Callable[[Update], None]], SecretWatch],
    source: Connection,
    target: Connection,
    parent: int,
    sends_messages: bool,
) -> None:
    """Watch until the parent ends this process."""
    source.close()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    end_with_parent(signal.SIGKILL, parent=parent)
    messages = MessageStream(lambda text: target.send(Update(message=text)))
    redirected = redirect_stderr(messages) if sends_messages else nullcontext()
    # A broken pipe: the parent is about to end this process.
    with suppress(BrokenPipeError), redirected:
        asyncio.run(make_watch(target.send).run())
