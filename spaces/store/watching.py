"""What a storekeeper tells whoever watches it, and what a store on a database tells of its connections.

Example:
    run_storekeeper(data, watch=watch)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import StoreError
from .contract import Committed, Refused


class Watch(Protocol):
    """Hears of each batch, on the storekeeper's thread while commits wait: it takes microseconds and never raises."""

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Hear what became of the commits of a batch, in their order; nothing when the writer broke."""

    def synced(self, took_ns: int) -> None:
        """Hear how long it took to write and sync the transaction of a batch; of one without commits there is none."""

    def room(self, used_bytes: int) -> None:
        """Hear how many bytes the pages in use have, at the start and before each batch."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections of one kind.

    Attributes:
        busy: at work, or being opened.
        idle: open, with nothing to do.
        waiting: statements that wait for one.
    """

    busy: int
    idle: int
    waiting: int


@runtime_checkable
class Pooled(Protocol):
    """A store that keeps connections to a database."""

    def pools(self) -> dict[str, PoolUse]:
        """Return how those for `read` and for `commit` are used now."""
