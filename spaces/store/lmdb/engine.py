"""The LMDB engine: `open_lmdb` writes from a thread of this process, `connect_lmdb` through the storekeeper.

Reads are inline on the event loop in both. A writer thread starves beside a busy loop (the interpreter lock), so a node
with traffic uses a storekeeper; the thread is for tests and for programs that embed a node.

What the store may hold is bounded by `max_bytes` (pages in use) and by a reserve of free disk; beyond either, commits
raise StoreFull and reads go on. Small commits (at most 4 KiB: a revocation, a delete) are taken a little longer.

Striped counters (ST7) are not needed here: one process judges every commit, so each counter is one exact row.

Example:
    store = open_lmdb(Path("data"))
    try: ...
    finally: await store.close()
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from capabilities.ambient import Clock, SystemClock

from ...errors import StoreError, StoreUnavailable
from ..contract import Claim, Commit, Committed, Follow, Range, Refused, Snapshot, Store, check_commit
from ._folder import FolderLock, open_for_reading, open_for_writing, socket_path_for
from ._housekeeping import HOUSEKEEPING_S, Housekeeping
from ._link import Link
from ._reader import Reader
from ._replay_records import FirstUses, boot_id, discard_other_boots
from ._writer import BATCH_COMMITS, Outcome, Room, Sealed, Writer


def open_lmdb(
    path: Path, *, max_bytes: int | None = None, reserve_bytes: int = 64 * 1024 * 1024, clock: Clock | None = None
) -> Store:
    """Open a data folder for reading and writing in this process.

    Args:
        path: the data folder; made when it does not exist.
        max_bytes: bound on the pages in use; None: only the disk bounds.
        reserve_bytes: free disk that is left alone.
        clock: decides which claims are old; the system's when None.
    Raises:
        StoreLocked: another process writes this folder.
        StoreUnavailable: the environment does not open.
    """
    return _EmbeddedStore(path, Room(max_bytes=max_bytes, reserve_bytes=reserve_bytes), clock or SystemClock())


def connect_lmdb(path: Path, socket_path: Path | None = None, *, clock: Clock | None = None) -> Store:
    """Open a data folder whose writing a storekeeper owns; what workers do, once each.

    Args:
        path: the data folder; the storekeeper was ready once.
        socket_path: where it listens; None: in the folder, or in its short place.
        clock: names the minute under which outcomes are kept; the system's when None.
    Raises:
        StoreUnavailable: the folder holds no store yet, or one that only an earlier version has written.
    """
    return _WorkerStore(path, socket_path or socket_path_for(path), clock or SystemClock())


def read_lmdb(path: Path) -> Store:
    """Open the store of a data folder for reading alone, also one that was moved; nothing may run on the folder (ST12).

    Raises:
        StoreUnavailable: the folder holds no store, or one that only an earlier version has written.
        SchemaMismatch: a later version wrote it.
    """
    return _ReadStore(path)


class _ReadStore:
    """Reads inline; takes neither claims nor commits."""

    def __init__(self, folder: Path) -> None:
        with ExitStack() as opened:
            env = open_for_reading(folder, may_be_moved=True)
            opened.callback(env.close)
            first_uses = FirstUses(folder, boot_id())
            opened.callback(first_uses.close)
            self._reader = Reader(env, first_uses)
            self._opened = opened.pop_all()

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        claim: Claim | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        if claim is not None:
            raise StoreUnavailable("the store is open for reading alone")
        return self._reader.read(keys, None, ranges, follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        raise StoreUnavailable("the store is open for reading alone")

    async def close(self) -> None:
        self._opened.close()


class _WorkerStore:
    """Reads inline, a storekeeper that writes."""

    def __init__(self, folder: Path, socket_path: Path, clock: Clock) -> None:
        with ExitStack() as opened:
            env = open_for_reading(folder)
            opened.callback(env.close)
            first_uses = FirstUses(folder, boot_id())
            opened.callback(first_uses.close)
            self._reader = Reader(env, first_uses)
            self._opened = opened.pop_all()
        self._link = Link(socket_path, clock)
        self._closed = False

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        claim: Claim | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._reader.read(keys, claim, ranges, follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        check_commit(commit)
        return await self._link.commit(commit)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._link.close()
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _Asked:
    sealed: Sealed
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Committed | Refused]"


class _EmbeddedStore:
    """Reads inline, a thread that writes."""

    def __init__(self, folder: Path, room: Room, clock: Clock) -> None:
        with ExitStack() as opened:
            opened.callback(FolderLock(folder).close)
            boot = boot_id()
            discard_other_boots(folder, boot)
            env = open_for_writing(folder)
            opened.callback(env.close)
            self._first_uses = FirstUses(folder, boot)
            opened.callback(self._first_uses.close)
            self._reader = Reader(env, self._first_uses)
            self._opened = opened.pop_all()
        self._clock = clock
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, args=(Writer(env, room, clock),), daemon=True)
        self._thread.start()

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        claim: Claim | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._reader.read(keys, claim, ranges, follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        check_commit(commit)
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed | Refused] = loop.create_future()
        self._queue.put(_Asked(Sealed(commit, os.urandom(16)), loop, future))
        return await future

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._opened.close()

    def _write(self, writer: Writer) -> None:
        """Write what was asked, batch by batch, until None comes."""
        assert threading.current_thread() is self._thread  # never on the event loop
        housekeeping = Housekeeping(writer, self._first_uses, self._clock)
        next_housekeeping = 0.0
        while True:
            if time.monotonic() >= next_housekeeping:
                next_housekeeping = time.monotonic() + HOUSEKEEPING_S
                with suppress(StoreUnavailable):  # the next commit meets the same error and answers with it
                    housekeeping.keep_house()
            batch = self._next_batch()
            if batch is None:
                return
            if batch:
                _answer(batch, _outcomes(writer, batch))

    def _next_batch(self) -> list[_Asked] | None:
        """Wait for something to write, take what else is there; empty when nothing came, None at the end."""
        try:
            asked = self._queue.get(timeout=HOUSEKEEPING_S)
        except queue.Empty:
            return []
        batch: list[_Asked] = []
        while asked is not None:
            batch.append(asked)
            if len(batch) == BATCH_COMMITS or self._queue.empty():
                return batch
            asked = self._queue.get()
        if not batch:
            return None
        self._queue.put(None)
        return batch


def _outcomes(writer: Writer, batch: Sequence[_Asked]) -> list[Outcome]:
    try:
        return writer.apply([asked.sealed for asked in batch])
    except StoreUnavailable as exc:
        return [exc] * len(batch)
    except Exception as exc:  # a mistake of ours must reach the caller, not hang it
        failed = StoreUnavailable("the writer failed")
        failed.__cause__ = exc
        return [failed] * len(batch)


def _answer(batch: Sequence[_Asked], outcomes: Sequence[Outcome]) -> None:
    answers: dict[asyncio.AbstractEventLoop, list[tuple[_Asked, Outcome]]] = {}
    for asked, outcome in zip(batch, outcomes, strict=True):
        answers.setdefault(asked.loop, []).append((asked, outcome))
    for loop, answered in answers.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: Sequence[tuple[_Asked, Outcome]]) -> None:
    for asked, outcome in answered:
        if asked.future.done():
            continue
        if isinstance(outcome, StoreError):
            asked.future.set_exception(outcome)
        else:
            asked.future.set_result(outcome)
