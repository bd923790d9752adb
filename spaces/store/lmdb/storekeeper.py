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
from typing import NamedTuple

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
    """Serve workers until the process is to stop, and return the exit status."""
    loop = asyncio.get_running_loop()
    keeper = _Keeper(folder)
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
    keeper.do_housekeeping()  # frees the reader slots that dead processes have left
    ready()
    status = await keeper.stopped
    server.close()
    if status == EXIT_STOPPED:
        await keeper.drain()
    return status


class _Message(NamedTuple):
    """A worker's message, with at least one request."""

    connection: FrameConnection
    requests: Sequence[CommitRequest]
    size_bytes: int


class _Keeper:
    """The state of the process that writes to a data folder."""

    def __init__(self, folder: Housekeeping) -> None:
        self._folder = folder
        self._queue: deque[_Message] = deque()
        self._is_due = False
        self.connections: set[FrameConnection] = set()
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
        message = _Message(
            connection=connection, requests=parse_requests(payload), size_bytes=len(payload)
        )
        self._queue.append(message)
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
        batch = self._next_batch()
        requests = [request for message in batch for request in message.requests]
        try:
            outcomes = self._apply(requests)
        except WriterBroken:
            self._break()
            return
        except Exception:
            # Nothing was written. The commits are answered as invalid: if the process ended
            # instead, the workers would send the same commit again, and it would end again.
            _LOG.exception("a batch of commits failed")
            outcomes = [CommitInvalid("the writer failed") for _ in requests]
        _reply(batch, outcomes)
        self._schedule()

    def _next_batch(self) -> list[_Message]:
        """Remove the messages of the next batch from the queue, and return them.

        The batch has as many messages as its limits allow, and at least one.
        """
        batch: list[_Message] = []
        commits = 0
        size_bytes = 0
        while self._queue:
            message = self._queue[0]
            commits += len(message.requests)
            size_bytes += message.size_bytes
            if batch and (commits > BATCH_COMMITS or size_bytes > BATCH_BYTES):
                break
            batch.append(self._queue.popleft())
        return batch

    def _apply(self, requests: Sequence[CommitRequest]) -> list[Outcome]:
        """Write the commits that are valid, and return the outcomes of all."""
        # Workers check their commits too, but are not trusted.
        refusals = [_refusal(request.commit) for request in requests]
        if all(refusal is None for refusal in refusals):
            return self._folder.writer.apply(requests)
        valid = [
            request for request, refusal in zip(requests, refusals, strict=True) if refusal is None
        ]
        written: Sequence[Outcome] = ()
        if valid:
            written = self._folder.writer.apply(valid)
        # Each request gets its refusal or, if it is valid, the next outcome of the writer.
        next_written = iter(written)
        outcomes: list[Outcome] = []
        for refusal in refusals:
            if refusal is None:
                outcomes.append(next(next_written))
            else:
                outcomes.append(refusal)
        return outcomes

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


def _reply(batch: Sequence[_Message], outcomes: Sequence[Outcome]) -> None:
    """Send the outcomes of a batch, in one frame for each connection.

    The outcomes are in the order of the batch's requests.
    """
    remaining = iter(outcomes)
    replies_by_connection: dict[FrameConnection, list[CommitReply]] = {}
    for message in batch:
        replies = replies_by_connection.setdefault(message.connection, [])
        for request in message.requests:
            replies.append(reply_of(request.number, next(remaining)))
    for connection, replies in replies_by_connection.items():
        if not connection.transport.is_closing():
            connection.transport.write(reply_frame(replies))
