"""How often one client may ask: token buckets in memory, a bounded number of them.

Example:
    rates = Rates(per_minute=60)
    rates.take("192.0.2.7", now=clock.now())
"""

from collections import OrderedDict
from typing import Final

MAX_CLIENTS: Final = 10_000
"""Most clients remembered; the one that was quiet the longest is forgotten first."""


class TooMany(Exception):
    """A client asked more often than it may."""

    code = "too-many-requests"


class Rates:
    """One bucket for each client; it holds a minute's worth and fills evenly."""

    def __init__(self, *, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str | None, *, now: float) -> None:
        """Take one from the client's bucket; a caller without an address is not counted.

        Raises:
            TooMany: the bucket is empty.
        """
        if client is None:
            return
        left, at = self._buckets.pop(client, (float(self._per_minute), now))
        left = min(left + max(now - at, 0.0) * self._per_minute / 60, float(self._per_minute))
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise TooMany
