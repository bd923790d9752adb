"""The store engine that uses LMDB.

`open_lmdb` writes from a thread of this process, `connect_lmdb` through a separate process, the
storekeeper. With both, reads run inline on the event loop.

The size of the store is limited by `max_bytes` (pages in use) and by a reserve of free disk space.
Beyond either, commits raise StoreFull and reads continue. Small commits, key releases and
revocations are accepted longer (ST17).

Striped counters (ST7) are not needed here: one process judges every commit, so each counter is one
exact row.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import lmdb

from capabilities.clock_and_entropy import Clock, SystemClock

from ...space_errors import StoreError, StoreUnavailable
from ..contract import (
    Commit,
    Committed,
    Follow,
    Page,
    Range,
    Record,
    Refused,
    ReplayRecord,
    Snapshot,
    Store,
    check_commit,
    check_read,
)
from ..durable import STORE_RESERVE_BYTES
from ._connection import StoreConnection
from ._folder import open_for_reading
from ._folder import refuse_restoring as refuse_restoring
from ._folder import socket_path_for as socket_path_for
from ._format import open_positions, open_table
from ._housekeeping import HOUSEKEEPING_S, Housekeeping, owned_folder
from ._reader import durable_first_use, followed_key, read_range
from ._replay_records import ReplayRecords, boot_id
from ._rows import Row, records_of
from ._writer import BATCH_COMMITS, CommitRequest, FreeSpace, Outcome

_PendingCommit = tuple[CommitRequest, "Future[Committed | Refused]"]


# This class is for tests and for programs that embed a node. Beside a busy event loop the thread
# starves, because both share the interpreter lock. So a node with traffic writes in a separate
# process (`storekeeper`).
class WriterThread:
    """A thread that writes commits to LMDB.

    Commits can be submitted from any event loop. Those that arrive during a sync form the next
    batch.
    """

    def __init__(self, folder: Housekeeping) -> None:
        self._folder = folder
        self._queue: deque[_PendingCommit] = deque()
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._next_housekeeping = 0.0
        self._thread.submit(self._write)  # the queue is empty, so it only does the housekeeping

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write a commit, and return its outcome.

        The caller has validated the commit (see `Store.commit`).
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: Future[Committed | Refused] = Future()
        # The commit is written even if its caller is cancelled.
        future.set_running_or_notify_cancel()
        request = CommitRequest(
            number=0, idempotency_key=os.urandom(16), key_expires_at=0, commit=commit
        )
        self._queue.append((request, future))
        self._thread.submit(self._write)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Write the queued commits, then end the thread."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _write(self) -> None:
        """Write a batch of queued commits and deliver their outcomes, then do housekeeping if due.

        This method is submitted once for each commit. If an earlier call took the commit into its
        batch, the queue may be empty, and nothing is written.
        """
        batch = self._next_batch()
        requests = [request for request, _ in batch]
        outcomes: list[Outcome] = []
        try:
            if requests:
                outcomes = self._folder.writer.apply(requests)
        except StoreUnavailable as exc:
            outcomes = [exc] * len(batch)
        except Exception as exc:  # a bug must reach the caller, who would otherwise wait for ever
            failed = StoreUnavailable("the writer failed")
            failed.__cause__ = exc
            outcomes = [failed] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        # After the outcomes were delivered, so that an error here does not affect them.
        if time.monotonic() >= self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + HOUSEKEEPING_S
            with suppress(StoreUnavailable):  # the next commit gets the same error
                self._folder.do_housekeeping()

    def _next_batch(self) -> list[_PendingCommit]:
        """Take commits from the queue, at most BATCH_COMMITS."""
        batch: list[_PendingCommit] = []
        while self._queue and len(batch) < BATCH_COMMITS:
            batch.append(self._queue.popleft())
        return batch


def open_lmdb(
    path: Path,
    *,
    max_bytes: int | None = None,
    reserve_bytes: int = STORE_RESERVE_BYTES,
    clock: Clock | None = None,
) -> Store:
    """Open an LMDB store for reading and writing.

    This process writes the store itself.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(
            owned_folder(path, FreeSpace(max_bytes, reserve_bytes), clock or SystemClock())
        )
        return _LmdbStore(
            folder.writer.env,
            replay_records=folder.replay_records,
            writer=WriterThread(folder),
            opened=opened.pop_all(),
        )


