"""What the storekeeper counts, once for each batch of commits."""

from collections.abc import Sequence
from typing import Final

from spaces.errors import StoreError
from spaces.store.contract import Committed, Refused

from .pulse import Pulse
from .series import BATCH_COMMITS, COMMITS, STORE_USED_BYTES, SYNC_SECONDS
from .table import Table, observe

_COMMITTED: Final = COMMITS.cell("committed")
_REFUSED: Final = COMMITS.cell("refused")
_FAILED: Final = COMMITS.cell("failed")


class CommitTally:
    """Counts into the row of the storekeeper; see `spaces.store.observing`."""

    def __init__(self, descriptor: int, at: int) -> None:
        """Open the table behind a descriptor, and the storekeeper's row in it."""
        self._row = Table(descriptor).row(at)

    def start(self) -> None:
        """Start the pulse on the storekeeper's event loop."""
        Pulse(self._row).start()

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Count the outcomes of commits."""
        row = self._row
        committed = sum([isinstance(outcome, Committed) for outcome in outcomes])
        refused = sum([isinstance(outcome, Refused) for outcome in outcomes])
        row[_COMMITTED] += committed
        row[_REFUSED] += refused
        row[_FAILED] += len(outcomes) - committed - refused
        if committed:
            observe(row, BATCH_COMMITS, committed)

    def synced(self, took_ns: int) -> None:
        """Count a transaction that was written and synced."""
        observe(self._row, SYNC_SECONDS, took_ns)

    def used(self, used_bytes: int) -> None:
        """Record how many bytes the rows use."""
        self._row[STORE_USED_BYTES.start] = used_bytes
