"""Shares of the work that delivered grants cause, so that no client uses up what all have (AT63).

Any client may deliver grants, and a new key or a broken signature costs it nothing. So each amount
is counted by client, and a client may use at most as much as is left for all others: one that
floods gets half of the total, two get a third each. A client that used little recently is refused
only if as many clients flood as the total has units.

Example:
    rates = SharedRates(most=60, most_of_one=12)
    if (excess := rates.take(client, 1, now=now)) is None:
        ...  # the grant is passed on
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from capabilities.cache import Recent
from capabilities.limits import Rates

MOST_CLIENTS = 4096
"""Buckets that are kept. A dropped bucket would be empty again, unless more clients than this send
something within a minute."""

_MINUTE_S = 60.0
_DRAINED = 50.0
"""Added to the logarithm when the bucket of all has become empty: nothing is left of any share."""


class Excess(NamedTuple):
    """The reason for refusing an amount.

    Attributes:
        most: the limit that would be exceeded.
        is_own: whether it is the limit of the client itself; False: too little is left for others.
        wait_s: whole seconds until the amount would be let through, if nobody uses more meanwhile.
    """

    most: int
    is_own: bool
    wait_s: int


class _Share(NamedTuple):
    """A client's part of what all clients use together.

    Attributes:
        amount: the part, when it was written.
        drained: the drain of the total at that time, see `SharedRates`.
    """

    amount: float
    drained: float


class SharedRates:
    """A leaky bucket for each client, and one for all of them, of which each client has a share.

    The bucket of a client has its own limit, and drains by that. Its share in the bucket of all
    drains in proportion to that bucket: so the shares of all clients add up to what is in it. If a
    share drained as the client's own bucket does, a few clients that take each unit as soon as it
    becomes free would look as if they used nothing.

    Args:
        most: limit of all clients together, in a minute.
        most_of_one: limit of one client in a minute. None, the client without a known address, has
            only the total limit: it may be any number of clients.
    """

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._by_client = Rates[Hashable](MOST_CLIENTS)
        self._shares = Recent[Hashable, _Share](MOST_CLIENTS)
        self._used = 0.0
        self._used_at = -math.inf
        # The logarithm of the factor by which the total has drained since the beginning: a share is
        # brought up to date by the difference.
        self._drained = 0.0

    def __len__(self) -> int:
        return len(self._shares)

    def take(self, client: Hashable, amount: int, *, now: float) -> Excess | None:
        """Count an amount, or return why it is refused.

        Args:
            client: the client by which the amount is counted, or None.
            amount: the amount. More than `most_of_one` is never let through.
            now: seconds of a monotonic clock.
        """
        self._drain(now)
        most_of_one = self._most if client is None else self._most_of_one
        per_s_of_one = most_of_one / _MINUTE_S
        wanted = self._by_client.spent(client, per_s=per_s_of_one, now=now) + amount
        if wanted > most_of_one:
            wait_s = math.ceil((wanted - most_of_one) / per_s_of_one)
            return Excess(most_of_one, is_own=True, wait_s=wait_s)
        share = self._share_of(client)
        free = self._most - self._used
        if share + amount > free:
            # The share and the total drain by the same factor f until the amount fits, which is
            # when share * f + amount = most - used * f. `used_then` is used * f.
            used_then = (self._most - amount) / (1 + share / self._used)
            wait_s = math.ceil((self._used - used_then) / (self._most / _MINUTE_S))
            return Excess(self._most, is_own=False, wait_s=wait_s)
        self._by_client.add(client, amount, per_s=per_s_of_one, now=now)
        self._shares.put(client, _Share(share + amount, self._drained))
        self._used += amount
        return None

    def _drain(self, now: float) -> None:
        """Drain the bucket of all clients, and with it all shares."""
        remaining = self._used - max(now - self._used_at, 0.0) * self._most / _MINUTE_S
        if remaining > 0:
            self._drained += math.log(self._used / remaining)
        else:
            remaining = 0.0
            self._drained += _DRAINED
        self._used = remaining
        self._used_at = now

    def _share_of(self, client: Hashable) -> float:
        share = self._shares.get(client)
        if share is None:
            return 0.0
        return share.amount * math.exp(share.drained - self._drained)


class SharedPlaces:
    """Places for work in progress, of which each client leaves as many free as it uses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = Counter[Hashable]()

    @contextmanager
    def reserve(self, client: Hashable) -> Iterator[bool]:
        """Take a place until the `with` block ends; False if too few places are left."""
        used_with_this = self._used[client] + 1
        free = self._most - self._used.total()
        if used_with_this > free:
            yield False
            return
        self._used[client] += 1
        try:
            yield True
        finally:
            self._used[client] -= 1
            if not self._used[client]:
                del self._used[client]
