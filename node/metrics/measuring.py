"""Measuring a worker: its pulse, its use of resources, and for one worker of a node the contents of the store."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter_ns
from typing import Final

from encryption_network.errors import ReleaseRefused
from spaces.audit.chain import oldest_unsealed_at
from spaces.documents.collateral import collateral_states
from spaces.errors import SpaceError
from spaces.keyspace import BODIES_COUNTER
from spaces.store.contract import counter_of
from spaces.store.observing import Clocked, Pooled

from ..counts import Operation
from ..housekeeping.seal_audit import DELAYED_S, chain_of
from ..http.listener import Listener
from ..services import Services
from .pulse import Pulse
from .series import (
    AUDIT_LAG,
    BOUND,
    CACHE_BYTES,
    CACHE_MISSES,
    CLAIM_FLOOR_AHEAD,
    CLOCK_SKEW,
    CODE,
    COLLATERAL_AGE,
    COLLATERAL_DOCUMENTS,
    COLLATERAL_FAILING,
    DATABASE_CONNECTIONS,
    GIVEN_UP,
    GROUND,
    INTAKE_BYTES,
    OPEN_CONNECTIONS,
    OPERATION,
    OTHER,
    REASON,
    REFUSALS,
    RELEASE_REFUSALS,
    RELEASES,
    REQUEST_SECONDS,
    STORE_FILES_BYTES,
)
from .table import Row, Table

_BOUNDS: Final = REQUEST_SECONDS.bounds
_WIDTH: Final = REQUEST_SECONDS.width
_SUM: Final = _WIDTH - 1
# Where an operation's cells would begin if the classes of status started at 0; the first is 2.
_ANSWERED: Final = {name: REQUEST_SECONDS.cell(name, "2xx") - 2 * _WIDTH for name in OPERATION.values}
_REFUSED: Final = {code: REFUSALS.cell(code) for code in CODE.values}
_RELEASED: Final = {ground: RELEASES.cell(ground) for ground in GROUND.values}
_WITHHELD: Final = {reason: RELEASE_REFUSALS.cell(reason) for reason in REASON.values}
_GIVEN_UP: Final = {setting: GIVEN_UP.cell(setting) for setting in BOUND.values}


class Tally:
    """Counts into the row of one worker; belongs to its event loop's thread."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        self._row = row

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count an answer: its operation, its status, and how long it took until now by `perf_counter_ns`."""
        row, took_ns = self._row, perf_counter_ns() - began_ns
        cell = _ANSWERED[operation] + status // 100 * _WIDTH
        row[cell + bisect_left(_BOUNDS, took_ns)] += 1
        row[cell + _SUM] += took_ns

    def refused(self, error: Exception, code: str) -> None:
        """Count an error that became an answer, by the code in the answer."""
        self._row[_REFUSED.get(code, _REFUSED[OTHER])] += 1
        if isinstance(error, ReleaseRefused):
            self._row[_WITHHELD[error.reason]] += 1

    def released(self, ground: str) -> None:
        """Count a release that was authorised, and is durable."""
        self._row[_RELEASED[ground]] += 1

    def gave_up(self, setting: str) -> None:
        """Count a connection that was not accepted or was ended, by the setting whose limit it reached."""
        self._row[_GIVEN_UP[setting]] += 1


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


class Measuring:
    """The row of one worker, and what is written into it."""

    def __init__(self, descriptor: int, at: int, *, surveys: bool) -> None:
        """Open the table behind a descriptor, and the worker's row in it.

        Args:
            descriptor: of the table; inherited.
            at: the row.
            surveys: whether this worker surveys the store for the whole node; one worker does.
        """
        self._row = Table(descriptor).row(at)
        self._surveys = surveys
        self.tally = Tally(self._row)

    @asynccontextmanager
    async def of(self, services: Services, listener: Listener) -> AsyncIterator[None]:
        """Measure the worker with these components until the block ends."""
        pulse = Pulse(self._row, _holdings(services, listener, self._row))
        pulse.start()
        surveying = asyncio.create_task(keep_surveying(services, self._row)) if self._surveys else None
        try:
            yield
        finally:
            pulse.stop()
            if surveying is not None:
                surveying.cancel()
                await asyncio.gather(surveying, return_exceptions=True)


def _holdings(services: Services, listener: Listener, row: Row) -> Callable[[], None]:
    """Return a function that records the resources this worker uses."""
    misses_sampled = 0

    def sample() -> None:
        nonlocal misses_sampled
        delegations = services.delegations
        row[OPEN_CONNECTIONS.start] = listener.open_connections
        row[INTAKE_BYTES.start] = services.values.intake_bytes
        row[CACHE_BYTES.start] = delegations.cache_bytes
        row[CACHE_MISSES.start] += delegations.misses - misses_sampled
        misses_sampled = delegations.misses
        if isinstance(services.store, Pooled):
            for pool, use in services.store.pools().items():
                row[DATABASE_CONNECTIONS.cell(pool, "busy")] = use.busy
                row[DATABASE_CONNECTIONS.cell(pool, "idle")] = use.idle
                row[DATABASE_CONNECTIONS.cell(pool, "waiting")] = use.waiting

    return sample
