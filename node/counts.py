"""What is counted while the node answers requests, and the interface of the counter.

Code that answers requests imports this module only; `node.metrics` implements the interface, in a worker that has an
address for metrics.
"""

from typing import Literal, Protocol

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


class RequestCounter(Protocol):
    """Counts requests, refusals, releases and connections given up."""

    def answered(self, operation: Operation, status: int, began_ns: int) -> None:
        """Count an answer: its operation, its status, and how long it took until now by `perf_counter_ns`."""

    def refused(self, error: Exception, code: str) -> None:
        """Count an error that was turned into an answer, by the code it is answered under."""

    def released(self, ground: str) -> None:
        """Count a release that was authorised, and is durable."""

    def gave_up(self, setting: str) -> None:
        """Count a connection that was not accepted or was closed, by the setting whose bound it reached."""
