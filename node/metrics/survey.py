"""What is worth watching in the store: read by one worker, with a few small reads every quarter of a minute."""

import asyncio
from contextlib import suppress
from typing import Final

from spaces.audit.chain import oldest_unsealed_at
from spaces.documents.collateral import collateral_states
from spaces.errors import SpaceError
from spaces.keyspace import BODIES_COUNTER
from spaces.store.contract import counter_of
from spaces.store.observing import Clocked

from ..housekeeping.seal_audit import DELAYED_S, chain_of
from ..services import Services
from .series import (
    AUDIT_LAG,
    CLAIM_FLOOR_AHEAD,
    CLOCK_SKEW,
    COLLATERAL_AGE,
    COLLATERAL_DOCUMENTS,
    COLLATERAL_FAILING,
    STORE_FILES_BYTES,
)
from .table import Row

PERIOD_S: Final = 15.0


async def keep_surveying(services: Services, row: Row) -> None:
    """Survey repeatedly until it is cancelled; while the store does not answer, the last numbers remain."""
    while True:
        with suppress(SpaceError):
            await survey(services, row)
        await asyncio.sleep(PERIOD_S)


async def survey(services: Services, row: Row) -> None:
    """Survey the store once.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    store, now = services.store, services.clock.now()
    states = [state for _, state, _ in await collateral_states(store)]
    held = [state for state in states if not state.is_wish]
    row[COLLATERAL_DOCUMENTS.start] = len(held)
    row[COLLATERAL_AGE.start] = _whole(max([now - state.refreshed_at for state in held], default=0))
    row[COLLATERAL_FAILING.start] = len([state for state in states if state.failed])
    row[STORE_FILES_BYTES.start] = _whole(counter_of((await store.read((BODIES_COUNTER,))).records[0]))
    unsealed_at = await oldest_unsealed_at(store, chain_of(services), now=now, window_s=DELAYED_S)
    row[AUDIT_LAG.start] = 0 if unsealed_at is None else _whole(now - unsealed_at)
    if isinstance(store, Clocked):
        clocks = await store.clocks()
        row[CLOCK_SKEW.cell("ahead")] = _whole(clocks.ahead_s * CLOCK_SKEW.unit)
        row[CLOCK_SKEW.cell("behind")] = _whole(-clocks.ahead_s * CLOCK_SKEW.unit)
        row[CLAIM_FLOOR_AHEAD.start] = _whole(clocks.floor_ahead_s)


def _whole(number: float) -> int:
    return max(int(number), 0)  # a clock that was set back must not fail the survey
