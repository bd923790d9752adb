"""How often one client may ask: token buckets in memory, a bounded number of them, in each worker.

Example:
    rates = Rates(per_minute=60)
    rates.take("192.0.2.7", now=clock.now())
"""

import ipaddress
import math
from collections import OrderedDict
from functools import lru_cache
from typing import Final

from .refusal import Refusal

MAX_CLIENTS: Final = 10_000
"""Most clients remembered; the one that was quiet the longest is forgotten first."""

_MAX_NAME_CHARS: Final = 64
_IPV6_CLIENT_BITS: Final = 64  # one household or machine has a whole /64 to draw addresses from


class TooMany(Refusal):
    """A client asked more often than it may; it can again when the bucket holds one."""

    code = "too-many-requests"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Rate limit exceeded", retry_after_s=retry_after_s)


class Rates:
    """One bucket for each client; it begins full and fills evenly. Loopback is a client like any other.

    Args:
        per_minute: how many a minute brings; 0: nothing is counted.
        most: what a bucket holds; None: a minute's worth.
    """

    def __init__(self, *, per_minute: int, most: float | None = None) -> None:
        self._per_second = per_minute / 60
        self._most = float(per_minute) if most is None else most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str | None, *, now: float) -> None:
        """Take one from the client's bucket; a caller without an address is not counted.

        Raises:
            TooMany: the bucket is empty.
        """
        self.require(client, now=now)
        self.charge(client, now=now)

    def require(self, client: str | None, *, now: float) -> None:
        """Ask for one in the client's bucket, without taking it.

        Raises:
            TooMany: the bucket is empty.
        """
        if client is None or not self._per_second:
            return
        name = counted_as(client)
        left = self._left(name, now)
        if left >= self._most:
            self._buckets.pop(name, None)  # a bucket that is full again is as good as none
        if left < 1:
            raise TooMany(max(math.ceil((1 - left) / self._per_second), 1))

    def is_new(self, client: str | None) -> bool:
        """Whether the client has a full bucket, whatever the time: nothing is known to have been taken out of it."""
        return self._most >= 1 and (client is None or counted_as(client) not in self._buckets)

    def charge(self, client: str | None, *, now: float) -> None:
        """Take one from the client's bucket; what was let in side by side is owed where the bucket holds less."""
        if client is None or not self._per_second:
            return
        name = counted_as(client)  # a proxy's header may hold anything
        left = self._left(name, now)
        self._buckets[name] = (left - 1, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)

    def _left(self, name: str, now: float) -> float:
        left, at = self._buckets.get(name, (self._most, now))
        return min(left + max(now - at, 0.0) * self._per_second, self._most)


def counted_as(client: str) -> str:
    """Return under which name a client's address is counted: an IPv6 address by its /64, any other text as it is."""
    return _counted_as(client[:_MAX_NAME_CHARS])


@lru_cache(maxsize=MAX_CLIENTS)
def _counted_as(client: str) -> str:
    if ":" not in client:
        return client
    try:
        parsed = ipaddress.IPv6Address(client)
    except ValueError:
        return client
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), _IPV6_CLIENT_BITS), strict=False))
