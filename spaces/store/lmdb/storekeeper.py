"""The only process that writes to a data folder.

It receives the commits of all workers on a Unix socket, writes those that have arrived in one LMDB
transaction with one sync, and replies after the sync. While the disk syncs, the next commits queue
up, so the load determines the size of the batches.

When a sync fails, it stops acknowledging and exits with a status other than 0. On SIGTERM it
answers the commits that it has read and exits with 0. Its parent process starts it again. Workers
reconnect to the new process and send again the commits whose replies they did not receive.
"""

import asyncio
import logging
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from capabilities.clock_and_entropy import SystemClock

from ...space_errors import CommitInvalid, CommitTooLarge, StoreUnavailable
from ..contract import Commit, check_commit
from ..durable import STORE_RESERVE_BYTES
from ..observing import Observer
from ._folder import socket_path_for
from ._frames import (
    MAX_REQUEST_BYTES,
    CommitReply,
    FrameConnection,
    parse_requests,
    reply_frame,
    reply_of,
)
from ._housekeeping import HOUSEKEEPING_S, Housekeeping, owned_folder
from ._writer import BATCH_BYTES, BATCH_COMMITS, CommitRequest, FreeSpace, Outcome, WriterBroken

EXIT_STOPPED = 0
EXIT_BROKEN = 74  # an input or output error, as numbered by sysexits
_DRAIN_S = 2.0
_LOG = logging.getLogger(__name__)


def run_storekeeper(
    path: Path,
    *,
    max_bytes: int | None = None,
    reserve_bytes: int = STORE_RESERVE_BYTES,
    ready: Callable[[], None],
    observer: Observer | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Serve writes to a data folder until the process is stopped.

    Returns the exit status.
    """
    place = socket_path_for(path)
    with ExitStack() as opened:
        folder = opened.enter_context(
            owned_folder(path, FreeSpace(max_bytes, reserve_bytes), SystemClock(), observer)
        )
        opened.callback(place.unlink, missing_ok=True)
        # This process has the lock on the folder, so a socket found there was left by a process
        # that ended.
        place.unlink(missing_ok=True)
        listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            listener.bind(str(place))
            place.chmod(0o600)
        except OSError as exc:
            raise StoreUnavailable(
                f"the store cannot be opened for writing: the socket {place} cannot be created"
            ) from exc
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_serve(folder, listener, ready))


async def _serve(folder: Housekeeping, listener: socket.socket, ready: Callable[[], None]) -> int:
    loop, keeper = asyncio.get_running_loop(), _Keeper(folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.stop, EXIT_STOPPED)
    server = await loop.create_unix_server(
        lambda: FrameConnection(
            MAX_REQUEST_BYTES,
            made=keeper.connections.add,
            received=keeper.take,
            lost=keeper.connections.discard,
        ),
        sock=listener,
    )
    keeper.do_housekeeping()
    ready()
    status = await keeper.stopped
    server.close()
    if status == EXIT_STOPPED:
        await keeper.drain()
    return status


class _Keeper:
    """The state of the process that writes to a data folder."""

    def __init__(self, folder: Housekeeping) -> None:
        self._folder = folder
        self._queue = deque[tuple[FrameConnection, Sequence[CommitRequest], int]]()
        self._is_due = False
        self.connections = set[FrameConnection]()
        self.stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(self, status: int) -> None:
        """Stop the process with an exit status.

        Only the first call has an effect.
        """
        if not self.stopped.done():
            self.stopped.set_result(status)

    def take(self, connection: FrameConnection, payload: memoryview) -> None:
        """Queue the commits in a worker's message.

        They are written after every socket that is readable now has been read.
        """
        self._queue.append((connection, parse_requests(payload), len(payload)))
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Write one batch of commits, and send the replies.

        It blocks the event loop on purpose: commits that arrive meanwhile form the next batch.
        """
        self._is_due = False
        # A batch contains whole frames, and at least one.
        batch = list[tuple[FrameConnection, Sequence[CommitRequest]]]()
        taken = size_bytes = 0
        while self._queue:
            connection, requests, requests_bytes = self._queue[0]
            taken, size_bytes = taken + len(requests), size_bytes + requests_bytes
            if batch and (taken > BATCH_COMMITS or size_bytes > BATCH_BYTES):
                break
            self._queue.popleft()
            batch.append((connection, requests))
        commits = [request for _, requests in batch for request in requests]
        try:
            # Workers check their commits too, but are not trusted.
            refusals = [_refusal(commit.commit) for commit in commits]
            good = [one for one, refusal in zip(commits, refusals, strict=True) if refusal is None]
            written = iter(self._folder.writer.apply(good) if good else ())
            outcomes: list[Outcome] = [refusal or next(written) for refusal in refusals]
        except WriterBroken:
            self._break()
            return
        except Exception:
            # Nothing was written. The commits are answered as invalid: if the process ended
            # instead, the workers would send the same commit again, and it would end again.
            _LOG.exception("a batch of commits failed")
            outcomes = [CommitInvalid("the writer failed") for _ in commits]
        answers = dict[FrameConnection, list[CommitReply]]()
        found = iter(outcomes)
        for connection, requests in batch:
            answers.setdefault(connection, []).extend(
                [reply_of(request.number, next(found)) for request in requests]
            )
        for connection, answered in answers.items():
            if not connection.transport.is_closing():
                connection.transport.write(reply_frame(answered))
        self._schedule()

    def _break(self) -> None:
        """Abort all connections, and end the process.

        No more commits are acknowledged. Workers resend commits that had no reply to the next
        storekeeper process, which replies with their outcomes.
        """
        self._queue.clear()
        for connection in self.connections:
            connection.transport.abort()
        self.stop(EXIT_BROKEN)

    async def drain(self) -> None:
        """Write all queued commits, then close the connections to workers."""
        while self._queue:
            self._work()
        for connection in list(self.connections):
            connection.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self.connections:
                    await asyncio.gather(*[connection.closed for connection in self.connections])

    def do_housekeeping(self) -> None:
        """Clean up the data folder now and every minute."""
        try:
            self._folder.do_housekeeping()
        except WriterBroken:
            self._break()
            return
        asyncio.get_running_loop().call_later(HOUSEKEEPING_S, self.do_housekeeping)


def _refusal(commit: Commit) -> CommitInvalid | CommitTooLarge | None:
    try:
        check_commit(commit)
    except (CommitInvalid, CommitTooLarge) as exc:
        return exc
    return None
