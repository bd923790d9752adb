"""The writer of a folder on a thread of this process, for tests and for programs that embed a node.

Beside a busy event loop the thread starves because of the interpreter lock; a node with traffic writes in a process of
its own (`storekeeper`).
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from ...errors import StoreError, StoreUnavailable
from ..contract import Commit, Committed, Refused
from ._housekeeping import HOUSEKEEPING_S, Housekeeping
from ._writer import BATCH_COMMITS, Outcome, Sealed, Writer

_PendingCommit = tuple[Sealed, "Future[Committed | Refused]"]


class WriterThread:
    """Takes commits from event loops and writes them; those that arrive during a sync are the next batch."""

    def __init__(self, writer: Writer, housekeeping: Housekeeping) -> None:
        self._writer = writer
        self._housekeeping = housekeeping
        self._queue: queue.SimpleQueue[_PendingCommit | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write a checked commit; see `Store.commit`."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: Future[Committed | Refused] = Future()
        future.set_running_or_notify_cancel()  # it is written even if its caller is cancelled meanwhile
        self._queue.put((Sealed(commit, os.urandom(16)), future))
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Write the commits that were queued before, then end the thread."""
        self._closed = True
        self._queue.put(None)  # wakes the thread
        await asyncio.to_thread(self._thread.join)

    def _write(self) -> None:
        """Write queued commits, batch by batch, until the store is closed."""
        assert threading.current_thread() is self._thread  # never on the event loop
        next_housekeeping = 0.0
        while not self._closed or not self._queue.empty():
            if time.monotonic() >= next_housekeeping:
                next_housekeeping = time.monotonic() + HOUSEKEEPING_S
                with suppress(StoreUnavailable):  # the next commit meets the same error and reports it
                    self._housekeeping.do_housekeeping()
            batch = self._next_batch()
            for (_, future), outcome in zip(batch, self._outcomes(batch), strict=True):
                if isinstance(outcome, StoreError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _next_batch(self) -> list[_PendingCommit]:
        """Wait for a commit, and take all others that are queued; the batch may be empty."""
        taken: list[_PendingCommit | None] = []
        with suppress(queue.Empty):
            taken.append(self._queue.get(timeout=HOUSEKEEPING_S))
            while len(taken) < BATCH_COMMITS:
                taken.append(self._queue.get_nowait())
        return [asked for asked in taken if asked is not None]

    def _outcomes(self, batch: Sequence[_PendingCommit]) -> list[Outcome]:
        try:
            return self._writer.apply([sealed for sealed, _ in batch]) if batch else []
        except StoreUnavailable as exc:
            return [exc] * len(batch)
        except Exception as exc:  # a mistake of ours must reach the caller, not hang it
            failed = StoreUnavailable("the writer failed")
            failed.__cause__ = exc
            return [failed] * len(batch)
