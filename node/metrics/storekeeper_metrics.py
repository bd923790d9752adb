"""Metrics of the storekeeper process, which writes batches of commits to the store."""

import asyncio
from collections.abc import Sequence

from spaces.space_errors import StoreError
from spaces.store.contract import Committed, Refused

from .series import ProcessMetrics


class StorekeeperMetrics(ProcessMetrics):
    """The storekeeper's metrics. The class implements `spaces.store.observing.Observer`."""

    def start(self) -> None:
        """Start recording process metrics on the storekeeper's event loop."""
        self._sampling = asyncio.create_task(self.keep_sampling())

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Count the commits of a batch by outcome, as committed, refused or failed."""
        committed = sum([isinstance(outcome, Committed) for outcome in outcomes])
        refused = sum([isinstance(outcome, Refused) for outcome in outcomes])
        self.cells["sealspace_commits_total", "committed"].inc(committed)
        self.cells["sealspace_commits_total", "refused"].inc(refused)
        self.cells["sealspace_commits_total", "failed"].inc(len(outcomes) - committed - refused)
        if committed:
            self.cells["sealspace_batch_commits",].observe(committed)

    def synced(self, took_ns: int) -> None:
        """Record how long it took to write and sync a transaction."""
        self.cells["sealspace_sync_seconds",].observe(took_ns / 1e9)

    def used(self, used_bytes: int) -> None:
        """Record how many bytes the rows of the store use."""
        self.cells["sealspace_store_used_bytes",].set(used_bytes)
