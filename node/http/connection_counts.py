"""A table of connection counts in memory that all processes of a node share.

The supervisor makes the table and passes it to the workers with the listening socket. Nothing
depends on its correctness: a stale row only makes the distribution of connections less even.
"""

import mmap
import os
from typing import Final, Self

_ROW_BYTES: Final = 4
_ABSENT: Final = (1 << 32) - 1


class ConnectionCounts:
    """The number of connections of each worker, or that it accepts none."""

    def __init__(self, descriptor: int) -> None:
        """Map the table of a file descriptor, which the caller keeps open."""
        self._descriptor = descriptor
        self._rows = memoryview(mmap.mmap(descriptor, 0)).cast("I")

    @classmethod
    def of(cls, workers: int) -> Self:
        """Make a table in which no worker accepts connections yet."""
        descriptor = os.memfd_create("sealspace-connections")
        os.write(descriptor, _ABSENT.to_bytes(_ROW_BYTES, "little") * workers)
        return cls(descriptor)

    def fileno(self) -> int:
        """Return the file descriptor, for a process that inherits it."""
        return self._descriptor

    def is_ours(self, worker: int, count: int) -> bool:
        """Set a worker's count and return whether it should accept the next connection."""
        self._rows[worker] = min(count, _ABSENT - 1)
        least = self.least_beside(worker)
        # With many connections an eighth more is even enough; a pause would only add latency.
        return least is None or count <= least + 1 + least // 8

    def withdraw(self, worker: int) -> None:
        """Mark a worker as accepting no connections."""
        self._rows[worker] = _ABSENT

    def least_beside(self, worker: int) -> int | None:
        """Return the lowest count of the other workers, or None if no other accepts connections."""
        least = min((count for at, count in enumerate(self._rows) if at != worker), default=_ABSENT)
        return None if least == _ABSENT else least