def connect_lmdb(path: Path, socket_path: Path | None = None) -> Store:
    """Open an LMDB store whose writer is another process.

    Commits go to that process, the storekeeper. Each worker calls this once.
    """
    with ExitStack() as opened:
        env = opened.enter_context(open_for_reading(path))
        replay_records = ReplayRecords(path, boot_id())
        opened.callback(replay_records.close)
        connection = StoreConnection(socket_path or socket_path_for(path))
        return _LmdbStore(
            env, replay_records=replay_records, writer=connection, opened=opened.pop_all()
        )


def read_lmdb(path: Path, *, may_be_moved: bool = False) -> Store:
    """Open an LMDB store read-only.

    Another process may be writing to it.

    Args:
        path: the data folder.
        may_be_moved: also open a store that was moved; it can only be read (ST12).

    Raises:
        StoreMoved: the store was moved, and `may_be_moved` is False.
        StoreUnavailable: the folder contains no store, or one that only an earlier version has
            written.
        SchemaMismatch: another version wrote it.
    """
    with ExitStack() as opened:
        env = opened.enter_context(open_for_reading(path, may_be_moved=may_be_moved))
        return _LmdbStore(env, replay_records=None, writer=None, opened=opened.pop_all())


def environment_of(store: Store) -> lmdb.Environment:
    """Return the LMDB environment of an open store."""
    if not isinstance(store, _LmdbStore):
        raise StoreUnavailable("the store does not use LMDB")
    return store.env


class _LmdbStore:
    """A store that uses LMDB.

    Reads run inline, and commits go through a writer.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        *,
        replay_records: ReplayRecords | None,
        writer: WriterThread | StoreConnection | None,
        opened: ExitStack,
    ) -> None:
        """Create a store on an open environment.

        Args:
            env: the environment.
            replay_records: None if the store is read-only.
            writer: None if the store is read-only.
            opened: closes everything that was opened for this store.
        """
        self.env = env
        self._replay_records = replay_records
        self._writer = writer
        self._opened = opened
        self._closed = False
        self._tombstones = open_table(env)
        self._positions = open_positions(env)

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        check_read(keys, replay_record, ranges, follow)
        if ranges and self._positions is None:
            # The process that writes may have created the table since.
            self._positions = open_positions(self.env)
        is_first_use: bool | None = None
        is_use_unknown = False
        use = b""  # the row of the replay record
        if replay_record is not None:
            use = replay_record.row
            # Written before the transaction begins. So the transaction sees every commit that was
            # acknowledged before a second use of the token was refused.
            is_first_use, is_use_unknown = self._record_use(use)
        try:
            # Each read has its own transaction, which sees every commit acknowledged before now
            # (ST1). No transaction spans an await.
            with self.env.begin() as txn:
                # A commit may have recorded the use durably, possibly before the machine restarted.
                if is_first_use:
                    is_first_use, is_use_unknown = durable_first_use(txn, use)
                get, tombstones = txn.get, self._tombstones
                # A row hides the tombstone of its key.
                records = records_of([get(key) or get(key, None, tombstones) for key in keys])
                pages: tuple[Page, ...] = ()
                if ranges:
                    positions = self._positions
                    pages = tuple([read_range(txn, range_, positions) for range_ in ranges])
                followed = self._followed(txn, follow) if follow is not None else ()
        except lmdb.Error as exc:
            raise StoreUnavailable("the store cannot be read") from exc
        return Snapshot(
            is_first_use=is_first_use,
            records=records,
            pages=pages,
            followed=followed,
            is_use_unknown=is_use_unknown,
        )

    def _record_use(self, row: bytes) -> tuple[bool, bool]:
        """Record the use of a token.

        `row` is that of its replay record. Returns `is_first_use` and `is_use_unknown` for the
        `Snapshot`, without the durable replay records.
        """
        if self._replay_records is None:
            raise StoreUnavailable("the store is open read-only")
        if self._replay_records.add(row):
            return True, False
        return False, self._replay_records.is_minute_refused(row)

    def _followed(
        self, txn: "lmdb.Transaction[bytes]", follow: Follow
    ) -> tuple[Record | None, ...]:
        """Return the rows that the rows to follow lead to."""
        get = txn.get
        rows: list[Row | None] = []
        for first_key in follow.keys:
            key = followed_key(get(first_key), follow)
            if key is None:
                rows.append(None)
            else:
                rows.append(get(key) or get(key, None, self._tombstones))
        return records_of(rows)

    async def commit(self, commit: Commit) -> Committed | Refused:
        check_commit(commit)
        if self._writer is None:
            raise StoreUnavailable("the store is open read-only")
        return await self._writer.commit(commit)

    def last_commit(self) -> int:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        last_commit: int = self.env.info()["last_txnid"]
        return last_commit

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            await self._writer.close()
        self._opened.close()
