"""Metrics of a worker process.

One worker of each node also records metrics of the store.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from spaces.audit.audit_chain import oldest_unsealed_at
from spaces.documents.collateral_rows import collateral_states
from spaces.keyspace import BODIES_COUNTER
from spaces.root_secret_row import read_root_secret
from spaces.space_errors import SpaceError
from spaces.store.contract import Store, counter_of, read_row
from spaces.store.observing import SharedStore

from ..counts import RequestCounter
from ..housekeeping.seal_audit import DELAYED_S, chain_of
from ..http.listener import Listener
from ..services import Services
from .network_key_ages import NetworkKeyAges, read_key_ages
from .series import SAMPLING_PERIOD_S, ProcessMetrics

STORE_PERIOD_S = 15.0
NETWORKS_PERIOD_S = 3600.0
"""How often all networks are read. In between, the ages of the known keys grow."""


class WorkerMetrics(ProcessMetrics, RequestCounter):
    """The metrics of one worker process."""

    _key_ages = NetworkKeyAges()
    _networks_read_at = float("-inf")

    @asynccontextmanager
    async def recording(
        self, services: Services, listener: Listener, *, reads_store: bool
    ) -> AsyncIterator[None]:
        """Record the metrics of a worker during an `async with` block.

        With `reads_store`, the metrics of the store are recorded too.
        """
        loops = [self.keep_sampling(), self._keep_sampling_resources(services, listener)]
        if reads_store:
            loops.append(self.keep_store_metrics_current(services))
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_sampling_resources(self, services: Services, listener: Listener) -> None:
        delegations = services.delegations
        store = services.store
        # The cache counts misses since its start, and the metric is a sum over all processes. Each
        # sample adds the misses since the last one.
        misses_already_added = 0
        while True:
            self.cell("sealspace_open_connections", self._process).set(listener.open_connections)
            self._set("sealspace_feed_waits", services.waits.taken)
            self._set("sealspace_intake_bytes", services.values.intake.held_bytes)
            self._set("sealspace_delegation_cache_bytes", delegations.memory_bytes)
            self.cell("sealspace_delegation_cache_misses_total").inc(
                delegations.misses - misses_already_added
            )
            misses_already_added = delegations.misses
            if isinstance(store, SharedStore):
                self._set_database_connections(store)
            await asyncio.sleep(SAMPLING_PERIOD_S)

    def _set_database_connections(self, store: SharedStore) -> None:
        for pool, connections_by_state in store.pools().items():
            for state, count in connections_by_state._asdict().items():
                self.cell("sealspace_database_connections", pool, state).set(count)

    async def keep_store_metrics_current(self, services: Services) -> None:
        """Record the metrics of the store periodically.

        If the store cannot be read, the last values remain.
        """
        while True:
            with suppress(SpaceError):
                await self.update_store_metrics(services)
            await asyncio.sleep(STORE_PERIOD_S)

    async def update_store_metrics(self, services: Services) -> None:
        """Read the store, and update the metrics computed from it."""
        store = services.store
        now = services.now()
        states = [state for _, state, _ in await collateral_states(store)]
        stored = [state for state in states if not state.is_missing]
        self._set("sealspace_collateral_documents", len(stored))
        self._set(
            "sealspace_collateral_age_seconds",
            max([now - state.refreshed_at for state in stored], default=0),
        )
        self._set("sealspace_collateral_failing", len([state for state in states if state.failed]))
        self._set("sealspace_store_files_bytes", counter_of(await read_row(store, BODIES_COUNTER)))
        root_secret = await read_root_secret(store)
        if root_secret is not None:
            self._set("sealspace_root_secret_age_seconds", now - root_secret.row.since)
        await self._set_network_key_ages(store, now)
        unsealed_at = await oldest_unsealed_at(
            store, chain_of(services), now=now, window_s=DELAYED_S
        )
        self._set("sealspace_audit_lag_seconds", 0 if unsealed_at is None else now - unsealed_at)
        if isinstance(store, SharedStore):
            clocks = await store.clocks()
            self.cell("sealspace_clock_skew_seconds", "ahead").set(max(clocks.ahead_s, 0))
            self.cell("sealspace_clock_skew_seconds", "behind").set(max(-clocks.ahead_s, 0))
            self._set("sealspace_claim_floor_ahead_seconds", clocks.acceptance_delay_s)

    async def _set_network_key_ages(self, store: Store, now: float) -> None:
        # Reading each network every time would cost a large store a page of reads each second. A
        # clock that was set back must not stop the reading.
        if abs(now - self._networks_read_at) >= NETWORKS_PERIOD_S:
            self._key_ages = await read_key_ages(store)
            self._networks_read_at = now
        self._set("sealspace_network_key_age_seconds", self._key_ages.oldest_age_s(now))
        for name, count in self._key_ages.networks_by_class(now).items():
            self.cell("sealspace_networks", name).set(count)

    def _set(self, series: str, number: float) -> None:
        # A clock that was set back would give a negative age.
        self.cell(series).set(max(int(number), 0))
