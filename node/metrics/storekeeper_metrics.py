"""Metrics of the storekeeper, the process that writes to the store."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from spaces.space_errors import StoreError
from spaces.store.contract import Committed, Refused

from .series import ProcessMetrics

_OUTCOME_NAMES: dict[type, str] = {Committed: "committed", Refused: "refused"}


class StorekeeperMetrics(ProcessMetrics):
    """The metrics of the storekeeper process.

    The class implements `spaces.store.observing.Observer`.
    """

    def start(self) -> None:
        """Start recording the metrics of the storekeeper process."""
        self._sampling = asyncio.create_task(self.keep_sampling())

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Count the commits of a batch by outcome."""
        names = [_OUTCOME_NAMES.get(type(outcome), "failed") for outcome in outcomes]
        counts = Counter(names)
        for outcome, count in counts.items():
            self.cell("sealspace_commits_total", outcome).inc(count)
        if "committed" in counts:
            self.cell("sealspace_batch_commits").observe(counts["committed"])

    def synced(self, took_ns: int) -> None:
        """Record how long it took to write and sync a transaction."""
        self.cell("sealspace_sync_seconds").observe(took_ns / 1e9)

    def used(self, used_bytes: int) -> None:
        """Record the size of the store in bytes."""
        self.cell("sealspace_store_used_bytes").set(used_bytes)
