"""How many grants a backend accepts per minute: in all, and from one client (AT54).

Each bucket fills up again over a minute. Of more than MOST_CLIENTS buckets the one that was taken from least recently
is forgotten; so many take more than an hour at the rate in all, so it is full again by then.

Example:
    rates = GrantRates()
    if not rates.let_through(client, now=loop.time()): ...
"""

from typing import Final

from tee_backend.rates import Rates

GRANTS_PER_MINUTE: Final = 60
"""Grants to this backend that are passed on. Any client may send them, and each costs the backend requests at its node,
which counts by address: a flood on this route must not stop what was granted."""
GRANTS_OF_A_CLIENT_PER_MINUTE: Final = 12
"""Of these from one address, so that one flood leaves capacity for others."""
MOST_CLIENTS: Final = 4096


class GrantRates(Rates[str | None]):
    """What was taken from the buckets; that of all grants has no name."""

    def __init__(self) -> None:
        super().__init__(MOST_CLIENTS)

    def let_through(self, client: str | None, *, now: float, grants: int = 1) -> bool:
        """Take some grants from both buckets, where both have as many.

        Args:
            client: address of the sender; None: not counted by itself.
            now: seconds of any clock that does not step back.
            grants: how many; of more than GRANTS_OF_A_CLIENT_PER_MINUTE, a client's bucket never has as many.
        """
        buckets = {client: GRANTS_OF_A_CLIENT_PER_MINUTE, None: GRANTS_PER_MINUTE}
        for bucket, most in buckets.items():
            if self.spent(bucket, per_s=most / 60, now=now) + grants > most:
                return False
        for bucket, most in buckets.items():
            self.add(bucket, grants, per_s=most / 60, now=now)
        return True
