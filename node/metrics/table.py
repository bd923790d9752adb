"""The table of numbers: a row for each process of a node, in memory that all of them share.

Each process writes its own row and no other, so nothing is locked. The supervisor makes the table and passes it on; a
row outlives its process, and the replacement continues to count where that process ended.
"""

import mmap
import os
from bisect import bisect_left
from typing import Final, Self

from .series import ROW_CELLS, SERIES, Series

_CELL_BYTES: Final = 8

Row = memoryview
"""The cells of one process: unsigned integers of 64 bits."""


class Table:
    """All rows."""

    def __init__(self, descriptor: int) -> None:
        """Map the table behind a descriptor, which the caller still owns."""
        self._descriptor = descriptor
        self._cells = memoryview(mmap.mmap(descriptor, 0)).cast("Q")

    @classmethod
    def of(cls, rows: int) -> Self:
        """Make a table of zeros."""
        descriptor = os.memfd_create("sealspace-metrics")
        os.truncate(descriptor, rows * ROW_CELLS * _CELL_BYTES)
        return cls(descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for a process that inherits it."""
        return self._descriptor

    def row(self, at: int) -> Row:
        """Return the cells of one process."""
        return self._cells[at * ROW_CELLS : (at + 1) * ROW_CELLS]

    def clear_gauges(self, at: int) -> None:
        """Set the gauges to zero, which are valid only while a process runs; its counters are kept."""
        row = self.row(at)
        for series in SERIES:
            if series.kind == "gauge":
                for cell in range(series.start, series.start + series.size):
                    row[cell] = 0


def observe(row: Row, series: Series, number: int) -> None:
    """Add one number to a histogram without labels."""
    row[series.start + bisect_left(series.bounds, number)] += 1
    row[series.start + series.width - 1] += number
