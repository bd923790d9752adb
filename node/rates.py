"""Per-client rate limits that are kept in memory.

Each worker has its own token buckets, and their number is bounded.
"""

import math
from functools import lru_cache

from capabilities import limits
from capabilities.limits import parsed_address

from .refusal import Refusal

MAX_CLIENTS = 10_000
"""Maximum number of clients in memory; the least recently active one is evicted first."""

# The address may come from a proxy's header, which can contain text of any length.
_MAX_NAME_CHARS = 64


class Rates:
    """A rate limiter with one token bucket per client.

    Buckets are initially full and refilled at a constant rate. Loopback is limited like every other
    address.

    Args:
        per_minute: tokens that are added to each bucket in a minute.
        most: what a bucket contains at most; None: the tokens of one minute.
        code: of the refusal.
    """

    def __init__(
        self, *, per_minute: int, most: float | None = None, code: str = "too-many-requests"
    ) -> None:
        self._code = code
        self._per_second = per_minute / 60
        self._most = float(per_minute) if most is None else most
        self._spent = limits.Rates[str](MAX_CLIENTS)

    def take(self, client: str | None, *, now: float) -> None:
        """Count a request against the client's rate limit.

        The request is refused if the client's bucket is empty. A client of None is never limited.
        """
        self.require(client, now=now)
        self.charge(client, now=now)

    def require(self, client: str | None, *, now: float) -> None:
        """Refuse the request if the client's token bucket is empty.

        No token is taken.
        """
        if client is None or not self._per_second:
            return
        name = counted_as(client)
        spent = self._spent.spent(name, per_s=self._per_second, now=now)
        if not spent:
            self._spent.pop(name, None)  # a full bucket need not be stored
        tokens_left = self._most - spent
        if tokens_left < 1:
            wait_s = math.ceil((1 - tokens_left) / self._per_second)  # until there is a whole token
            raise Refusal(self._code, retry_after_s=max(wait_s, 1))

    @property
    def are_all_full(self) -> bool:
        """Whether every client's token bucket is full, and has a whole token."""
        return self._most >= 1 and not self._spent

    def is_new(self, client: str | None) -> bool:
        """Return whether the client's token bucket is full, and has a whole token.

        Full buckets are not kept in memory. If the result is true, `require` would not refuse.
        """
        return self._most >= 1 and (client is None or counted_as(client) not in self._spent)

    def charge(self, client: str | None, *, now: float, count: int = 1) -> None:
        """Take tokens from the client's bucket.

        Concurrent requests may take more tokens than the bucket has.
        """
        if client is None or not self._per_second:
            return
        self._spent.add(counted_as(client), count, per_s=self._per_second, now=now)


@lru_cache(maxsize=MAX_CLIENTS)
def _counted_as(client: str) -> str:
    parsed = parsed_address(client)
    return client if parsed is None else limits.counted_as(parsed)


def counted_as(client: str) -> str:
    """Return the key under which a client's requests are counted.

    For an IPv6 address, the key is the /64 network. For any other client, it is the text itself.
    """
    return _counted_as(client[:_MAX_NAME_CHARS])
