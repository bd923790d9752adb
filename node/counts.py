"""What is counted while the node answers requests, and the counter.

Code that answers requests imports this module only; the numbers are those of `node.metrics`, in a
worker that has an address for metrics.
"""

from time import perf_counter_ns
from typing import Any, Final, Literal

from encryption_network.network_errors import ReleaseRefused

Operation = Literal[
    "kv_get",
    "kv_metadata",
    "kv_list",
    "kv_put",
    "kv_delete",
    "kv_batch",
    "delegate",
    "revoke",
    "decrypt",
    "challenge",
    "session",
    "public",
    "other",
]
"""The operation under which a request is counted."""


OTHER: Final = "other"
"""The code under which refusals are counted that have no count of their own."""


class RequestCounter:
    """Counts requests, refusals, releases and connections given up; belongs to the event loop's
    thread."""

    cells: dict[tuple[str, ...], Any]

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count an answer: its operation, its status, and how long it took until now by
        `perf_counter_ns`."""
        self.cells["sealspace_request_seconds", operation].observe(
            (perf_counter_ns() - began_ns) / 1e9
        )
        self.cells["sealspace_requests_total", operation, f"{status // 100}xx"].inc()

    def refused(self, error: Exception, code: str) -> None:
        """Count an error that was turned into an answer, by the code it is answered under."""
        self.cells.get(
            ("sealspace_refusals_total", code), self.cells["sealspace_refusals_total", OTHER]
        ).inc()
        if isinstance(error, ReleaseRefused):
            self.cells["sealspace_release_refusals_total", error.reason].inc()

    def released(self, ground: str) -> None:
        """Count a release that was authorised, and is durable."""
        self.cells["sealspace_releases_total", ground].inc()

    def gave_up(self, setting: str) -> None:
        """Count a connection that was not accepted or was closed, by the setting whose bound it
        reached."""
        self.cells["sealspace_connections_given_up_total", setting].inc()
