"""A table of connection counts in shared memory.

The supervisor makes the table and passes it to the workers with the listening socket. Nothing
depends on its correctness: a stale row only makes the distribution of connections less even.
"""

import mmap
import os
from typing import Self

_ROW_BYTES = 4
_ABSENT = (1 << 32) - 1


class ConnectionCounts:
    """The number of open connections of each worker, in shared memory."""

    def __init__(self, descriptor: int) -> None:
        """Map the shared table of connection counts into memory.

        The caller keeps `descriptor` open.
        """
        self._descriptor = descriptor
        self._rows = memoryview(mmap.mmap(descriptor, 0)).cast("I")

    @classmethod
    def of(cls, workers: int) -> Self:
        """Create a table with the connection count of each worker.

        All workers are marked as not accepting connections.
        """
        descriptor = os.memfd_create("sealspace-connections")
        os.write(descriptor, _ABSENT.to_bytes(_ROW_BYTES, "little") * workers)
        return cls(descriptor)

    def fileno(self) -> int:
        """Return the file descriptor of the shared connection-count table.

        Child processes inherit it.
        """
        return self._descriptor

    def is_ours(self, worker: int, count: int) -> bool:
        """Store a worker's connection count, and return whether the worker may accept one more."""
        self._rows[worker] = min(count, _ABSENT - 1)
        least = self.least_beside(worker)
        if least is None:
            return True
        # With many connections an eighth more is even enough; a pause would only add latency.
        return count <= least + 1 + least // 8

    def withdraw(self, worker: int) -> None:
        """Mark a worker as no longer accepting connections."""
        self._rows[worker] = _ABSENT

    def least_beside(self, worker: int) -> int | None:
        """Return the lowest connection count of the other workers.

        None means that no other worker accepts connections.
        """
        least = min((count for at, count in enumerate(self._rows) if at != worker), default=_ABSENT)
        return None if least == _ABSENT else least
