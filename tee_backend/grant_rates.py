"""How many grants a backend accepts per minute: in all, and from one client (AT54).

Each bucket fills up again over a minute. Of more than MOST_CLIENTS clients the one that was let through least recently
is forgotten; so many take more than an hour at the rate in all, so its bucket is full again by then.

Example:
    rates = GrantRates()
    if not rates.let_through(client, now=loop.time()): ...
"""

from collections import OrderedDict
from typing import Final

GRANTS_PER_MINUTE: Final = 60
"""Grants to this backend that are passed on. Any client may send them, and each costs the backend requests at its node,
which counts by address: a flood on this route must not stop what was granted."""
GRANTS_OF_A_CLIENT_PER_MINUTE: Final = 12
"""Of these from one address, so that one flood leaves capacity for others."""
MOST_CLIENTS: Final = 4096


class GrantRates:
    """Buckets that grants are taken from."""

    def __init__(self) -> None:
        self._all = (float(GRANTS_PER_MINUTE), 0.0)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._clients)

    def let_through(self, client: str | None, *, now: float, grants: int = 1) -> bool:
        """Take some grants from both buckets, where both have as many.

        Args:
            client: address of the sender; None: not counted by itself.
            now: seconds of any clock that does not step back.
            grants: how many; of more than GRANTS_OF_A_CLIENT_PER_MINUTE, a client's bucket never has as many.
        """
        left_of_all = _left(self._all, GRANTS_PER_MINUTE, now)
        left = float(grants) if client is None else self._left_of(client, now)
        if left_of_all < grants or left < grants:
            return False
        self._all = (left_of_all - grants, now)
        if client is not None:
            self._clients[client] = (left - grants, now)
            self._clients.move_to_end(client)
            if len(self._clients) > MOST_CLIENTS:
                self._clients.popitem(last=False)
        return True

    def _left_of(self, client: str, now: float) -> float:
        bucket = self._clients.get(client)
        most = GRANTS_OF_A_CLIENT_PER_MINUTE
        return float(most) if bucket is None else _left(bucket, most, now)


def _left(bucket: tuple[float, float], most: int, now: float) -> float:
    left, counted_at = bucket
    return min(left + (now - counted_at) * most / 60, float(most))
