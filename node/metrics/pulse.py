"""What a process records about itself once a second: CPU time, memory, event loop lag, and resources in use.

It reads a few attributes and one small file of the kernel, some 20 µs; a scrape causes no work here.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from .series import LOOP_LAG
from .table import Row, observe
from .vitals import Vitals

PERIOD_S: Final = 1.0
_PERIOD_NS: Final = int(PERIOD_S * 1e9)


class Pulse:
    """Runs once a second on an event loop."""

    def __init__(self, row: Row, sample: Callable[[], None] | None = None) -> None:
        """Prepare; `sample` is called once per period and records further numbers."""
        self._row = row
        self._vitals = Vitals(row)
        self._sample = sample
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer on the running loop; the first sample is taken at once."""
        self._note(asyncio.get_running_loop())

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        late_ns = max(time.monotonic_ns() - self._due_ns, 0)  # a loop may round a timer down
        observe(self._row, LOOP_LAG, late_ns)
        self._note(loop)

    def _note(self, loop: asyncio.AbstractEventLoop) -> None:
        self._vitals.sample()
        if self._sample is not None:
            self._sample()
        self._due_ns = time.monotonic_ns() + _PERIOD_NS
        self._timer = loop.call_later(PERIOD_S, self._beat, loop)
