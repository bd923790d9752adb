"""How many connections each worker has: a table in memory that all processes of a node see.

The supervisor makes it and hands it on with the listening socket. No request depends on it: a row
that is stale makes connections less even, and no more.
"""

import mmap
import os
from typing import Final, Self

_ROW_BYTES: Final = 4
_ABSENT: Final = (1 << 32) - 1


class ConnectionCounts:
    """One row for each worker: how many connections it has, or that it takes none."""

    def __init__(self, descriptor: int) -> None:
        """Map the table behind a descriptor, which remains the caller's."""
        self._descriptor = descriptor
        self._rows = memoryview(mmap.mmap(descriptor, 0)).cast("I")

    @classmethod
    def of(cls, workers: int) -> Self:
        """Make a table in which no worker takes connections yet."""
        descriptor = os.memfd_create("sealspace-connections")
        os.write(descriptor, _ABSENT.to_bytes(_ROW_BYTES, "little") * workers)
        return cls(descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for a process that inherits it."""
        return self._descriptor

    def is_ours(self, worker: int, count: int) -> bool:
        """Set how many connections a worker has, and return whether the next one is for it to
        take."""
        self._rows[worker] = min(count, _ABSENT - 1)
        least = self.least_beside(worker)
        # Among many connections a small difference is even enough, and waiting costs time.
        return least is None or count <= least + 1 + least // 8

    def withdraw(self, worker: int) -> None:
        """Mark a worker as taking no connections."""
        self._rows[worker] = _ABSENT

    def least_beside(self, worker: int) -> int | None:
        """Return the least count of the other workers; None where no other takes connections."""
        least = min((count for at, count in enumerate(self._rows) if at != worker), default=_ABSENT)
        return None if least == _ABSENT else least
