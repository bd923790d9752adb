"""Reads: those of one iteration of the event loop are one statement, and see one moment.

A read with ranges is sent alone, so that no point read waits for a long page. While every
connection is busy, reads continue to queue up; a statement that starts later sees no less (ST1).
"""

import asyncio
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import asyncpg

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX
from ...space_errors import StoreBusy, StoreUnavailable
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
from ._errors import CONNECTION_ERRORS, Meaning, meaning_of, store_error_of
from ._pool import LONGEST_PAUSE_S, RECONNECT_WITHIN_S, Argument, Connections
from ._statements import CLAIMED_PART, FIRST_PAGE_PART, read_statement

READ_CONNECTIONS: Final = 2
_BATCH_READS: Final = 512


class _Wanted(NamedTuple):
    keys: tuple[bytes, ...]
    replay_record: ReplayRecord | None
    ranges: tuple[Range, ...]
    follow: Follow | None
    idempotency_key: bytes  # names this read, so that a claim whose answer got lost is recognised
    answer: "asyncio.Future[Snapshot]"


class Reads:
    """Gathers reads and sends them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._gathered: list[_Wanted] = []
        self._is_due = False  # a task was created that has not begun
        self._at_work = 0  # tasks that read, each over a connection
        self._asking: set[asyncio.Task[None]] = set()

    async def read(
        self,
        keys: Sequence[bytes],
        replay_record: ReplayRecord | None,
        ranges: Sequence[Range],
        follow: Follow | None,
    ) -> Snapshot:
        """See `Store.read`."""
        check_read(keys, replay_record, ranges, follow)
        loop = asyncio.get_running_loop()
        idempotency_key = b"" if replay_record is None else os.urandom(16)
        wanted = _Wanted(
            tuple(keys), replay_record, tuple(ranges), follow, idempotency_key, loop.create_future()
        )
        self._gathered.append(wanted)
        self._begin(loop)
        return await wanted.answer

    async def close(self) -> None:
        """Fail the waiting reads, after the connections were closed."""
        for wanted in self._gathered:
            _fail(wanted, StoreUnavailable("the store is closed"))
        self._gathered.clear()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start reading in the next iteration of the loop, unless every connection is busy or a
        task is about to."""
        if self._is_due or self._at_work == READ_CONNECTIONS:
            return
        self._is_due = True
        self._at_work += 1
        task = loop.create_task(self._ask())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self) -> None:
        """Send the gathered reads, and continue as long as there are any."""
        self._is_due = False
        try:
            while self._gathered:
                batch = self._next_batch()
                if self._gathered:  # reads that are not part of this statement need not wait for it
                    self._begin(asyncio.get_running_loop())
                try:
                    for wanted, snapshot in _snapshots(await self._rows(batch), batch):
                        if not wanted.answer.done():  # else the caller was cancelled
                            wanted.answer.set_result(snapshot)
                except Exception as exc:  # a bug of ours must reach the callers, not hang them
                    for wanted in batch:
                        _fail(wanted, exc)
        finally:
            self._at_work -= 1

    def _next_batch(self) -> list[_Wanted]:
        """Take reads in their order: as many point reads as fit one statement, or one read with
        ranges.

        Of the reads that follow rows, a statement takes those that follow them under one prefix.
        """
        keys = 0
        taken = 0
        prefix: bytes | None = None
        for wanted in self._gathered[:_BATCH_READS]:
            keys += len(wanted.keys)
            if wanted.follow is not None:
                keys += 2 * len(wanted.follow.keys)
                prefix = prefix or wanted.follow.prefix
            is_other = wanted.follow is not None and wanted.follow.prefix != prefix
            if taken and (wanted.ranges or keys > MAX_READ_KEYS or is_other):
                break
            taken += 1
            if wanted.ranges:
                break
        batch, self._gathered = self._gathered[:taken], self._gathered[taken:]
        return batch

    async def _rows(self, batch: Sequence[_Wanted]) -> "list[asyncpg.Record]":
        """Send the statement, again after a passing error (deadlock of claims, lost connection).
        Never claim twice."""
        statement, arguments = _question(batch)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RECONNECT_WITHIN_S
        while True:
            try:
                return await self._connections.run(statement, arguments)
            except CONNECTION_ERRORS as exc:
                meaning = meaning_of(exc)
                if isinstance(exc, TimeoutError):
                    raise StoreUnavailable("the database takes too long") from None
                if meaning not in (Meaning.REPEAT, Meaning.LOST):
                    raise store_error_of(exc) from None
                if loop.time() >= give_up_at and meaning is Meaning.REPEAT:
                    raise StoreBusy("the database refused a read for too long") from None
                if loop.time() >= give_up_at:
                    raise StoreUnavailable(
                        "the connection to the database was lost again and again"
                    ) from None
                await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311  # parts two that collided


