"""An estimate of the database's current time (ST9).

The engine uses it for all timestamps that it writes. Each process compares its own clock with the
database's when it connects, and before each round of housekeeping. Between two comparisons it
relies on its own. So a machine with a wrong clock neither deletes rows that others still need, nor
writes rows that are never deleted.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from capabilities.clock_and_entropy import Clock


@dataclass
class DatabaseClock:
    """A clock that estimates the database's time.

    The estimate is based on this process's clock.
    """

    _clock: Clock
    ahead_s: float = 0.0
    """How far the process's own clock is ahead of the database's; negative if it is behind."""

    def now(self) -> float:
        """Return the database's current time in epoch seconds."""
        return self._clock.now() - self.ahead_s

    async def compare(self, query: Coroutine[Any, Any, float]) -> None:
        """Compare this process's clock with the database's clock.

        `query` returns the database's time. The error is at most half of the query's duration.
        """
        began_at = self._clock.now()
        database_now = await query  # the coroutine starts here, not where it was created
        middle = (began_at + self._clock.now()) / 2
        self.ahead_s = middle - database_now
