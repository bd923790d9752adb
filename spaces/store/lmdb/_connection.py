"""A worker's connection to the process that writes the store.

That process is the storekeeper. Many commits can be in flight at once.

Each commit carries an idempotency key of 16 random bytes. When the connection breaks, every
unanswered commit is sent again unchanged to the storekeeper that listens then. It finds by the
key whether the commit happened (ST4).
"""

import asyncio
import os
from contextlib import suppress
from math import inf
from pathlib import Path

from capabilities.clock_and_entropy import SystemClock
from capabilities.frozen_struct import FrozenStruct

from ...space_errors import StoreBusy, StoreError, StoreUnavailable
from ..contract import Commit, Committed, Refused
from ._frames import MAX_REPLY_BYTES, FrameConnection, encode_request, parse_replies, request_frames
from ._writer import CommitRequest

RECONNECT_WITHIN_S = 2.0
ANSWER_WITHIN_S = 10.0
MAX_WAITING_BYTES = 64 * 1024 * 1024
# How long the outcome of a commit can be looked up. Callers stop waiting long before.
_OUTCOME_KEPT_S = 120
_FIRST_DELAY_S = 0.005
_LONGEST_DELAY_S = 0.2
_WATCH_S = 1.0
_KEYS = 1 << 128


class _Waiting(FrozenStruct):
    request: bytes
    future: "asyncio.Future[Committed | Refused]"
    since: float


class StoreConnection:
    """A worker's connection to the writer process, for sending commits.

    All commits must use the same event loop.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._waiting: dict[int, _Waiting] = {}
        self._waiting_bytes = 0
        self._outbox: list[bytes] = []
        self._number = 0
        self._first_key = int.from_bytes(os.urandom(16), "big")
        self._connection: FrameConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Send a commit, and wait for its outcome.

        The caller has validated the commit (see `Store.commit`).
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreBusy("too many bytes are waiting to be written to the store")
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        # The keys count up from a random start, so no other connection uses the same ones.
        idempotency_key = ((self._first_key + number) % _KEYS).to_bytes(16, "big")
        request = encode_request(
            CommitRequest(
                number=number,
                idempotency_key=idempotency_key,
                key_expires_at=int(SystemClock.now()) + _OUTCOME_KEPT_S,
                commit=commit,
            )
        )
        future: asyncio.Future[Committed | Refused] = loop.create_future()
        self._waiting[number] = _Waiting(request=request, future=future, since=loop.time())
        self._waiting_bytes += len(request)
        if self._watch is None:
            self._watch = loop.call_later(_WATCH_S, self._fail_overdue, loop)
        if self._connection is None:
            self._connect()  # `_made` then sends all waiting commits
        else:
            if not self._outbox:  # one frame for all commits of one iteration of the loop
                loop.call_soon(self._flush)
            self._outbox.append(request)
        return await future

    async def close(self) -> None:
        """Close the connection, and wait until it is closed."""
        self._closed = True
        self._fail("the store is closed")
        if self._watch is not None:
            self._watch.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.transport.abort()
            await self._connection.closed

    def _flush(self) -> None:
        if self._outbox and self._connection is not None:
            self._connection.transport.writelines(request_frames(self._outbox))
        self._outbox.clear()

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        """Open a connection, with retries. After a time limit, fail the waiting commits."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RECONNECT_WITHIN_S
        delay_s = _FIRST_DELAY_S
        try:
            while True:
                with suppress(OSError):
                    await loop.create_unix_connection(
                        lambda: FrameConnection(
                            MAX_REPLY_BYTES,
                            made=self._made,
                            received=self._answered,
                            lost=self._lost,
                        ),
                        str(self._socket_path),
                    )
                # `_made` sends the waiting commits, which can break the new connection at once.
                if self._connection is not None:
                    return
                # Checked after the attempt, so that a process that was itself delayed tries once
                # more.
                if loop.time() >= give_up_at:
                    self._fail("the process that writes the store does not respond")
                    return
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        finally:
            self._connecting = None

    def _made(self, connection: FrameConnection) -> None:
        """Resend the unanswered commits over a new connection.

        The commits are sent in their original order.
        """
        self._connection = connection
        self._outbox.clear()  # its commits are among the waiting ones
        if self._waiting:
            connection.transport.writelines(
                request_frames([waiting.request for waiting in self._waiting.values()])
            )

    def _lost(self, _: FrameConnection) -> None:
        """Reconnect if callers are still waiting for replies."""
        self._connection = None
        self._outbox.clear()
        if self._waiting and not self._closed:
            self._connect()

    def _answered(self, _: FrameConnection, payload: memoryview) -> None:
        """Pass the outcomes of commits to the waiting callers."""
        for reply in parse_replies(payload):
            waiting = self._waiting.pop(reply.number, None)
            if waiting is None:
                continue
            self._waiting_bytes -= len(waiting.request)
            if waiting.future.done():  # the caller was cancelled
                continue
            outcome = reply.outcome()
            if isinstance(outcome, StoreError):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _fail_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail all commits that have waited too long for a reply.

        One timer serves all commits.
        """
        self._watch = None
        self._fail(
            "the commit timed out: the process that writes the store did not respond",
            sent_before=loop.time() - ANSWER_WITHIN_S,
        )
        if self._waiting and not self._closed:
            self._watch = loop.call_later(_WATCH_S, self._fail_overdue, loop)

    def _fail(self, reason: str, *, sent_before: float = inf) -> None:
        """Fail the waiting commits that were sent before a given time; by default, all of them."""
        for number, waiting in list(self._waiting.items()):
            if waiting.since < sent_before:
                del self._waiting[number]
                self._waiting_bytes -= len(waiting.request)
                if not waiting.future.done():
                    waiting.future.set_exception(StoreUnavailable(reason))
