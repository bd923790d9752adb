"""The PostgreSQL engine: for nodes on more than one machine, which share one database.

Every read and every commit is one statement in one round trip. The process keeps only the connections: any number of
processes of any number of nodes may have the same database open, and each sees every commit that another has
acknowledged (ST1), because all connect to the leader.

Claims of plain reads are committed without waiting for the disk: when the database's machine crashes, the last of them
may be lost (ST4). Commits wait for whatever the database is configured to wait for; that must be a synchronous standby
where the database may fail over.

The engine has no bound of its own on what is stored; a full disk of the database raises StoreFull. Striped counters
(ST7) are not needed for exactness: each counter is one row, and commits that change it wait for each other.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import asyncpg

from capabilities.ambient import Clock, SystemClock

from ...errors import StoreError, StoreUnavailable
from ...keyspace import CLAIM_FLOOR_KEY, floor_ahead_s
from ..contract import Claim, Commit, Committed, Follow, Range, Refused, Snapshot, Store
from ..lmdb._housekeeping import HOUSEKEEPING_S
from ..observing import Clocks, PoolUse
from ._clock import DatabaseClock
from ._commits import COMMIT_CONNECTIONS, Commits
from ._errors import CONNECTION_ERRORS, store_error_of
from ._housekeeping import ask_time, do_housekeeping
from ._pool import Connections
from ._reads import READ_CONNECTIONS, Reads
from ._schema import prepare_tables
from ._statements import DATABASE_TIME, READ_VALUE

LONGEST_LIFE_S: Final = 86_400
"""Longest life of a token that any setting allows."""
_LOG: Final = logging.getLogger(__name__)


def open_postgres(
    url: str, *, clock: Clock | None = None, longest_life_s: int = LONGEST_LIFE_S, may_be_moved: bool = False
) -> Store:
    """Open a database for reading and writing; connections are made when they are needed.

    The first one makes the tables where they are missing: the role must be allowed to, once.

    Args:
        url: `postgresql://user@host/database?…`; a parameter that the client does not know is a setting of the
            session. May contain a password: it is never part of a message.
        clock: compared with the database's, which decides what is old (ST9); the system's when None.
        longest_life_s: how long before its expiry a token may be claimed.
        may_be_moved: open it also when the store was moved elsewhere; then it can only be read (ST12).

    Raises:
        Nothing here. A read or commit raises SchemaMismatch when the tables are of another version, and StoreMoved when
        the store was moved.
    """
    return _PostgresStore(url, clock or SystemClock(), longest_life_s, may_be_moved=may_be_moved)


class _PostgresStore:
    """Reads and commits, each kind over connections of its own."""

    def __init__(self, url: str, clock: Clock, longest_life_s: int, *, may_be_moved: bool) -> None:
        self._may_be_moved = may_be_moved
        self._clock = DatabaseClock(clock)
        self._longest_life_s = longest_life_s
        self._is_prepared = False
        self._reading = Connections(
            url, size=READ_CONNECTIONS, session={"synchronous_commit": "off"}, opened=self._prepare
        )
        self._committing = Connections(url, size=COMMIT_CONNECTIONS, session={}, opened=self._prepare)
        self._reads = Reads(self._reading)
        self._commits = Commits(self._committing, self._clock)
        self._housekeeping: asyncio.Task[None] | None = None
        self._closed = False

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        claim: Claim | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        self._refuse_closed()
        return await self._reads.read(keys, claim, ranges, follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        self._refuse_closed()
        if not self._is_prepared:
            await self._first_compared()
        return await self._commits.commit(commit)

    async def _first_compared(self) -> None:
        """Make sure that the clocks were compared before the first row is written: new connections compare (ST9)."""
        try:
            await ask_time(self._committing)
        except CONNECTION_ERRORS as exc:
            raise store_error_of(exc) from None

    def pools(self) -> dict[str, PoolUse]:
        return {"read": self._reading.use(), "commit": self._committing.use()}

    async def clocks(self) -> Clocks:
        self._refuse_closed()
        try:
            await self._clock.compare(lambda: ask_time(self._reading))
            found = await self._reading.run(READ_VALUE, [CLAIM_FLOOR_KEY])
        except CONNECTION_ERRORS as exc:
            raise store_error_of(exc) from None
        return Clocks(self._clock.ahead_s, floor_ahead_s(found[0][0] if found else b"", self._clock.now()))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        await asyncio.gather(self._reading.close(), self._committing.close())
        await asyncio.gather(self._reads.close(), self._commits.close())

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._housekeeping is None:
            self._housekeeping = asyncio.get_running_loop().create_task(self._do_housekeeping())

    async def _prepare(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        if not self._is_prepared:
            await prepare_tables(connection, may_be_moved=self._may_be_moved)

        async def ask() -> float:
            database_now: float = await connection.fetchval(DATABASE_TIME)
            return database_now

        await self._clock.compare(ask)
        self._is_prepared = True

    async def _do_housekeeping(self) -> None:
        """Run every minute, at a random time within it: processes that started together do not run together."""
        await asyncio.sleep(random.uniform(0, HOUSEKEEPING_S))  # noqa: S311  # spreads load, not for secrets
        while True:
            with suppress(StoreError, OSError, asyncpg.InterfaceError):
                try:
                    await do_housekeeping(self._committing, self._clock, longest_life_s=self._longest_life_s)
                except asyncpg.PostgresError as exc:
                    _LOG.warning("housekeeping failed: %s", exc.sqlstate)  # the message might quote a row
            await asyncio.sleep(HOUSEKEEPING_S)
