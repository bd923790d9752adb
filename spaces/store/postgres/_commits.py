"""Commits: each one statement, judged and written by the database at one moment, or undone.

Every commit that writes leaves a row that settles it: its claim, or one of its own under the claims (ST4). When the
connection breaks before the answer, the same statement is sent again; it finds that row, or it happens now. The lost
statement may still be running: whichever of the two comes second meets that row by its primary key and undoes itself.

A commit of conditions alone writes no row. The locks on the rows that it names are in the database's log all the same,
so it waits for the standby as any other does, and so does one that finds its outcome (ST16).
"""

import asyncio
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from capabilities.ambient import Clock

from ...errors import StoreBusy, StoreUnavailable
from ...keyspace import CLAIM_FLOOR_KEY, claim_key, claim_minute4
from ..contract import ABSENT, ANY, Commit, Committed, Put, Refused, check_commit
from ._errors import CONNECTION_ERRORS, Meaning, meaning_of, store_error_of
from ._pool import ANSWER_WITHIN_S, LONGEST_PAUSE_S, RECONNECT_WITHIN_S, Argument, Connections
from ._statements import COMMIT, EXPECT_ABSENT, EXPECT_NOTHING_THERE, KEYS_END, REFUSED, SETTLED


@dataclass(slots=True, eq=False)
class Turn:
    """A commit's place in the order."""

    written: frozenset[bytes]
    relied: frozenset[bytes]
    before: "set[Turn]" = field(default_factory=set)
    done: bool = False
    left: "asyncio.Future[None] | None" = None

    def pending(self) -> "Iterator[asyncio.Future[None]]":
        """Yield the futures to wait for, one after the other."""
        for turn in self.before:
            if not turn.done:
                if turn.left is None:
                    turn.left = asyncio.get_running_loop().create_future()
                yield turn.left
        self.before.clear()  # else each turn would keep all the former ones


@dataclass(slots=True)
class _Lane:
    writer: Turn | None = None
    readers: set[Turn] = field(default_factory=set)


# Two commits on two connections run in the order of the database's locks, which is arbitrary. A caller that revokes and
# then writes, without waiting in between, expects them in its order; and commits that would wait for each other in the
# database wait here instead, where they occupy no connection.
class Lanes:
    """The order of the commits of one process: those that touch the same rows run one after the other, as requested."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, _Lane] = {}

    def enter(self, *, written: Iterable[bytes], relied: Iterable[bytes]) -> Turn:
        """Take a place behind every commit that writes what is touched here, or touches what is written here."""
        turn = Turn(frozenset(written), frozenset(relied))
        for key in turn.written:
            lane = self._lanes.setdefault(key, _Lane())
            turn.before |= lane.readers
            if lane.writer is not None:
                turn.before.add(lane.writer)
            lane.writer, lane.readers = turn, set()
        for key in turn.relied - turn.written:
            lane = self._lanes.setdefault(key, _Lane())
            if lane.writer is not None:
                turn.before.add(lane.writer)
            lane.readers.add(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Let the next commits proceed."""
        turn.done = True
        if turn.left is not None and not turn.left.done():
            turn.left.set_result(None)
        for key in turn.written | turn.relied:
            lane = self._lanes.get(key)
            if lane is None:
                continue
            if lane.writer is turn:
                lane.writer = None
            lane.readers.discard(turn)
            if lane.writer is None and not lane.readers:
                del self._lanes[key]


COMMIT_CONNECTIONS: Final = 4
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
_RETRY_WITHIN_S: Final = 2.0
# How long an outcome can be queried; the attempt is given up long before.
_OUTCOME_KEPT_S: Final = 120
_NUMBER_END: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class _PendingCommit:
    commit: Commit
    arguments: Sequence[Argument]
    turn: Turn
    since: float
    answer: "asyncio.Future[Committed | Refused]"


