"""Metrics of the storekeeper, the process that writes to the store."""

import asyncio
from collections.abc import Sequence

from spaces.space_errors import StoreError
from spaces.store.contract import Committed, Refused

from .series import ProcessMetrics


class StorekeeperMetrics(ProcessMetrics):
    """The metrics of the storekeeper process.

    The class implements `spaces.store.observing.Observer`.
    """

    def start(self) -> None:
        """Start recording the metrics of the storekeeper process."""
        self._sampling = asyncio.create_task(self.keep_sampling())

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Count the commits of a batch by outcome."""
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
        """Record the size of the store in bytes."""
        self.cells["sealspace_store_used_bytes",].set(used_bytes)
