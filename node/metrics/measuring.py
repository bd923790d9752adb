"""Measuring a worker: its pulse, its use of resources, and for one worker of a node the contents of the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from spaces.store.observing import Pooled

from ..http.listener import Listener
from ..services import Services
from .pulse import Pulse
from .series import CACHE_BYTES, CACHE_MISSES, DATABASE_CONNECTIONS, INTAKE_BYTES, OPEN_CONNECTIONS
from .survey import keep_surveying
from .table import Row, Table
from .tally import Tally


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
