"""Monitoring interfaces: storekeeper metrics, connection pool usage and clock skew."""

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
    """Usage of a connection pool: busy connections, idle connections and queued statements."""

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
        """Whether this process's clock differs too much from the database's clock.

        If so, the process does no housekeeping.
        """
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class SharedStore(Protocol):
    """A store whose database is shared by several machines."""

    def pools(self) -> dict[str, PoolUse]:
        """Return the current usage of the `read` pool and the `commit` pool."""

    async def clocks(self) -> Clocks:
        """Compare this process's clock with the database's clock."""
        ...

    async def are_bodies_locked(self) -> bool:
        """Return whether any machine blocks the deletion of value files (BK2).

        A backup or a check blocks it while it runs.
        """
        ...
