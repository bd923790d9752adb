"""Interfaces for metrics: the storekeeper's observer, and the pools and clocks of a database."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from ..space_errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """A receiver of the storekeeper's measurements.

    It is called on the storekeeper's thread while commits wait, so it takes microseconds and never
    raises.
    """

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Receive the outcomes of one batch of commits, in their order.

        It is not called if the writer broke.
        """

    def synced(self, took_ns: int) -> None:
        """Receive how long writing and syncing the transaction of a batch took.

        It is not called for a batch that wrote nothing.
        """

    def used(self, used_bytes: int) -> None:
        """Receive the size of the pages in use, at the start and before each batch."""


class PoolUse(NamedTuple):
    """The number of connections of one kind, by state."""

    busy: int
    idle: int
    waiting: int


MAX_CLOCK_SKEW_S: Final = 60.0
"""The largest difference between the clocks of a process and its database.

A process whose clock differs more does no housekeeping (ST9).
"""


class Clocks(NamedTuple):
    """The result of comparing this process's clock with the database's."""

    ahead_s: float
    floor_ahead_s: float

    @property
    def is_skewed(self) -> bool:
        """Whether the difference is too large for this process to do housekeeping."""
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class SharedStore(Protocol):
    """A store on a database that processes on several machines share."""

    def pools(self) -> dict[str, PoolUse]:
        """Return how the connections for `read` and for `commit` are used now."""

    async def clocks(self) -> Clocks:
        """Compare the clock of this process with the database's."""
        ...

    async def are_bodies_locked(self) -> bool:
        """Return whether a backup or check on any machine keeps bodies from being removed (BK2)."""
        ...
