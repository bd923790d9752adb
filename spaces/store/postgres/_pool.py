"""A database connection pool that reconnects automatically.

While the database is down, requests fail fast.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import asyncpg

from ...space_errors import StoreUnavailable
from ..observing import PoolUse
from ._errors import CONNECTION_ERRORS, ErrorGroup, error_group_of

RECONNECT_WITHIN_S = 2.0
ANSWER_WITHIN_S = 10.0
_FIRST_DELAY_S = 0.005
_LONGEST_DELAY_S = 0.2
_SESSION = {"application_name": "sealspace", "default_transaction_isolation": "read committed"}
# One plan for each statement, by the primary key. Otherwise a plan made while the tables were small
# would be kept, and would scan them when they are large. A setting that the database does not know
# is left out.
_PLANNING = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "jit = off",
)

Argument = Sequence[bytes | int | None] | bytes | str | int | None


class Connections:
    """A pool of database connections.

    It has up to `size` connections, and is bound to the event loop that first uses it.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int,
        session: Mapping[str, str],
        opened: "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]]",
    ) -> None:
        """Create a pool without any connections.

        Connections are opened when they are needed.

        `opened` is awaited with every new connection before it is used.
        """
        self._url = url
        self._size = size
        timeout = f"{int(ANSWER_WITHIN_S * 1000)}"
        self._session = {**_SESSION, "statement_timeout": timeout, **session}
        self._opened = opened
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._running = 0  # statements that run or wait for a connection
        self._is_down = False
        self._closed = False

    async def run(self, statement: str, arguments: Sequence[Argument]) -> "list[asyncpg.Record]":
        """Run one SQL statement."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._pool is None:
            self._pool = self._new_pool()
            await self._pool  # opens nothing yet
        self._running += 1
        try:
            async with self._pool.acquire() as connection:
                if self._closed:  # while this statement waited for the connection
                    raise StoreUnavailable("the store is closed")
                try:
                    rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
                except BaseException as exc:
                    if _may_still_run(exc):
                        connection.terminate()  # the next statement must not get its result
                    raise
                return rows
        except (AttributeError, asyncpg.InterfaceError):
            # The client raises AttributeError if the pool is closed between preparing and
            # executing a statement.
            if not self._closed:
                raise
            raise StoreUnavailable("the store is closed") from None
        finally:
            self._running -= 1

    def _new_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        return asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._size,
            max_queries=sys.maxsize,
            max_inactive_connection_lifetime=0,
            connect=self._connect_with_retries,
            # No statement changes the session. Resetting it after each use would double the round
            # trips.
            reset=_keep_session,
        )

    def use(self) -> PoolUse:
        """Return the current usage of the pool."""
        return PoolUse(
            busy=min(self._running, self._size),
            idle=0 if self._pool is None else self._pool.get_idle_size(),
            waiting=max(0, self._running - self._size),
        )

    async def close(self) -> None:
        """Close all connections.

        Statements that are still running fail.
        """
        self._closed = True
        if self._pool is not None:
            self._pool.terminate()
        await asyncio.sleep(0)  # the transports close in the next iteration of the loop

    async def _connect_with_retries(
        self, url: str, **pool_options: object
    ) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect to the database, with retries until a time limit.

        While the database is known to be down, try once, so that requests fail at once.
        """
        loop = asyncio.get_running_loop()
        retries_s = 0.0 if self._is_down else RECONNECT_WITHIN_S
        give_up_at = loop.time() + retries_s
        delay_s = _FIRST_DELAY_S
        while not self._closed:
            try:
                connection = await self._connect(url, **pool_options)
            except CONNECTION_ERRORS as exc:
                if loop.time() >= give_up_at:
                    self._is_down = True
                    reason = getattr(exc, "sqlstate", None) or type(exc).__name__
                    raise StoreUnavailable(f"the database cannot be reached ({reason})") from None
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
            else:
                self._is_down = False
                return connection
        raise StoreUnavailable("the store is closed")

    async def _connect(
        self, url: str, **pool_options: object
    ) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await asyncpg.connect(
            url,
            timeout=RECONNECT_WITHIN_S,
            command_timeout=ANSWER_WITHIN_S,
            # keep statements prepared as long as the connection exists
            max_cached_statement_lifetime=0,
            server_settings=self._session,
            target_session_attrs="read-write",  # ST1: the leader, never a standby
            **pool_options,
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


async def pause(longest_s: float = 0.02) -> None:
    """Sleep for a short random time before a retry.

    The time is at most `longest_s` seconds. The random delay keeps conflicting processes from
    retrying at the same time.
    """
    await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311  # not for secrets


async def _keep_session(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Leave the session as it is."""


def _may_still_run(error: BaseException) -> bool:
    """Return whether a statement that ended with an error may still run on the server.

    It does not if the server has reported the error.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return True
    return error_group_of(error) is ErrorGroup.LOST
