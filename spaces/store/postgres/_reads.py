"""Batched reads from PostgreSQL.

One SQL statement serves all reads of an event loop iteration. A read with ranges is sent alone, so
that no point read waits for a long page. While every connection is busy, reads queue up. A
statement that starts later sees at least as much (ST1).
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX
from ...space_errors import StoreBusy, StoreError, StoreUnavailable
from ..contract import (
    COUNTER_BYTES,
    MAX_PAGE_BYTES,
    MAX_PAGE_SCAN,
    MAX_READ_KEYS,
    Follow,
    Page,
    Range,
    Record,
    ReplayRecord,
    Snapshot,
    check_read,
)
from ..sequences import NUMBER_BYTES
from ._errors import CONNECTION_ERRORS, ErrorGroup, error_group_of, store_error_of
from ._pool import RECONNECT_WITHIN_S, Argument, Connections, pause
from ._statements import FIRST_PAGE_PART, REPLAY_RECORD_PART, RangeKind, read_statement

READ_CONNECTIONS = 2
_BATCH_READS = 512


class _PendingRead(NamedTuple):
    """A read that waits or runs, with the arguments of `Store.read`.

    Attributes:
        idempotency_key: recognises this read's replay record if the reply gets lost.
        answer: gets the result.
    """

    keys: tuple[bytes, ...]
    replay_record: ReplayRecord | None
    ranges: tuple[Range, ...]
    follow: Follow | None
    idempotency_key: bytes
    answer: "asyncio.Future[Snapshot]"

    @property
    def row_count(self) -> int:
        """The most rows that it looks up by key."""
        followed_count = 0 if self.follow is None else len(self.follow.keys)
        return len(self.keys) + 2 * followed_count  # each followed key leads to a second row


class Reads:
    """A queue that sends reads to the database in batches."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._queue: list[_PendingRead] = []
        self._is_task_starting = False  # a task was created that has not begun to run
        self._running = 0  # tasks that read, each over one connection
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(
        self,
        keys: Sequence[bytes],
        replay_record: ReplayRecord | None,
        ranges: Sequence[Range],
        follow: Follow | None,
    ) -> Snapshot:
        """Queue a read, and wait for its result.

        If `replay_record` is given, the use of the token is recorded too (see `Store.read`).
        """
        check_read(keys, replay_record, ranges, follow)
        loop = asyncio.get_running_loop()
        idempotency_key = b"" if replay_record is None else os.urandom(16)
        pending = _PendingRead(
            keys=tuple(keys),
            replay_record=replay_record,
            ranges=tuple(ranges),
            follow=follow,
            idempotency_key=idempotency_key,
            answer=loop.create_future(),
        )
        self._queue.append(pending)
        self._start_task(loop)
        return await pending.answer

    async def close(self) -> None:
        """Fail the queued reads, and wait for running reads.

        The connections must be closed already.
        """
        for pending in self._queue:
            _fail(pending, StoreUnavailable("the store is closed"))
        self._queue.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_task(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a task that reads, unless one is starting or no connection is free."""
        if self._is_task_starting or self._running == READ_CONNECTIONS:
            return
        self._is_task_starting = True
        self._running += 1
        task = loop.create_task(self._send_batches())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_batches(self) -> None:
        """Send queued reads in batches until the queue is empty."""
        self._is_task_starting = False
        try:
            while self._queue:
                batch = self._take_batch()
                if self._queue:  # the other reads need not wait for this statement
                    self._start_task(asyncio.get_running_loop())
                try:
                    rows = await self._run_batch(batch)
                    for pending, snapshot in _snapshots(rows, batch):
                        if not pending.answer.done():  # otherwise the caller was cancelled
                            pending.answer.set_result(snapshot)
                except Exception as exc:  # a bug must reach callers, who would wait for ever
                    for pending in batch:
                        _fail(pending, exc)
        finally:
            self._running -= 1

    def _take_batch(self) -> list[_PendingRead]:
        """Remove the next batch of reads from the queue, and return it.

        The first read is taken whatever it asks for. A read with ranges gets its own statement. A
        statement follows rows under one prefix only, so reads with another prefix wait for the next
        statement.
        """
        batch: list[_PendingRead] = []
        row_count = 0
        prefix: bytes | None = None
        for pending in self._queue[:_BATCH_READS]:
            row_count += pending.row_count
            has_other_prefix = False
            if pending.follow is not None:
                prefix = prefix or pending.follow.prefix
                has_other_prefix = pending.follow.prefix != prefix
            fits = not pending.ranges and row_count <= MAX_READ_KEYS and not has_other_prefix
            if batch and not fits:
                break
            batch.append(pending)
            if pending.ranges:
                break
        self._queue = self._queue[len(batch) :]
        return batch

    async def _run_batch(self, batch: Sequence[_PendingRead]) -> "list[asyncpg.Record]":
        """Run the SQL statement for a batch of reads, with retries, and return its rows.

        The statement is retried after a deadlock or a lost connection. It then has the same
        idempotency keys, so no replay record counts twice.
        """
        statement, arguments = _statement_for(batch)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RECONNECT_WITHIN_S
        while True:
            # An attempt that began in time is repeated, however long it waited for a lock.
            is_late = loop.time() >= give_up_at
            try:
                return await self._connections.run(statement, arguments)
            except CONNECTION_ERRORS as exc:
                error = _final_error(exc, is_late=is_late)
                if error is not None:
                    raise error from None
                await pause()


def _final_error(exc: Exception, *, is_late: bool) -> StoreError | None:
    """Return the error that ends the attempts to read, or None to try again.

    Args:
        exc: the error of the latest attempt.
        is_late: whether the latest attempt was the last one.
    """
    group = error_group_of(exc)
    if isinstance(exc, TimeoutError):
        return StoreUnavailable("the read from the database timed out")
    if group not in (ErrorGroup.REPEAT, ErrorGroup.LOST):
        return store_error_of(exc)
    if not is_late:
        return None
    if group is ErrorGroup.REPEAT:
        return StoreBusy("the read timed out after repeated conflicts with other transactions")
    return StoreUnavailable("the connection to the database was lost repeatedly")


def _fail(pending: _PendingRead, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)


@dataclass(slots=True)
class _BatchContents:
    """What all reads of a batch ask for together.

    Attributes:
        keys: of rows, without those of `followed_keys`.
        replay_records: by the row of a replay record, the idempotency key of the read that is its
            first use.
        followed_keys: of the rows whose values are the ends of the keys of other rows.
        prefix: of the keys of those other rows; empty if there are none.
        ranges: in the order of the reads.
    """

    keys: set[bytes] = field(default_factory=set)
    replay_records: dict[bytes, bytes] = field(default_factory=dict)
    followed_keys: set[bytes] = field(default_factory=set)
    prefix: bytes = b""
    ranges: list[Range] = field(default_factory=list)

    def add(self, pending: _PendingRead) -> None:
        """Add a read to the batch."""
        self.keys.update(pending.keys)
        self.ranges += pending.ranges
        if pending.replay_record is not None:
            row = pending.replay_record.row
            # two reads of one statement may have the same record: the earlier is the first use
            self.replay_records.setdefault(row, pending.idempotency_key)
            self.keys.update((REPLAY_FLOOR_KEY, REPLAY_PREFIX + row))
        if pending.follow is not None:
            self.followed_keys.update(pending.follow.keys)
            self.prefix = pending.follow.prefix

    def arguments(self) -> list[Argument]:
        """Return the arguments of the statement, in the order of `read_statement`."""
        arguments: list[Argument] = [list(self.keys | self.followed_keys)]
        if self.replay_records:
            arguments += [list(self.replay_records.keys()), list(self.replay_records.values())]
        if self.followed_keys:
            arguments += [list(self.followed_keys), self.prefix]
        for range_ in self.ranges:
            start, end = range_.bounds
            limit = range_.limit + 1  # one row more than wanted shows whether others follow
            if range_.by_number:
                # The page begins after a position and the key of a row. Nothing is listed under a
                # position without a number, so the sequence itself comes before all of them.
                after = range_.after or range_.prefix
                position_end = len(range_.prefix) + NUMBER_BYTES
                arguments += [after[:position_end], after[position_end:], end, limit]
            else:
                arguments += [start, end, limit]
        return arguments


def _statement_for(batch: Sequence[_PendingRead]) -> tuple[str, list[Argument]]:
    """Return the SQL statement for a batch of reads, and its arguments."""
    contents = _BatchContents()
    for pending in batch:
        contents.add(pending)
    statement = read_statement(
        with_replay_records=bool(contents.replay_records),
        with_follow=bool(contents.followed_keys),
        ranges=tuple([_kind_of(range_) for range_ in contents.ranges]),
    )
    return statement, contents.arguments()


def _kind_of(range_: Range) -> RangeKind:
    """Return which kind of SQL reads a range."""
    if range_.by_number:
        return "by number"
    return "keys" if range_.keys_only else "rows"


class _ExaminedRow(NamedTuple):
    """A row of a range.

    Attributes:
        place: its place among all examined rows of the range, tombstones included, from 1.
    """

    key: bytes
    record: Record
    place: int


def _snapshots(
    rows: "Iterable[asyncpg.Record]", batch: Sequence[_PendingRead]
) -> Iterator[tuple[_PendingRead, Snapshot]]:
    """Yield each read of a batch with its result, from the rows of the statement."""
    records: dict[bytes, Record] = {}
    first_uses: set[bytes] = set()  # replay records that this statement wrote
    examined_rows: dict[int, list[_ExaminedRow]] = {}  # by the number of the range
    # The columns of `read_statement`; the part says what the row is.
    for part, key, stamp, value, number, place, position in rows:
        if part == REPLAY_RECORD_PART:
            first_uses.add(key)
            continue
        record = Record(value=value_of(value, number), stamp=stamp, position=position or b"")
        if part < FIRST_PAGE_PART:
            records[key] = record
        else:
            row = _ExaminedRow(key=key, record=record, place=place)
            examined_rows.setdefault(part - FIRST_PAGE_PART, []).append(row)
    for pending in batch:
        use = _use_of(pending.replay_record, records, first_uses)
        # A read with ranges is alone in its batch, so all ranges of the statement belong to it.
        pages = [
            _page(range_, examined_rows.get(number, []))
            for number, range_ in enumerate(pending.ranges)
        ]
        snapshot = Snapshot(
            is_first_use=use.is_first,
            records=tuple([records.get(key) for key in pending.keys]),
            pages=tuple(pages),
            followed=_followed_records(pending.follow, records),
            is_use_unknown=use.is_unknown,
        )
        yield pending, snapshot


def _followed_records(
    follow: Follow | None, records: dict[bytes, Record]
) -> tuple[Record | None, ...]:
    """Return the records whose keys end with the values of others."""
    if follow is None:
        return ()
    followed: list[Record | None] = []
    for key in follow.keys:
        first = records.get(key)
        if first is None or first.value is None:
            followed.append(None)
        else:
            followed.append(records.get(follow.prefix + first.value))
    return tuple(followed)


class _TokenUse(NamedTuple):
    """Whether a read is the first use of its token.

    Attributes:
        is_first: None if the read has no replay record.
        is_unknown: whether the replay records of the token's expiry minute were deleted.
    """

    is_first: bool | None
    is_unknown: bool = False


def _use_of(
    replay_record: ReplayRecord | None, records: dict[bytes, Record], first_uses: set[bytes]
) -> _TokenUse:
    """Return whether a read is the first use of its token.

    A first use is removed from `first_uses`, because the next read in the same statement with the
    same replay record is not the first.
    """
    if replay_record is None:
        return _TokenUse(is_first=None)
    floor = records.get(REPLAY_FLOOR_KEY)
    if floor is not None and replay_record.row[:4] < (floor.value or b""):
        return _TokenUse(is_first=False, is_unknown=True)
    was_read_before = replay_record.row not in first_uses
    was_committed = REPLAY_PREFIX + replay_record.row in records  # durably (ST4)
    if was_read_before or was_committed:
        return _TokenUse(is_first=False)
    first_uses.remove(replay_record.row)
    return _TokenUse(is_first=True)


def value_of(value: bytes | None, number: int | None) -> bytes | None:
    """Return the value of a row from its columns `v` and `n`.

    The number of a counter or sequence is encoded as 8 bytes. The histories of a sequence follow.
    """
    if number is None:
        return value
    return number.to_bytes(COUNTER_BYTES, "big", signed=True) + (value or b"")


_KEY_ALONE = Record(b"", b"")


def _page(range_: Range, examined: list[_ExaminedRow]) -> Page:
    """Return the page of a range from the rows that the statement examined."""
    if range_.by_number:
        examined = [_numbered_row(row) for row in examined]
    # SQL guarantees the order inside the subquery only. The rows usually arrive sorted, so this
    # takes one pass.
    examined.sort(key=lambda row: row.key)
    rows: list[tuple[bytes, Record]] = []
    last_key: bytes | None = None
    size_bytes = 0
    more = False
    for key, record, place in examined:
        more = len(rows) == range_.limit
        if more:
            break
        last_key = key
        if record.value is not None:  # a page leaves tombstones out (ST5)
            size_bytes += len(key) + len(record.value)
            rows.append((key, record))
        # The statement examines at most MAX_PAGE_SCAN rows, and stops after MAX_PAGE_BYTES.
        more = place == MAX_PAGE_SCAN or size_bytes >= MAX_PAGE_BYTES
        if more:
            break
    return Page(rows=tuple(rows), more=more, last_key=last_key)


def _numbered_row(row: _ExaminedRow) -> _ExaminedRow:
    """Return a row of a sequence, under its position and key, and without its value."""
    return _ExaminedRow(row.record.position + row.key, record=_KEY_ALONE, place=row.place)