class Commits:
    """Orders commits and has them written."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        """`clock`: the database's, as far as it is known."""
        self._connections = connections
        self._clock = clock
        self._lanes = Lanes()
        self._waiting_bytes = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def commit(self, commit: Commit) -> Committed | Refused:
        """See `Store.commit`. It continues when the caller is cancelled, as a commit that was sent would."""
        check_commit(commit)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreBusy("too many bytes wait for the database")
        counters = _counters(commit)
        if counters is None:
            return Refused()
        loop = asyncio.get_running_loop()
        asked = self._asked(commit, counters, loop)
        task = loop.create_task(self._in_turn(asked, sum(len(put.key) + len(put.value or b"") for put in commit.puts)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asked.answer

    async def close(self) -> None:
        """Wait until every commit under way has its outcome, after the connections were closed."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _asked(self, commit: Commit, counters: "list[_Counter]", loop: asyncio.AbstractEventLoop) -> _PendingCommit:
        settle = os.urandom(16)
        outcome_key = self._outcome_key(commit, settle)
        minute = int(self._clock.now()) // 60
        parameters = _parameters(commit, counters, outcome_key=outcome_key, outcome_stamp=settle, minute=minute)
        turn = self._lanes.enter(
            written=[outcome_key, *[put.key for put in commit.puts], *[counter.key for counter in counters]],
            relied=[*commit.live, *[check.key for check in commit.checks]],
        )
        return _PendingCommit(commit, astuple(parameters), turn, loop.time(), loop.create_future())

    def _outcome_key(self, commit: Commit, settle: bytes) -> bytes:
        if commit.claim is not None:
            return claim_key(claim_minute4(commit.claim.expires_at), commit.claim.key[:16])
        return claim_key(claim_minute4(int(self._clock.now()) + _OUTCOME_KEPT_S), settle)

    async def _in_turn(self, asked: _PendingCommit, size_bytes: int) -> None:
        """Write when the commits before it have been written, and answer the caller if it still waits."""
        answer = asked.answer
        self._waiting_bytes += size_bytes
        try:
            # Wait for the commits that come before.
            loop = asyncio.get_running_loop()
            for former in asked.turn.pending():
                await asyncio.wait((former,), timeout=max(0.0, asked.since + ANSWER_WITHIN_S - loop.time()))
                if not former.done():
                    raise StoreBusy("too many commits of the same rows wait")
            outcome = await self._write(asked)
            if not answer.done():
                answer.set_result(outcome)
        except Exception as exc:
            if not answer.done():
                answer.set_exception(exc)
        finally:
            answer.cancel()  # has no effect on an answer that was given
            self._waiting_bytes -= size_bytes
            self._lanes.leave(asked.turn)

    async def _write(self, asked: _PendingCommit) -> Committed | Refused:
        """Send the statement until it has an outcome.

        Raises:
            StoreBusy: overtaken for too long; nothing was written.
            StoreUnavailable: no outcome, or one that cannot be trusted after a lost connection.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        was_lost = False
        while True:
            try:
                rows = await self._connections.run(COMMIT, asked.arguments)
            except CONNECTION_ERRORS as exc:
                meaning = meaning_of(exc)
                if meaning is Meaning.OUT_OF_RANGE and not was_lost:
                    return Refused()  # a counter that would not fit its row
                if meaning in (Meaning.OUT_OF_RANGE, Meaning.FAILED):
                    raise (_unknown() if was_lost else store_error_of(exc)) from None
                was_lost = was_lost or meaning is Meaning.LOST
                waited_s = loop.time() - started
                if isinstance(exc, TimeoutError) or (was_lost and waited_s >= RECONNECT_WITHIN_S):
                    raise _unknown() from None
                if waited_s >= _RETRY_WITHIN_S:
                    raise StoreBusy("other commits overtook this one for too long") from None
                if meaning is Meaning.REPEAT:
                    await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311  # parts two that collided
                continue
            verdict = rows[0][0]
            outcome = Refused() if verdict == REFUSED else Committed(settled=verdict == SETTLED)
            if was_lost and isinstance(outcome, Refused):
                # The lost statement may still be waiting for a lock, and succeed where this one did not.
                raise _unknown()
            return outcome


def _unknown() -> StoreUnavailable:
    return StoreUnavailable("the connection to the database was lost, and with it the outcome")


@dataclass(frozen=True, slots=True)
class _Counter:
    """The change of one counter row, as far as this process knows: the weight given back is stored in the row."""

    key: bytes
    change: int
    at_most: int | None


def _counters(commit: Commit) -> list[_Counter] | None:
    """Sum adds and weights by counter; None when a sum fits no counter, so that the commit cannot succeed."""
    changes: dict[bytes, int] = {}
    bounds: dict[bytes, int] = {}
    for add in commit.adds:
        changes[add.counter] = changes.get(add.counter, 0) + add.delta
        if add.at_most is not None:
            bounds[add.counter] = min(add.at_most, bounds.get(add.counter, add.at_most), _NUMBER_END - 1)
    for put in commit.puts:
        if _is_weighed(put) and put.account is not None:
            changes[put.account] = changes.get(put.account, 0) + put.weight_bytes
    if any(not -_NUMBER_END <= number < _NUMBER_END for number in (*changes.values(), *bounds.values())):
        return None
    return [_Counter(key, change, bounds.get(key)) for key, change in changes.items()]


def _is_weighed(put: Put) -> bool:
    return put.account is not None and put.value is not None and put.weight_bytes > 0


class _Parameters(Struct, frozen=True, kw_only=True):
    """The parameters of `COMMIT`, in the order of its numbers; the lists of one kind of row are of one length."""

    put_keys: list[bytes]
    put_values: list[bytes | None]
    put_stamps: list[bytes]
    put_weights: list[int]
    put_accounts: list[bytes | None]
    put_minutes: list[int | None]
    put_expectations: list[bytes | None]
    locked_keys: list[bytes]
    relied_keys: list[bytes]
    relied_stamps: list[bytes | None]
    counter_keys: list[bytes]
    counter_changes: list[int]
    counter_bounds: list[int | None]
    counter_stamp: bytes
    outcome_key: bytes
    outcome_stamp: bytes
    floor_key: bytes
    least_floor: bytes


def _parameters(
    commit: Commit, counters: Sequence[_Counter], *, outcome_key: bytes, outcome_stamp: bytes, minute: int
) -> _Parameters:
    settling = (Put(outcome_key, b"", expect=EXPECT_NOTHING_THERE),) if commit.writes else ()
    puts = (*commit.puts, *settling)
    stamps = os.urandom(16 * (len(puts) + 1))
    put_keys = {put.key for put in puts}
    relied = [*commit.live, *[check.key for check in commit.checks]]
    put_stamps = [stamps[16 * at : 16 * at + 16] for at in range(len(commit.puts))]
    return _Parameters(
        put_keys=[put.key for put in puts],
        put_values=[put.value for put in puts],
        put_stamps=[*put_stamps, outcome_stamp][: len(puts)],
        put_weights=[put.weight_bytes if _is_weighed(put) else 0 for put in puts],
        put_accounts=[put.account if _is_weighed(put) else None for put in puts],
        put_minutes=[minute if put.value is None else None for put in puts],
        put_expectations=[_expectation(put) for put in puts],
        locked_keys=[key for key in dict.fromkeys(relied) if key not in put_keys],
        relied_keys=relied,
        relied_stamps=[*[None for _ in commit.live], *[check.stamp for check in commit.checks]],
        counter_keys=[counter.key for counter in counters],
        counter_changes=[counter.change for counter in counters],
        counter_bounds=[counter.at_most for counter in counters],
        counter_stamp=stamps[-16:],
        outcome_key=outcome_key,
        outcome_stamp=outcome_stamp,
        floor_key=CLAIM_FLOOR_KEY,
        # A name of our own is not subject to any floor.
        least_floor=KEYS_END if commit.claim is None else outcome_key[1:5],
    )


def _expectation(put: Put) -> bytes | None:
    if put.expect == ANY:
        return None
    return EXPECT_ABSENT if put.expect == ABSENT else put.expect
