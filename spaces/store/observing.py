"""What a storekeeper reports to its observer, and what a store on a database reports on its connections and clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from ..errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """Notified of each batch, on the storekeeper's thread while commits wait: takes microseconds and never raises."""

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Receive the outcomes of the commits of a batch, in their order; not called when the writer broke."""

    def synced(self, took_ns: int) -> None:
        """Receive how long it took to write and sync the transaction of a batch; one without commits has none."""

    def used(self, used_bytes: int) -> None:
        """Receive how many bytes the pages in use have, at the start and before each batch."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections of one kind."""

    busy: int
    idle: int
    waiting: int


MAX_CLOCK_SKEW_S: Final = 60.0
"""How far clocks of processes that share a store may differ: one that differs more runs no housekeeping (ST9)."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The result of a comparison of clocks."""

    ahead_s: float
    floor_ahead_s: float

    @property
    def is_apart(self) -> bool:
        """Whether the process must not run the housekeeping."""
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class Clocked(Protocol):
    """A store with a clock of its own, which all processes that share it use."""

    async def clocks(self) -> Clocks:
        """Compare the clock of this process with the store's."""
        ...


@runtime_checkable
class Pooled(Protocol):
    """A store that keeps connections to a database."""

    def pools(self) -> dict[str, PoolUse]:
        """Return how those for `read` and for `commit` are used now."""


@runtime_checkable
class Holding(Protocol):
    """A store that knows whether any process keeps its bodies, on whatever machine (BK2)."""

    async def has_held_bodies(self) -> bool:
        """Whether a backup or check keeps the collector from removing bodies."""
        ...
