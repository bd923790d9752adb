"""What a worker counts, the resources it uses, and for one worker of a node the contents of the store."""

import asyncio
from collections.abc import AsyncIterator
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
from .series import (
    AUDIT_LAG,
    CACHE_BYTES,
    CACHE_MISSES,
    CLAIM_FLOOR_AHEAD,
    CLOCK_SKEW,
    COLLATERAL_AGE,
    COLLATERAL_DOCUMENTS,
    COLLATERAL_FAILING,
    DATABASE_CONNECTIONS,
    GIVEN_UP,
    INTAKE_BYTES,
    OPEN_CONNECTIONS,
    OTHER,
    REFUSALS,
    RELEASE_REFUSALS,
    RELEASES,
    REQUEST_SECONDS,
    REQUESTS,
    SAMPLING_PERIOD_S,
    STORE_FILES_BYTES,
    ProcessMetrics,
    Series,
)

STORE_PERIOD_S: Final = 15.0


class WorkerMetrics(ProcessMetrics):
    """The `RequestCounter` of one worker; belongs to its event loop's thread."""

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count an answer: its operation, its status, and how long it took until now by `perf_counter_ns`."""
        self.cells[REQUEST_SECONDS, operation].observe((perf_counter_ns() - began_ns) / 1e9)
        self.cells[REQUESTS, operation, f"{status // 100}xx"].inc()

    def refused(self, error: Exception, code: str) -> None:
        """Count an error that became an answer, by the code in the answer."""
        self.cells.get((REFUSALS, code), self.cells[REFUSALS, OTHER]).inc()
        if isinstance(error, ReleaseRefused):
            self.cells[RELEASE_REFUSALS, error.reason].inc()

    def released(self, ground: str) -> None:
        """Count a release that was authorised, and is durable."""
        self.cells[RELEASES, ground].inc()

    def gave_up(self, setting: str) -> None:
        """Count a connection that was not accepted or was ended, by the setting whose limit it reached."""
        self.cells[GIVEN_UP, setting].inc()

    @asynccontextmanager
    async def of(self, services: Services, listener: Listener, *, reads_store: bool) -> AsyncIterator[None]:
        """Measure the worker with these components until the block ends, and the store where it `reads_store`."""
        tasks = [asyncio.create_task(self.keep_sampling())]
        tasks.append(asyncio.create_task(self._keep_sampling_resources(services, listener)))
        if reads_store:
            tasks.append(asyncio.create_task(self.keep_reading_store(services)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_sampling_resources(self, services: Services, listener: Listener) -> None:
        delegations, store, misses_sampled = services.delegations, services.store, 0
        while True:
            self.cells[OPEN_CONNECTIONS, self._process].set(listener.open_connections)
            self.cells[INTAKE_BYTES,].set(services.values.intake_bytes)
            self.cells[CACHE_BYTES,].set(delegations.cache_bytes)
            self.cells[CACHE_MISSES,].inc(delegations.misses - misses_sampled)
            misses_sampled = delegations.misses
            for pool, use in store.pools().items() if isinstance(store, Pooled) else ():
                for state in ("busy", "idle", "waiting"):
                    self.cells[DATABASE_CONNECTIONS, pool, state].set(getattr(use, state))
            await asyncio.sleep(SAMPLING_PERIOD_S)

    async def keep_reading_store(self, services: Services) -> None:
        """Read the store repeatedly until it is cancelled; while the store does not answer, the last numbers remain."""
        while True:
            with suppress(SpaceError):
                await self.read_store(services)
            await asyncio.sleep(STORE_PERIOD_S)

    async def read_store(self, services: Services) -> None:
        """Record what the store contains.

        Raises:
            SpaceError: the store does not answer, or a row does not decode.
        """
        store, now = services.store, services.clock.now()
        states = [state for _, state, _ in await collateral_states(store)]
        held = [state for state in states if not state.is_wish]
        self._set(COLLATERAL_DOCUMENTS, len(held))
        self._set(COLLATERAL_AGE, max([now - state.refreshed_at for state in held], default=0))
        self._set(COLLATERAL_FAILING, len([state for state in states if state.failed]))
        self._set(STORE_FILES_BYTES, counter_of((await store.read((BODIES_COUNTER,))).records[0]))
        unsealed_at = await oldest_unsealed_at(store, chain_of(services), now=now, window_s=DELAYED_S)
        self._set(AUDIT_LAG, 0 if unsealed_at is None else now - unsealed_at)
        if isinstance(store, Clocked):
            clocks = await store.clocks()
            self.cells[CLOCK_SKEW, "ahead"].set(max(clocks.ahead_s, 0))
            self.cells[CLOCK_SKEW, "behind"].set(max(-clocks.ahead_s, 0))
            self._set(CLAIM_FLOOR_AHEAD, clocks.floor_ahead_s)

    def _set(self, series: Series, number: float) -> None:
        self.cells[series,].set(max(int(number), 0))  # a clock that was set back gives no negative age