def _fail(wanted: _Wanted, error: Exception) -> None:
    if not wanted.answer.done():
        wanted.answer.set_exception(error)


def _question(batch: Sequence[_Wanted]) -> tuple[str, list[Argument]]:
    keys = {key for wanted in batch for key in wanted.keys}
    claims: dict[bytes, bytes] = {}
    links: set[bytes] = set()
    prefix = b""
    ranges: list[Range] = []
    for wanted in batch:
        ranges += wanted.ranges
        if wanted.replay_record is not None:
            # of two in one statement the earlier counts as first
            claims.setdefault(wanted.replay_record.row, wanted.idempotency_key)
            keys |= {REPLAY_FLOOR_KEY, REPLAY_PREFIX + wanted.replay_record.row}
        if wanted.follow is not None:
            links.update(wanted.follow.keys)
            prefix = wanted.follow.prefix
    arguments: list[Argument] = [list(keys | links)]
    if claims:
        arguments += [list(claims.keys()), list(claims.values())]
    if links:
        arguments += [list(links), prefix]
    for one in ranges:
        arguments += [*one.bounds, one.limit + 1]
    shape = tuple((one.reverse, one.keys_only) for one in ranges)
    return read_statement(
        with_claims=bool(claims), with_follow=bool(links), ranges=shape
    ), arguments


def _snapshots(
    rows: "Iterable[asyncpg.Record]", batch: Sequence[_Wanted]
) -> Iterator[tuple[_Wanted, Snapshot]]:
    """Decode the result of one statement, and yield the part of it that belongs to each read."""
    records: dict[bytes, Record] = {}
    is_first_use: set[bytes] = set()
    found: dict[int, list[tuple[bytes, Record, int]]] = {}
    for part, key, stamp, value, number, place in rows:
        if part == CLAIMED_PART:
            is_first_use.add(key)
        elif part < FIRST_PAGE_PART:
            records[key] = Record(value=value_of(value, number), stamp=stamp)
        else:
            record = Record(value=value_of(value, number), stamp=stamp)
            found.setdefault(part - FIRST_PAGE_PART, []).append((key, record, place))
    for wanted in batch:
        follow = wanted.follow
        followed = (
            ()
            if follow is None
            else tuple([_led_to(records, key, follow.prefix) for key in follow.keys])
        )
        is_first, is_forgotten = _judged(wanted.replay_record, records, is_first_use)
        yield (
            wanted,
            Snapshot(
                is_first_use=is_first,
                records=tuple([records.get(key) for key in wanted.keys]),
                pages=tuple(
                    [_page(asked, found.get(at, [])) for at, asked in enumerate(wanted.ranges)]
                ),
                followed=followed,
                is_forgotten=is_forgotten,
            ),
        )


def _led_to(records: dict[bytes, Record], key: bytes, prefix: bytes) -> Record | None:
    record = records.get(key)
    return None if record is None or record.value is None else records.get(prefix + record.value)


def _judged(
    replay_record: ReplayRecord | None, records: dict[bytes, Record], is_first_use: set[bytes]
) -> tuple[bool | None, bool]:
    """Return whether a claim is the first, and whether that is unknown because its minute was
    swept."""
    if replay_record is None:
        return None, False
    floor = records.get(REPLAY_FLOOR_KEY)
    if floor is not None and replay_record.row[:4] < (floor.value or b""):
        return False, True
    # claimed before, or durably (ST4)
    if replay_record.row not in is_first_use or REPLAY_PREFIX + replay_record.row in records:
        return False, False
    is_first_use.remove(
        replay_record.row
    )  # of two reads with one claim the earlier is the first use
    return True, False


def value_of(value: bytes | None, number: int | None) -> bytes | None:
    """Return the value of a row: a counter appears as 8 bytes outside this engine."""
    return value if number is None else number.to_bytes(COUNTER_BYTES, "big", signed=True)


def _page(wanted: Range, found: list[tuple[bytes, Record, int]]) -> Page:
    # Sorted again because only the order inside the subquery is promised; one pass over rows that
    # are sorted already.
    found.sort(key=lambda row: row[0], reverse=wanted.reverse)
    rows: list[tuple[bytes, Record]] = []
    last_key: bytes | None = None
    size_bytes = 0
    more = False
    for key, record, place in found:
        more = len(rows) == wanted.limit
        if more:
            break
        last_key = key
        if record.value is not None:  # ST5
            size_bytes += len(key) + len(record.value)
            rows.append((key, record))
        more = place == MAX_PAGE_SCAN or size_bytes >= MAX_PAGE_BYTES
        if more:
            break
    return Page(rows=tuple(rows), more=more, last_key=last_key)
