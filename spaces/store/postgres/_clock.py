"""The clock of the database: the engine uses it wherever it writes times itself (ST9).

Each process compares its own clock with the database's when it connects, and before each round of
housekeeping; between two comparisons it relies on its own. So a machine whose clock is wrong does
not forget what others may still need, and leaves no rows that are never forgotten.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from capabilities.clock_and_entropy import Clock


@dataclass
class DatabaseClock:
    """A process's clock, corrected by the database's."""

    _clock: Clock
    ahead_s: float = 0.0
    """How far the process's own clock is ahead of the database's; negative: behind."""

    def now(self) -> float:
        """Return epoch seconds as the database would."""
        return self._clock.now() - self.ahead_s

    async def compare(self, asked: Coroutine[Any, Any, float]) -> None:
        """Ask the database for the time; the answer may have been in transit for as long as the
        query took."""
        began = self._clock.now()
        database_now = await asked  # a coroutine begins here
        self.ahead_s = (began + self._clock.now()) / 2 - database_now
