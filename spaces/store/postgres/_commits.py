"""Execution of each commit as one SQL statement in PostgreSQL.

The statement checks the conditions and writes atomically.

Every commit that writes leaves a row that proves its outcome: its replay record, or a row of its
own under the same prefix (ST4). When the connection breaks before the reply, the same statement is
sent again. It finds that row, or it happens now. The lost statement may still be running. Whichever
of the two comes second collides with that row's primary key, and is rolled back.

A commit of conditions alone writes no row. The locks on the rows that it names are in the
database's log all the same, so it waits for the standby like any other commit. A repeated commit
that finds its outcome waits for the same reason (ST16).
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from capabilities.clock_and_entropy import Clock

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX
from ...space_errors import StoreBusy, StoreUnavailable
from ..contract import (
    ABSENT,
    ANY,
    KEYS_END,
    Commit,
    Committed,
    Put,
    Refused,
    ReplayRecord,
    check_commit,
)
from ._errors import CONNECTION_ERRORS, ErrorGroup, error_group_of, store_error_of
from ._pool import ANSWER_WITHIN_S, RECONNECT_WITHIN_S, Argument, Connections, pause
from ._statements import ALREADY_APPLIED, COMMIT, EXPECT_ABSENT, EXPECT_NOTHING_THERE, REFUSED


@dataclass(slots=True, eq=False)
class QueuedCommit:
    """A commit that is waiting or running.

    `before` contains the earlier commits that must finish first.
    """

    written: frozenset[bytes]
    conditions: frozenset[bytes]
    before: "set[QueuedCommit]" = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)


COMMIT_CONNECTIONS = 4
MAX_WAITING_BYTES = 64 * 1024 * 1024
_RETRY_WITHIN_S = 2.0
# How long the outcome of a commit can be looked up. Attempts end long before.
_OUTCOME_KEPT_S = 120
_NUMBER_END = 1 << 63
_EXPECTATIONS = {ANY: None, ABSENT: EXPECT_ABSENT}


class Commits:
    """A queue of commits to the database.

    Commits to the same rows run one after the other.
    """

    def __init__(self, connections: Connections, clock: Clock) -> None:
        """Create an empty queue of commits.

        `clock` returns the estimated database time.
        """
        self._connections = connections
        self._clock = clock
        self._writers = dict[bytes, QueuedCommit]()
        self._readers = dict[bytes, set[QueuedCommit]]()  # that came after the writer
        self._waiting_bytes = 0
        self._writing = set[asyncio.Task[Committed | Refused]]()

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write a commit, and return its outcome.

        See `Store.commit`. The commit continues when the caller is cancelled, because a commit that
        was sent cannot be taken back.
        """
        check_commit(commit)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreBusy("too many bytes are waiting to be written to the database")
        counters = _counters(commit)
        if counters is None:
            return Refused()
        idempotency_key, now = os.urandom(16), int(self._clock.now())
        replay_record = commit.replay_record or ReplayRecord(idempotency_key, now + _OUTCOME_KEPT_S)
        outcome_key = REPLAY_PREFIX + replay_record.row
        conditions = [*commit.live, *[check.key for check in commit.checks]]
        outcome_put = (Put(outcome_key, b"", expect=EXPECT_NOTHING_THERE),) if commit.writes else ()
        puts = (*commit.puts, *outcome_put)
        drawn = os.urandom(16 * (len(commit.puts) + 1))
        counter_stamp, *stamps = [drawn[at : at + 16] for at in range(0, len(drawn), 16)]
        accounts = [_account_of(put) for put in puts]
        keys = dict.fromkeys([put.key for put in puts])
        arguments: list[Argument] = [
            list(keys),
            [put.value for put in puts],
            [*stamps, idempotency_key][: len(puts)],
            [
                put.weight_bytes if account is not None else 0
                for put, account in zip(puts, accounts, strict=True)
            ],
            accounts,
            [now // 60 if put.value is None else None for put in puts],
            [_EXPECTATIONS.get(put.expect, put.expect) for put in puts],
            [key for key in dict.fromkeys(conditions) if key not in keys],
            conditions,
            [*[None for _ in commit.live], *[check.stamp for check in commit.checks]],
            list(counters),
            [change for change, _ in counters.values()],
            [bound for _, bound in counters.values()],
            counter_stamp,
            outcome_key,
            idempotency_key,
            REPLAY_FLOOR_KEY,
            # A key of our own is random, so it needs no check against deleted replay records.
            KEYS_END if commit.replay_record is None else outcome_key[1:5],
        ]
        queued = self._enter(
            written=[outcome_key, *[put.key for put in commit.puts], *counters],
            conditions=conditions,
        )
        size_bytes = sum([len(put.key) + len(put.value or b"") for put in commit.puts])
        task = asyncio.create_task(self._in_turn(arguments, queued, size_bytes))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for the outcomes of running commits.

        The connections must be closed already.
        """
        await asyncio.gather(*self._writing, return_exceptions=True)

    # Two commits on two connections run in the order of the database's locks, which is arbitrary. A
    # caller that revokes and then writes, without waiting in between, expects them in its order.
    # Commits that would wait for each other in the database wait here instead, where they occupy no
    # connection.
    def _enter(self, *, written: Iterable[bytes], conditions: Iterable[bytes]) -> QueuedCommit:
        """Queue a commit behind all conflicting commits.

        Two commits conflict if one writes a key that the other writes or relies on.
        """
        queued = QueuedCommit(frozenset(written), frozenset(conditions))
        for key in queued.written | queued.conditions:
            if key in self._writers:
                queued.before.add(self._writers[key])
            if key in queued.written:
                queued.before |= self._readers.pop(key, set())
                self._writers[key] = queued
            else:
                self._readers.setdefault(key, set()).add(queued)
        return queued

    def _leave(self, queued: QueuedCommit) -> None:
        """Remove a finished commit from the queue.

        Commits that conflict with it can then run.
        """
        queued.done.set()
        queued.before.clear()  # otherwise each commit would keep all earlier ones in memory
        for key in queued.written | queued.conditions:
            if self._writers.get(key) is queued:
                del self._writers[key]
            readers = self._readers.get(key, set())
            readers.discard(queued)
            if not readers:
                self._readers.pop(key, None)

    async def _in_turn(
        self, arguments: Sequence[Argument], queued: QueuedCommit, size_bytes: int
    ) -> Committed | Refused:
        """Write a commit after all conflicting commits have ended."""
        give_up_at = asyncio.get_running_loop().time() + ANSWER_WITHIN_S
        self._waiting_bytes += size_bytes
        try:
            for earlier in queued.before:
                async with asyncio.timeout_at(give_up_at):
                    await earlier.done.wait()
        except TimeoutError:
            raise StoreBusy("too many commits are waiting for the same rows") from None
        else:
            return await self._write(arguments)
        finally:
            self._waiting_bytes -= size_bytes
            self._leave(queued)

    async def _write(self, arguments: Sequence[Argument]) -> Committed | Refused:
        """Run the SQL statement of a commit, with retries.

        Raises:
            StoreBusy: overtaken by other commits for too long; nothing was written.
            StoreUnavailable: no outcome, or one that cannot be trusted after a lost connection.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _RETRY_WITHIN_S
        was_lost = False
        while True:
            # An attempt that began in time is repeated, however long it waited for a lock: the
            # repeat finds what a lost statement committed meanwhile.
            is_late = loop.time() >= give_up_at
            try:
                rows = await self._connections.run(COMMIT, arguments)
            except CONNECTION_ERRORS as exc:
                group = error_group_of(exc)
                if group is ErrorGroup.OUT_OF_RANGE and not was_lost:
                    return Refused()  # a counter that would not fit its row
                if group in (ErrorGroup.OUT_OF_RANGE, ErrorGroup.FAILED):
                    raise (_unknown() if was_lost else store_error_of(exc)) from None
                if isinstance(exc, TimeoutError):
                    raise _unknown() from None
                if group is ErrorGroup.LOST and not was_lost:
                    # The time for retries begins with the loss: the statement may have waited for
                    # a lock longer than that before.
                    was_lost, give_up_at = True, loop.time() + RECONNECT_WITHIN_S
                elif is_late and was_lost:
                    raise _unknown() from None
                elif is_late:
                    raise StoreBusy(
                        "the commit timed out because other commits kept changing the same rows"
                    ) from None
                elif group is ErrorGroup.REPEAT:
                    await pause()
                continue
            verdict = rows[0][0]
            if verdict != REFUSED:
                return Committed(already_applied=verdict == ALREADY_APPLIED)
            if was_lost:
                # The lost statement may still be waiting for a lock, and succeed although this one
                # was refused.
                raise _unknown()
            return Refused()


def _unknown() -> StoreUnavailable:
    return StoreUnavailable(
        "the connection was lost or the database timed out; the outcome of the commit is unknown"
    )


def _counters(commit: Commit) -> dict[bytes, tuple[int, int | None]] | None:
    """Sum a commit's changes to each counter.

    Returns None on an overflow. Each sum comes with the counter's limit. The sizes of replaced rows
    are stored in those rows and not known here.
    """
    changes = dict[bytes, int]()
    bounds = dict[bytes, int]()
    for add in commit.adds:
        changes[add.counter] = changes.get(add.counter, 0) + add.delta
        if add.at_most is not None:
            bounds[add.counter] = min(
                add.at_most, bounds.get(add.counter, add.at_most), _NUMBER_END - 1
            )
    for put in commit.puts:
        if (account := _account_of(put)) is not None:
            changes[account] = changes.get(account, 0) + put.weight_bytes
    if any(
        not -_NUMBER_END <= number < _NUMBER_END for number in (*changes.values(), *bounds.values())
    ):
        return None
    return {key: (change, bounds.get(key)) for key, change in changes.items()}


def _account_of(put: Put) -> bytes | None:
    """Return the counter to which a row's size is added, or None.

    The counter is given by its key. None means that the row is deleted, or is not added to a
    counter.
    """
    return put.account if put.value is not None and put.weight_bytes > 0 else None
