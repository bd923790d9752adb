"""Counters of requests and connections in a worker process.

Code that handles requests imports only this module. In a worker with metrics enabled,
`node.metrics` supplies the cells that are counted in.
"""

from time import perf_counter_ns
from typing import Any, Literal

from encryption_network.network_errors import ReleaseRefused

Operation = Literal[
    "kv_get",
    "kv_metadata",
    "kv_list",
    "kv_sync",
    "kv_put",
    "kv_delete",
    "kv_batch",
    "sql",
    "delegate",
    "revoke",
    "decrypt",
    "challenge",
    "session",
    "public",
    "other",
]
"""The operation that a request is counted as."""


OTHER = "other"
"""The code that refusals without a counter of their own are counted under."""


class RequestCounter:
    """The request and connection counters of one worker process.

    Only the event loop's thread may use them.
    """

    cells: dict[tuple[str, ...], Any]

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count a response by operation, status and duration.

        Durations are measured with `perf_counter_ns`.
        """
        self.cells["sealspace_request_seconds", operation].observe(
            (perf_counter_ns() - began_ns) / 1e9
        )
        self.cells["sealspace_requests_total", operation, f"{status // 100}xx"].inc()

    def refused(self, error: Exception, code: str) -> None:
        """Count a refused request by error code."""
        cell = self.cells.get(("sealspace_refusals_total", code))
        if cell is None:  # a code without a counter of its own
            cell = self.cells["sealspace_refusals_total", OTHER]
        cell.inc()
        if isinstance(error, ReleaseRefused):
            self.cells["sealspace_release_refusals_total", error.reason].inc()

    def released(self, ground: str) -> None:
        """Count a key release.

        The release's audit record has to be committed first.
        """
        self.cells["sealspace_releases_total", ground].inc()

    def limit_exceeded(self, setting: str) -> None:
        """Count a connection that exceeded a limit.

        `setting` names the limit.
        """
        self.cells["sealspace_connections_given_up_total", setting].inc()
