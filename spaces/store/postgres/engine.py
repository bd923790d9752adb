"""The store engine that uses PostgreSQL.

Nodes on more than one machine can share one database.

Every read and every commit is one statement in one round trip. The process keeps only the
connections. Any number of processes of any number of nodes may have the same database open. Each
sees every commit that another has acknowledged (ST1), because all of them connect to the leader.

Replay records of plain reads are committed without waiting for the disk: when the database's
machine crashes, the latest of them may be lost (ST4). Commits wait as the database is configured
to. If the database can fail over, that has to include a synchronous standby.

The engine has no size limit of its own; a full disk of the database raises StoreFull. Striped
counters (ST7) are not needed for exactness: each counter is one row, and commits that change it
wait for each other.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress

import asyncpg

from capabilities.clock_and_entropy import Clock, SystemClock

from ...keyspace import REPLAY_FLOOR_KEY, REPLAY_PREFIX, acceptance_delay_s
from ...space_errors import StoreError, StoreUnavailable
from ..contract import Commit, Committed, Follow, Range, Refused, ReplayRecord, Snapshot
from ..lmdb._housekeeping import HOUSEKEEPING_S, TOMBSTONE_MINUTES
from ..observing import MAX_CLOCK_SKEW_S, Clocks, PoolUse
from ._clock import DatabaseClock
from ._commits import COMMIT_CONNECTIONS, Commits
from ._errors import convert_database_errors
from ._pool import Connections, pause
from ._reads import READ_CONNECTIONS, Reads
from ._schema import prepare_tables
from ._statements import (
    ARE_BODIES_FREE,
    BEGIN_HISTORY,
    DATABASE_TIME,
    DO_NOT_WAIT,
    FORGET_STUCK_FLOORS,
    HISTORY_OF_SERVER,
    LOWER_FLOOR,
    NOTE_STUCK_FLOOR,
    RAISE_FLOOR,
    READ_VALUE,
    START_OF_SERVER,
    SWEEP_TOMBSTONES,
    TURN_OF_HOUSEKEEPING,
    sweep_statement,
)

# Replay records are kept for this long after their expiry, more than the clocks of processes that
# share a store may be behind (MAX_CLOCK_SKEW_S).
_REPLAY_GRACE_MINUTES = 2
_SWEEP_ROWS = 1000
_SWEEP_PARTS = 50
# A little less than the interval between rounds. Otherwise every second round would be skipped.
_TURN_AFTER_S = int(HOUSEKEEPING_S) - 5
_log = logging.getLogger(__name__)


async def do_housekeeping(
    connections: Connections, clock: DatabaseClock, *, longest_life_s: int
) -> bool:
    """Delete expired replay records and old tombstones.

    All times are of the database's clock. A process whose own clock differs leaves the housekeeping
    to the others (ST9).

    The floor of replay records is a minute: all tokens that expire before it are refused. It is
    raised one round before the rows below it are deleted. Otherwise a statement that began before
    the floor was raised could miss a row that is already deleted, and accept a used token as new.

    Returns False if this round was skipped, because another process did it, or because this
    process's clock is wrong.
    """
    await clock.compare(ask_time(connections))
    if abs(clock.ahead_s) > MAX_CLOCK_SKEW_S:
        _log.warning(
            "housekeeping skipped: this machine's clock is %d s ahead of the database's",
            round(clock.ahead_s),
        )
        return False
    turn_rows = await connections.run(TURN_OF_HOUSEKEEPING, [_TURN_AFTER_S])
    if not turn_rows:
        return False
    now: int = turn_rows[0]["value"]
    before_minute = max(now // 60 - _REPLAY_GRACE_MINUTES, 0)
    floor_rows = await connections.run(READ_VALUE, [REPLAY_FLOOR_KEY])
    floor: bytes = floor_rows[0]["v"] if floor_rows else b""
    new_floor = before_minute.to_bytes(4, "big")
    if floor[:4] > new_floor:
        await _lower_stuck_floor(
            connections, floor, new_floor=new_floor, now=now, longest_life_s=longest_life_s
        )
    else:
        await connections.run(RAISE_FLOOR, [REPLAY_FLOOR_KEY, os.urandom(16), new_floor])
        await _sweep_replay_records(connections, below=floor[:4])
    await _sweep(connections, SWEEP_TOMBSTONES, max(before_minute - TOMBSTONE_MINUTES, 0))
    return True


async def _lower_stuck_floor(
    connections: Connections, floor: bytes, *, new_floor: bytes, now: int, longest_life_s: int
) -> None:
    """Lower a floor that is ahead of the database's clock, once it was unchanged for long enough.

    Such a floor was raised by a fast clock: by an earlier version, or before the database's own
    clock was set back. It would refuse valid tokens until the clock reaches it. It is lowered when
    it was seen unchanged for the longest lifetime of a token. Then every token has expired whose
    record can have been deleted early.

    Args:
        connections: to the database.
        floor: the stored value.
        new_floor: the minute to lower it to.
        now: epoch seconds of the database.
        longest_life_s: how long before its expiry a token may be used.
    """
    rows = await connections.run(NOTE_STUCK_FLOOR, [f"floor-ahead-{floor[:4].hex()}", now])
    first_seen: int = rows[0]["value"]
    if now >= first_seen + longest_life_s:
        await connections.run(LOWER_FLOOR, [REPLAY_FLOOR_KEY, os.urandom(16), new_floor, floor])
        await connections.run(FORGET_STUCK_FLOORS, [])


async def _sweep_replay_records(connections: Connections, *, below: bytes) -> None:
    """Delete the replay records below the floor of the previous round."""
    await _sweep(connections, sweep_statement("sealspace_claims"), b"", below)
    await _sweep(
        connections, sweep_statement("sealspace_map"), REPLAY_PREFIX, REPLAY_PREFIX + below
    )


async def ask_time(connections: Connections) -> float:
    """Return the database's current time in epoch seconds.

    Raises the errors of `Connections.run`.
    """
    rows = await connections.run(DATABASE_TIME, [])
    database_now: float = rows[0][0]
    return database_now


async def _sweep(connections: Connections, statement: str, *bounds: bytes | int) -> None:
    """Run a statement that deletes at most `_SWEEP_ROWS` rows, until it finds fewer.

    It runs at most `_SWEEP_PARTS` times. Rows that are left then wait for the next round.
    """
    for _ in range(_SWEEP_PARTS):
        deleted = await connections.run(statement, [*bounds, _SWEEP_ROWS])
        if len(deleted) < _SWEEP_ROWS:
            return
        await asyncio.sleep(0)


def new_history_id() -> int:
    """Return a random id for a history of sequences, from 1 to 2^63 - 1."""
    return int.from_bytes(os.urandom(8), "big") >> 1 | 1


LONGEST_LIFE_S = 86_400
"""The longest lifetime of a token that any setting allows."""


class _PostgresStore:
    """A store in a PostgreSQL database.

    Reads and commits use separate connections.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        longest_life_s: int = LONGEST_LIFE_S,
        may_be_moved: bool = False,
    ) -> None:
        """Prepare a store without connecting to the database.

        Connections are opened when they are needed. The first one creates missing tables, so the
        role must be allowed to do that once.

        Args:
            url: `postgresql://user@host/database?…`; a parameter that the client does not know is a
                setting of the session. It may contain a password and is never part of a message.
            clock: compared with the database's, which decides what is old (ST9); None for the
                system's.
            longest_life_s: how long before its expiry a token may be used.
            may_be_moved: also open a store that was moved; it can only be read (ST12).

        Raises:
            Nothing here. A read or commit raises SchemaMismatch when the tables are of another
                version, and StoreMoved when the store was moved.
        """
        self._may_be_moved = may_be_moved
        self._clock = DatabaseClock(clock or SystemClock())
        self._longest_life_s = longest_life_s
        self._is_prepared = False
        self._reading = Connections(
            url, size=READ_CONNECTIONS, session={"synchronous_commit": "off"}, opened=self._prepare
        )
        self._committing = Connections(
            url, size=COMMIT_CONNECTIONS, session={}, opened=self._prepare_commits
        )
        self._reads = Reads(self._reading)
        self._commits = Commits(self._committing, self._clock)
        self._housekeeping: asyncio.Task[None] | None = None
        self._closed = False

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        self._begin_use()
        return await self._reads.read(keys, replay_record, ranges, follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        self._begin_use()
        if not self._is_prepared:
            # Any statement opens a connection, which compares the clocks (`_prepare`). So they are
            # compared before the first row is written (ST9).
            with convert_database_errors():
                await ask_time(self._committing)
        return await self._commits.commit(commit)

    def pools(self) -> dict[str, PoolUse]:
        return {"read": self._reading.use(), "commit": self._committing.use()}

    async def are_bodies_locked(self) -> bool:
        self._begin_use()
        with convert_database_errors():
            free_rows = await self._reading.run(ARE_BODIES_FREE, [])
        return not free_rows

    async def clocks(self) -> Clocks:
        self._begin_use()
        with convert_database_errors():
            await self._clock.compare(ask_time(self._reading))
            floor_rows = await self._reading.run(READ_VALUE, [REPLAY_FLOOR_KEY])
        floor = floor_rows[0]["v"] if floor_rows else b""
        return Clocks(self._clock.ahead_s, acceptance_delay_s(floor, self._clock.now()))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        await asyncio.gather(self._reading.close(), self._committing.close())
        await asyncio.gather(self._reads.close(), self._commits.close())

    def _begin_use(self) -> None:
        """Raise StoreUnavailable if the store is closed. The first use starts the housekeeping."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._housekeeping is None:
            self._housekeeping = asyncio.get_running_loop().create_task(self._do_housekeeping())

    async def _prepare(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Compare the clocks over a new connection, and before the first use prepare the tables."""
        if not self._is_prepared:
            await prepare_tables(connection, may_be_moved=self._may_be_moved)
        await self._clock.compare(connection.fetchval(DATABASE_TIME))
        self._is_prepared = True

    async def _prepare_commits(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Prepare a new connection, and begin a history of sequences for another server (ST24)."""
        await self._prepare(connection)
        if self._may_be_moved:
            return  # the store is only read
        server_start: int | None = None
        with suppress(asyncpg.PostgresError):  # a database without this function
            server_start = await connection.fetchval(START_OF_SERVER)
        begins_history = True
        if server_start is not None:
            begins_history = server_start != await connection.fetchval(HISTORY_OF_SERVER)
        if begins_history:
            # Without waiting for a standby: the commits that follow come after it in the log, so no
            # server has them without it. A server that takes over begins a history of its own.
            async with connection.transaction():
                await connection.execute(DO_NOT_WAIT)
                await connection.execute(BEGIN_HISTORY, new_history_id(), server_start or 0)

    async def _do_housekeeping(self) -> None:
        """Delete expired rows every minute.

        The first round starts after a random delay, which keeps several processes from starting at
        the same time.
        """
        await pause(HOUSEKEEPING_S)
        while True:
            with suppress(StoreError, OSError, asyncpg.InterfaceError):
                try:
                    await do_housekeeping(
                        self._committing, self._clock, longest_life_s=self._longest_life_s
                    )
                except asyncpg.PostgresError as exc:
                    # not the message, which might quote a row
                    _log.warning("housekeeping failed: %s", exc.sqlstate)
            await asyncio.sleep(HOUSEKEEPING_S)


open_postgres = _PostgresStore
