"""The bounds of connections, from the settings of a node, and what happens when one is met.

A client that has shown no token yet costs a worker a connection and the memory of a request. A client address may have
so many of them (`http.connections_per_client`), all together so many (`http.max_connections`). A connection that meets
a bound, one of these or a time bound of the listener, is counted under the name of the setting, and the first one is
logged: a line for each would let an unauthenticated client fill the log.
"""

from tee_backend import listener
from tee_backend.listener import MAX_HEAD_BYTES, Bound, ConnectionLimits
from tee_backend.rates import counted_address

from ..config.tree import Http
from ..counts import RequestCounter
from ..logs import log_warning
from .messages.clients import is_proxy


class ConnectionBounds(listener.ConnectionBounds):
    """The open connections of one worker; belongs to its event loop's thread."""

    def __init__(self, http: Http, tally: RequestCounter | None = None) -> None:
        """Begin with no connection.

        Args:
            http: the bounds, and which proxies bring many clients.
            tally: counts what meets a bound; None: nothing is counted.
        """
        limits = ConnectionLimits(
            max_connections=http.max_connections,
            connections_per_client=http.connections_per_client,
            head_s=http.head_s,
            unread_answer_s=http.unread_answer_s,
            keep_alive_s=http.keep_alive_s,
            max_header_line_bytes=http.max_header_line_bytes,
            max_head_bytes=MAX_HEAD_BYTES,
        )
        super().__init__(limits, lambda peer: None if is_proxy(peer, http) else counted_address(peer))
        self._tally = tally
        self._reported_at: set[Bound] = set()

    def met(self, bound: Bound) -> None:
        """Count a connection that was closed for the bound of a setting."""
        if self._tally is not None:
            self._tally.gave_up(bound)
        if bound not in self._reported_at:
            self._reported_at.add(bound)
            log_warning("connection-given-up", bound=bound)
