"""What a process records about itself: CPU time, memory, and when it started."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from .series import CPU_SECONDS, RESIDENT_BYTES, STARTED_AT
from .table import Row

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")


class Vitals:
    """CPU time and memory of this process."""

    def __init__(self, row: Row) -> None:
        """Record the start; the CPU time that was used before is counted by the first `sample`."""
        self._row = row
        self._sampled_ns = 0
        row[STARTED_AT.start] = int(time.time())

    def sample(self) -> None:
        """Record CPU time used since the last sample, and resident memory; what cannot be read stays unchanged."""
        used_ns = time.process_time_ns()
        self._row[CPU_SECONDS.start] += used_ns - self._sampled_ns
        self._sampled_ns = used_ns
        with suppress(OSError):  # no descriptor is free at the moment
            self._row[RESIDENT_BYTES.start] = int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
