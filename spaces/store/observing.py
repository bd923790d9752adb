"""Interfaces for monitoring a store."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ..space_errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """An interface that receives metrics about writes to LMDB.

    It is called on the storekeeper's thread while commits wait, so it takes microseconds and never
    raises.
    """

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Record the outcomes of one batch of commits.

        They are in the order of the commits. This method is not called if the writer broke.
        """

    def synced(self, took_ns: int) -> None:
        """Record how long a batch took to write and sync.

        It is not called for a batch that wrote nothing.
        """

    def used(self, used_bytes: int) -> None:
        """Record the total size of the database pages in use.

        This method is called at startup and before each batch of commits.
        """


class PoolUse(NamedTuple):
    """The current usage of a connection pool.

    It consists of the numbers of busy connections, idle connections and queued statements.
    """

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
    acceptance_delay_s: float

    @property
    def is_skewed(self) -> bool:
        """Whether the two clocks differ too much.

        If so, the process does no housekeeping.
        """
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class CountedStore(Protocol):
    """A store that counts its commits."""

    def last_commit(self) -> int:
        """Return the number of the last commit of any process.

        This takes microseconds, and reads no row.
        """


@runtime_checkable
class SharedStore(Protocol):
    """A store whose database is shared by several machines."""

    def pools(self) -> dict[str, PoolUse]:
        """Return the current usage of each connection pool.

        The pools are `read` and `commit`.
        """

    async def clocks(self) -> Clocks:
        """Compare this process's clock with the database's clock."""

    async def are_bodies_locked(self) -> bool:
        """Return whether a running backup prevents the deletion of large values (BK2).

        A running check prevents it too. Both may run on any machine that shares the database.
        """
