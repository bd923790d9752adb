"""What one process of all that share a database does every minute: forget expired claims and old tombstones.

A floor is raised a minute before what lies below it is deleted, so that no statement that began before the floor was
raised meets a row that is already gone and takes its claim for a first use.
"""

import asyncio
import os
from typing import Final

from capabilities.ambient import Clock

from ..keyspace import CLAIM_FLOOR_KEY, CLAIMS_PREFIX
from ._housekeeping import CLAIM_GRACE_MINUTES, HOUSEKEEPING_S, TOMBSTONE_MINUTES
from ._postgres_pool import Connections
from ._postgres_sql import RAISE_FLOOR, READ_VALUE, SWEEP_TOMBSTONES, TURN_OF_HOUSEKEEPING, sweep_statement

_SWEEP_ROWS: Final = 1000
_SWEEP_PARTS: Final = 50
# A little less than a round, or every second one would be left out.
_TURN_AFTER_S: Final = int(HOUSEKEEPING_S) - 5


async def keep_house(connections: Connections, clock: Clock) -> bool:
    """Do one round unless another process did it; return whether it was done.

    Raises:
        StoreUnavailable, asyncpg.PostgresError, OSError: the database failed; the next round goes on.
    """
    now = int(clock.now())
    if not await connections.run(TURN_OF_HOUSEKEEPING, [now, _TURN_AFTER_S]):
        return False
    before_minute = max(now // 60 - CLAIM_GRACE_MINUTES, 0)
    await _sweep_claims(connections, before_minute)
    await _sweep_tombstones(connections, max(before_minute - TOMBSTONE_MINUTES, 0))
    return True


async def _sweep_claims(connections: Connections, before_minute: int) -> None:
    found = await connections.run(READ_VALUE, [CLAIM_FLOOR_KEY])
    floor: bytes = found[0][0] if found else b""
    await connections.run(RAISE_FLOOR, [CLAIM_FLOOR_KEY, os.urandom(16), before_minute.to_bytes(4, "big")])
    # What lies below the floor of the round before.
    await _sweep(connections, sweep_statement("sealspace_claims"), b"", floor)
    await _sweep(connections, sweep_statement("sealspace_map"), CLAIMS_PREFIX, CLAIMS_PREFIX + floor)


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
