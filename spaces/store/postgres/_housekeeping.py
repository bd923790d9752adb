"""What one of the processes that share a database does every minute: remove expired claims and old tombstones.

All of it uses the database's clock, and a process whose own differs leaves it to the others (ST9). A floor is raised a
minute before the rows below it are deleted: otherwise a statement that began before the floor was raised could miss a
row that is already deleted and take its claim for a first use.

A floor ahead of the database's clock was raised by a clock that was ahead, by an earlier version or before the
database's own was set back, and would refuse tokens until then. It is lowered once everything that can have been
forgotten early has expired: when it was seen unchanged for the longest lifetime of a claimed token.
"""

import asyncio
import logging
import os
from typing import Final

from ...keyspace import CLAIM_FLOOR_KEY, CLAIMS_PREFIX
from ..lmdb._housekeeping import HOUSEKEEPING_S, TOMBSTONE_MINUTES
from ._clock import DatabaseClock
from ._pool import Connections
from ._statements import (
    DATABASE_TIME,
    FORGET_STUCK_FLOORS,
    LOWER_FLOOR,
    NOTE_STUCK_FLOOR,
    RAISE_FLOOR,
    READ_VALUE,
    SWEEP_TOMBSTONES,
    TURN_OF_HOUSEKEEPING,
    sweep_statement,
)

# Claims are kept for this long after their expiry: more than the clocks of processes that share a store may be behind.
_CLAIM_GRACE_MINUTES: Final = 2
_SWEEP_ROWS: Final = 1000
_SWEEP_PARTS: Final = 50
# A little less than a round, or every second round would be skipped.
_TURN_AFTER_S: Final = int(HOUSEKEEPING_S) - 5
_LOG: Final = logging.getLogger(__name__)


async def do_housekeeping(connections: Connections, clock: DatabaseClock, *, longest_life_s: int) -> bool:
    """Do one round unless another process did it or this one's clock is wrong; return whether it was done.

    Args:
        connections: to the database.
        clock: compared again.
        longest_life_s: how long before its expiry a token may be claimed.

    Raises:
        StoreUnavailable, asyncpg.PostgresError, OSError: the database failed; the next round continues.
    """
    await clock.compare(lambda: ask_time(connections))
    if clock.is_apart:
        _LOG.warning("no housekeeping: this clock is %d s ahead of the database's", round(clock.ahead_s))
        return False
    turn = await connections.run(TURN_OF_HOUSEKEEPING, [_TURN_AFTER_S])
    if not turn:
        return False
    now: int = turn[0][0]
    before_minute = max(now // 60 - _CLAIM_GRACE_MINUTES, 0)
    await _sweep_claims(connections, before_minute, now=now, longest_life_s=longest_life_s)
    await _sweep_tombstones(connections, max(before_minute - TOMBSTONE_MINUTES, 0))
    return True


async def ask_time(connections: Connections) -> float:
    """Return the database's epoch seconds; raises as `Connections.run`."""
    database_now: float = (await connections.run(DATABASE_TIME, []))[0][0]
    return database_now


async def _sweep_claims(connections: Connections, before_minute: int, *, now: int, longest_life_s: int) -> None:
    found = await connections.run(READ_VALUE, [CLAIM_FLOOR_KEY])
    floor: bytes = found[0][0][:4] if found else b""
    until = before_minute.to_bytes(4, "big")
    if floor > until:
        if await _is_over(connections, floor, now=now, longest_life_s=longest_life_s):
            await connections.run(LOWER_FLOOR, [CLAIM_FLOOR_KEY, os.urandom(16), until, found[0][0]])
            await connections.run(FORGET_STUCK_FLOORS, [])
        return
    await connections.run(RAISE_FLOOR, [CLAIM_FLOOR_KEY, os.urandom(16), until])
    # The rows below the floor of the previous round.
    await _sweep(connections, sweep_statement("sealspace_claims"), b"", floor)
    await _sweep(connections, sweep_statement("sealspace_map"), CLAIMS_PREFIX, CLAIMS_PREFIX + floor)


async def _is_over(connections: Connections, floor: bytes, *, now: int, longest_life_s: int) -> bool:
    """Whether a floor that is ahead has existed unchanged for the longest lifetime of a claimed token."""
    since: int = (await connections.run(NOTE_STUCK_FLOOR, [f"floor-ahead-{floor.hex()}", now]))[0][0]
    return now >= since + longest_life_s


async def _sweep(connections: Connections, statement: str, low: bytes, high: bytes) -> None:
    for _ in range(_SWEEP_PARTS):
        if len(await connections.run(statement, [low, high, _SWEEP_ROWS])) < _SWEEP_ROWS:
            return
        await asyncio.sleep(0)


async def _sweep_tombstones(connections: Connections, before_minute: int) -> None:
    for _ in range(_SWEEP_PARTS):
        if len(await connections.run(SWEEP_TOMBSTONES, [before_minute, _SWEEP_ROWS])) < _SWEEP_ROWS:
            return
        await asyncio.sleep(0)
