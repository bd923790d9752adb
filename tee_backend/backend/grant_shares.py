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

from capabilities.limits import Rates

MOST_CLIENTS = 4096
"""Buckets that are kept. A dropped bucket would be empty again, unless more clients than this send
something within a minute."""

_MINUTE_S = 60.0


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


class SharedRates:
    """Leaky buckets, one for each client and one for all of them together.

    Args:
        most: limit of all clients together, in a minute.
        most_of_one: limit of one client in a minute. None, the client without a known address, has
            only the total limit: it may be any number of clients.
    """

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._by_client = Rates[Hashable](MOST_CLIENTS)
        self._all = Rates[None]()

    def __len__(self) -> int:
        return len(self._by_client)

    def take(self, client: Hashable, amount: int, *, now: float) -> Excess | None:
        """Count an amount, or return why it is refused.

        Args:
            client: the client by which the amount is counted, or None.
            amount: the amount. More than `most_of_one` is never let through.
            now: seconds of a monotonic clock.
        """
        most_of_one = self._most if client is None else self._most_of_one
        per_s, per_s_of_one = self._most / _MINUTE_S, most_of_one / _MINUTE_S
        wanted = self._by_client.spent(client, per_s=per_s_of_one, now=now) + amount
        if wanted > most_of_one:
            wait_s = math.ceil((wanted - most_of_one) / per_s_of_one)
            return Excess(most_of_one, is_own=True, wait_s=wait_s)
        left = self._most - self._all.spent(None, per_s=per_s, now=now)
        if wanted > left:
            return Excess(self._most, is_own=False, wait_s=math.ceil((wanted - left) / per_s))
        self._by_client.add(client, amount, per_s=per_s_of_one, now=now)
        self._all.add(None, amount, per_s=per_s, now=now)
        return None


class SharedPlaces:
    """Places for work in progress, of which each client leaves as many free as it uses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = Counter[Hashable]()

    @contextmanager
    def reserve(self, client: Hashable) -> Iterator[bool]:
        """Take a place until the `with` block ends; False if too few places are left."""
        if self._used[client] + 1 > self._most - self._used.total():
            yield False
            return
        self._used[client] += 1
        try:
            yield True
        finally:
            self._used[client] -= 1
            if not self._used[client]:
                del self._used[client]
