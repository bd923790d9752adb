"""What a storekeeper reports to its observer, and what a store on a database reports on its
connections and clock."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from ..space_errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """Notified of each batch, on the storekeeper's thread while commits wait: takes microseconds
    and never raises."""

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Receive the outcomes of the commits of a batch, in their order; not called when the
        writer broke."""

    def synced(self, took_ns: int) -> None:
        """Receive how long it took to write and sync the transaction of a batch; one without
        commits has none."""

    def used(self, used_bytes: int) -> None:
        """Receive how many bytes the pages in use have, at the start and before each batch."""


class PoolUse(NamedTuple):
    """Connections of one kind."""

    busy: int
    idle: int
    waiting: int


MAX_CLOCK_SKEW_S: Final = 60.0
"""How far clocks of processes that share a store may differ: one that differs more runs no
housekeeping (ST9)."""


class Clocks(NamedTuple):
    """The result of a comparison of clocks."""

    ahead_s: float
    floor_ahead_s: float

    @property
    def is_apart(self) -> bool:
        """Whether the process must not run the housekeeping."""
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class SharedStore(Protocol):
    """A store on a database, which processes on several machines share."""

    def pools(self) -> dict[str, PoolUse]:
        """Return how the connections for `read` and for `commit` are used now."""

    async def clocks(self) -> Clocks:
        """Compare the clock of this process with the database's, which all processes use."""
        ...

    async def has_held_bodies(self) -> bool:
        """Whether a backup or check on any machine keeps the collector from removing bodies
        (BK2)."""
        ...
