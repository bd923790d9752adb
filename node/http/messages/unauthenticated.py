"""What a client may cost the node before it has shown that it may do anything.

Checking a signature, and finding out that a chain does not hold, is work for an unauthenticated client. Each client
address has a token bucket (`limits.unauthenticated_per_minute`): each refused token takes one, and so does the first
row that is stored for a signer who has none here yet, such as a key that was made a moment ago. With an empty bucket
the answer is 429 before a token is read. Granted requests take nothing, so a busy client with authority is not limited,
nor are others behind its address.

Requests without a token cost no signature and are not counted here; public values have a rate of their own.
"""

from dataclasses import dataclass

from aiohttp import web

from capabilities.ambient import Clock

from ...config.tree import Http
from ...operations.errors import SpaceNotFound
from ...rates import Rates
from .clients import client_address

_REFUSED = frozenset((401, 403))


@dataclass(frozen=True, slots=True)
class UnauthenticatedGuard:
    """Counts what unauthenticated clients cost.

    Attributes:
        rates: one bucket for each client address.
        http: whose forwarded headers are trusted.
        clock: gives the time.
    """

    rates: Rates
    http: Http
    clock: Clock

    def admit(self, request: web.Request) -> None:
        """Check whether the client may still cost something.

        Raises:
            TooMany: the client's bucket is empty.
        """
        if "Authorization" not in request.headers:
            return
        client = client_address(request, self.http)
        if not self.rates.is_new(client):  # nearly every client has cost nothing so far
            self.rates.require(client, now=self.clock.now())

    def note(self, request: web.Request, error: Exception, status: int) -> None:
        """Take one for a token that was refused, or that was good for a space that does not exist."""
        if "Authorization" in request.headers and (status in _REFUSED or isinstance(error, SpaceNotFound)):
            self.rates.charge(client_address(request, self.http), now=self.clock.now())
