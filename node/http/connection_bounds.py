"""How many connections clients may have open in one worker, and what happens at a bound.

A client that has shown no token yet costs a worker a connection and the memory of a request. A client address may have
so many of them (`http.connections_per_client`), all together so many (`http.max_connections`). A connection that meets
a bound, one of these or a time bound of the listener, is counted under the name of the setting, and the first one is
logged: a line for each would let an unauthenticated client fill the log.
"""

import resource
from typing import Final, Literal

from ..config.tree import Http
from ..counts import RequestCounter
from ..logs import log_warning
from ..rates import counted_as
from .messages.clients import is_counted

Bound = Literal["http.max_connections", "http.connections_per_client", "http.head_s", "http.unread_answer_s"]

# Descriptors for the store, for files of values and for everything else that a worker opens.
_KEPT_DESCRIPTORS: Final = 128


class ConnectionBounds:
    """The open connections of one worker; belongs to its event loop's thread."""

    def __init__(self, http: Http, tally: RequestCounter | None = None) -> None:
        """Begin with no connection.

        Args:
            http: the bounds, and which proxies bring many clients.
            tally: counts what meets a bound; None: nothing is counted.
        """
        self._http = http
        self._tally = tally
        self._most = min(http.max_connections, _descriptors_for_clients())
        self._open = 0
        self._by_client: dict[str, int] = {}
        self._reported_at: set[Bound] = set()

    def take(self, peer: str | None) -> bool:
        """Count a new connection from an address, if the bounds allow it; a counted one has to be given back.

        Args:
            peer: the other end's address; None: it has none.
        """
        if self._open >= self._most:
            self.met("http.max_connections")
            return False
        if (client := self._client(peer)) is not None:
            count = self._by_client.get(client, 0)
            if count >= self._http.connections_per_client:
                self.met("http.connections_per_client")
                return False
            self._by_client[client] = count + 1
        self._open += 1
        return True

    def give_back(self, peer: str | None) -> None:
        """Note that a counted connection has ended."""
        self._open -= 1
        if (client := self._client(peer)) is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def met(self, bound: Bound) -> None:
        """Count a connection that was closed for the bound of a setting."""
        if self._tally is not None:
            self._tally.gave_up(bound)
        if bound not in self._reported_at:
            self._reported_at.add(bound)
            log_warning("connection-given-up", bound=bound)

    def _client(self, peer: str | None) -> str | None:
        if not self._http.connections_per_client or peer is None or not is_counted(peer, self._http):
            return None
        return counted_as(peer)


def _descriptors_for_clients() -> int:
    """Return how many connections leave descriptors for everything else: without any, accepting stops."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - _KEPT_DESCRIPTORS, 1) if soft != resource.RLIM_INFINITY else 1 << 30
