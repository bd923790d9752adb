"""Connections to the database: few, opened when needed, passed on in the order in which they were requested.

This is a pool of our own because a reset of the session after each use would double the round trips. Nothing here
changes the session, so there is nothing to reset.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import asyncpg

from ...errors import StoreUnavailable
from ..observing import PoolUse
from ._errors import CONNECTION_ERRORS, Meaning, meaning_of

RECONNECT_WITHIN_S: Final = 2.0
ANSWER_WITHIN_S: Final = 10.0
LONGEST_PAUSE_S: Final = 0.02  # before a statement is sent again
_FIRST_DELAY_S: Final = 0.005
_LONGEST_DELAY_S: Final = 0.2
_CLOSE_WITHIN_S: Final = 1.0
_SESSION: Final = {
    "application_name": "sealspace",
    "default_transaction_isolation": "read committed",
    "statement_timeout": f"{int(ANSWER_WITHIN_S * 1000)}",
}
# One plan for each statement, by the primary key: a plan made while the tables were small would otherwise be kept and
# scan them. These are only hints; a database that does not know one ignores it.
_PLANNING: Final = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "jit = off",
)

Argument: TypeAlias = Sequence[bytes | int | None] | bytes | str | int | None
Opened: TypeAlias = "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]]"


class Connections:
    """Up to `size` connections of one kind. Belongs to the event loop of its first use."""

    def __init__(self, url: str, *, size: int, session: Mapping[str, str], opened: Opened) -> None:
        """Remember how to connect; `opened` is awaited with every new connection before it is used."""
        self._url = url
        self._size = size
        self._session = {**_SESSION, **session}
        self._opened = opened
        self._idle: list[asyncpg.Connection[asyncpg.Record]] = []
        self._all: set[asyncpg.Connection[asyncpg.Record]] = set()
        self._taken = 0  # connections, and places in which one is being opened
        self._waiting: deque[asyncio.Future[asyncpg.Connection[asyncpg.Record] | None]] = deque()
        self._is_away = False
        self._closed = False

    async def run(self, statement: str, arguments: Sequence[Argument]) -> "list[asyncpg.Record]":
        """Run one statement in one round trip.

        Raises:
            StoreUnavailable: no connection was available and nothing was sent; or the store was closed meanwhile.
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: see `_errors.meaning_of`.
        """
        connection = await self._take()
        keep = False
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            keep = True
        except asyncpg.PostgresError as exc:
            keep = meaning_of(exc) is not Meaning.LOST
            raise
        except AttributeError:
            # Closed between preparing and executing: the client then looks for something it has already released.
            if not self._closed:
                raise
            raise StoreUnavailable("the store is closed") from None
        finally:
            self._give_back(connection, keep=keep)
        return rows

    def use(self) -> PoolUse:
        """Return how the connections are used now."""
        return PoolUse(busy=self._taken, idle=len(self._idle), waiting=len(self._waiting))

    async def close(self) -> None:
        """Close the connections; statements under way fail."""
        self._closed = True
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
        for connection in self._all - set(self._idle):
            connection.terminate()
        await asyncio.gather(*[_close(connection) for connection in self._idle])
        self._idle.clear()
        self._all.clear()

    async def _take(self) -> "asyncpg.Connection[asyncpg.Record]":
        while not self._closed:
            if self._idle:
                connection = self._idle.pop()
                self._taken += 1
                if not connection.is_closed():
                    return connection
                self._give_back(connection, keep=False)
                continue
            if self._taken < self._size:
                return await self._open()
            place: asyncio.Future[asyncpg.Connection[asyncpg.Record] | None]
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            handed = await place
            if handed is not None:
                return handed
        raise StoreUnavailable("the store is closed")

    def _give_back(self, connection: "asyncpg.Connection[asyncpg.Record]", *, keep: bool) -> None:
        self._taken -= 1
        if not keep or self._closed or connection.is_closed():
            connection.terminate()
            self._all.discard(connection)
            self._wake()
            return
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(connection)
                return
        self._idle.append(connection)

    def _wake(self) -> None:
        """Let the first waiter try to open a connection in the place that became free."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return

    async def _open(self) -> "asyncpg.Connection[asyncpg.Record]":
        self._taken += 1
        try:
            connection = await self._connect_within(0.0 if self._is_away else RECONNECT_WITHIN_S)
        except BaseException:
            self._taken -= 1
            self._wake()
            raise
        self._all.add(connection)
        return connection

    async def _connect_within(self, seconds: float) -> "asyncpg.Connection[asyncpg.Record]":
        """Try until it works or time is up; while the database is known to be down, try once and fail at once."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        delay_s = _FIRST_DELAY_S
        while not self._closed:
            try:
                connection = await self._connect()
            except CONNECTION_ERRORS as exc:
                if loop.time() >= give_up_at:
                    self._is_away = True
                    reason = getattr(exc, "sqlstate", None) or type(exc).__name__
                    raise StoreUnavailable(f"the database cannot be reached ({reason})") from None
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
                continue
            self._is_away = False
            return connection
        raise StoreUnavailable("the store is closed")

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await asyncpg.connect(
            self._url,
            timeout=RECONNECT_WITHIN_S,
            command_timeout=ANSWER_WITHIN_S,
            max_cached_statement_lifetime=0,  # statements stay prepared as long as the connection exists
            server_settings=self._session,
            target_session_attrs="read-write",  # ST1: the leader, never a standby
        )
        try:
            for hint in _PLANNING:
                with suppress(asyncpg.PostgresError):
                    await connection.execute(f"set {hint}")
            await self._opened(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def _close(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    try:
        await connection.close(timeout=_CLOSE_WITHIN_S)
    except CONNECTION_ERRORS:
        connection.terminate()
