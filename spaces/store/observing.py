"""Interfaces for metrics of the storekeeper, and of a database's connection pools and clock."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..space_errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """An interface for metrics from the storekeeper, the process that writes to LMDB.

    It is called on the storekeeper's thread while commits wait, so it takes microseconds and never
    raises.
    """

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Record the outcomes of one batch of commits, in the order of the commits.

        It is not called if the writer broke.
        """

    def synced(self, took_ns: int) -> None:
        """Record how long writing and syncing the transaction of a batch took.

        It is not called for a batch that wrote nothing.
        """

    def used(self, used_bytes: int) -> None:
        """Record the total size of all pages in use.

        It is called at startup and before each batch of commits.
        """


class PoolUse(NamedTuple):
    """The number of busy connections, idle connections and waiting statements of a pool."""

    busy: int
    idle: int
    waiting: int


MAX_CLOCK_SKEW_S = 60.0
"""The largest difference between the clocks of a process and its database.

A process whose clock differs more does no housekeeping (ST9).
"""


class Clocks(NamedTuple):
    """The result of comparing this process's clock with the database's."""

    ahead_s: float
    floor_ahead_s: float

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks differ too much for this process to do housekeeping."""
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class SharedStore(Protocol):
    """A store in a database that processes on several machines share."""

    def pools(self) -> dict[str, PoolUse]:
        """Return the current use of the connections for `read` and for `commit`."""

    async def clocks(self) -> Clocks:
        """Compare the clock of this process with the database's."""
        ...

    async def are_bodies_locked(self) -> bool:
        """Return whether a backup or check on any machine prevents the removal of bodies (BK2)."""
        ...
