"""A worker's connection to the storekeeper: many commits in flight at once, and outcomes recovered
after a loss.

Each commit carries 16 random bytes that name it. When the connection breaks, every unanswered
commit is sent again unchanged to the storekeeper that listens then, which finds under that name
whether it happened (ST4).
"""

import asyncio
import os
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

from msgspec import Struct

from capabilities.clock_and_entropy import Clock

from ...space_errors import StoreBusy, StoreError, StoreUnavailable
from ..contract import Commit, Committed, Refused
from ._frames import MAX_ANSWER_BYTES, FrameConnection, ask_frames, encode_ask, parse_answers
from ._writer import CommitRequest

RECONNECT_WITHIN_S: Final = 2.0
ANSWER_WITHIN_S: Final = 10.0
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
# How long an outcome can be queried; the connection is given up long before.
_OUTCOME_KEPT_S: Final = 120
_FIRST_DELAY_S: Final = 0.005
_LONGEST_DELAY_S: Final = 0.2
_WATCH_S: Final = 1.0
_NAMES: Final = 1 << 128


class _Waiting(Struct, frozen=True):
    ask: bytes
    future: "asyncio.Future[Committed | Refused]"
    since: float


class StoreConnection:
    """The connection of one worker; belongs to the event loop of its first commit."""

    def __init__(self, socket_path: Path, clock: Clock) -> None:
        self._socket_path = socket_path
        self._clock = clock
        self._waiting: dict[int, _Waiting] = {}
        self._waiting_bytes = 0
        self._outbox: list[bytes] = []
        self._number = 0
        self._first_name = int.from_bytes(os.urandom(16), "big")
        self._line: FrameConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Send a checked commit and wait for its outcome; see `Store.commit`."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreBusy("too many bytes wait for the storekeeper")
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        # The permanent names of commits count up from a random start: no other link has the same.
        idempotency_key = ((self._first_name + number) % _NAMES).to_bytes(16, "big")
        ask = encode_ask(
            CommitRequest(number, idempotency_key, int(self._clock.now()) + _OUTCOME_KEPT_S, commit)
        )
        future: asyncio.Future[Committed | Refused] = loop.create_future()
        self._waiting[number] = _Waiting(ask, future, loop.time())
        self._waiting_bytes += len(ask)
        if self._watch is None:
            self._watch = loop.call_later(_WATCH_S, self._look, loop)
        if self._line is None:
            self._connect()
        else:
            if not self._outbox:  # one frame for all commits of one iteration of the loop
                loop.call_soon(self._flush)
            self._outbox.append(ask)
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
        if self._line is not None:
            self._line.transport.abort()
            await self._line.closed

    def _flush(self) -> None:
        if self._outbox and self._line is not None:
            self._line.transport.writelines(ask_frames(self._outbox))
        self._outbox.clear()

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RECONNECT_WITHIN_S
        delay_s = _FIRST_DELAY_S
        try:
            while True:
                with suppress(OSError):
                    await loop.create_unix_connection(
                        lambda: FrameConnection(
                            MAX_ANSWER_BYTES,
                            made=self._made,
                            received=self._answered,
                            lost=self._lost,
                        ),
                        str(self._socket_path),
                    )
                # a line may be lost as soon as something is written to it
                if self._line is not None:
                    return
                # Checked after an attempt, so that a process that was delayed itself tries once
                # more.
                if loop.time() >= give_up_at:
                    self._fail("the storekeeper does not answer")
                    return
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        finally:
            self._connecting = None

    def _made(self, line: FrameConnection) -> None:
        """Send every unanswered commit, in the original order."""
        self._line = line
        self._outbox.clear()
        if self._waiting:
            line.transport.writelines(
                ask_frames([waiting.ask for waiting in self._waiting.values()])
            )

    def _lost(self, _: FrameConnection) -> None:
        """Reconnect to the storekeeper while a caller waits."""
        self._line = None
        self._outbox.clear()
        if self._waiting and not self._closed:
            self._connect()

    def _answered(self, _: FrameConnection, payload: memoryview) -> None:
        """Pass outcomes to the callers that wait for them."""
        for answer in parse_answers(payload):
            waiting = self._waiting.pop(answer.number, None)
            if waiting is None:
                continue
            self._waiting_bytes -= len(waiting.ask)
            if waiting.future.done():  # the caller was cancelled
                continue
            outcome = answer.outcome()
            if isinstance(outcome, StoreError):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up on commits that were sent too long ago: one timer for all of them, not one for
        each."""
        self._watch = None
        self._fail("the storekeeper takes too long", asked_before=loop.time() - ANSWER_WITHIN_S)
        if self._waiting and not self._closed:
            self._watch = loop.call_later(_WATCH_S, self._look, loop)

    def _fail(self, reason: str, *, asked_before: float = inf) -> None:
        for number, waiting in list(self._waiting.items()):
            if waiting.since < asked_before:
                del self._waiting[number]
                self._waiting_bytes -= len(waiting.ask)
                if not waiting.future.done():
                    waiting.future.set_exception(StoreUnavailable(reason))
