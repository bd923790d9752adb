"""What a storekeeper tells whoever watches it, and what a store on a database tells of its connections and its clock.

Example:
    run_storekeeper(data, watch=watch)
    if isinstance(store, Clocked) and (await store.clocks()).is_apart: ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from ..errors import StoreError
from .contract import Committed, Refused


class Observer(Protocol):
    """Hears of each batch, on the storekeeper's thread while commits wait: it takes microseconds and never raises."""

    def judged(self, outcomes: Sequence[Committed | Refused | StoreError]) -> None:
        """Hear what became of the commits of a batch, in their order; nothing when the writer broke."""

    def synced(self, took_ns: int) -> None:
        """Hear how long it took to write and sync the transaction of a batch; of one without commits there is none."""

    def used(self, used_bytes: int) -> None:
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


MAX_CLOCK_SKEW_S: Final = 60.0
"""How far clocks of those who share a store may differ: whose clock differs more keeps no house (ST9)."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What a comparison of clocks found.

    Attributes:
        ahead_s: how far the process's clock is ahead of the store's; negative: behind.
        floor_ahead_s: how far the floor of claims is ahead of the store's clock; 0.0 where it is behind, as it should.
    """

    ahead_s: float
    floor_ahead_s: float

    @property
    def is_apart(self) -> bool:
        """Whether the process must not keep house."""
        return abs(self.ahead_s) > MAX_CLOCK_SKEW_S


@runtime_checkable
class Clocked(Protocol):
    """A store with a clock of its own, by which all go who share it."""

    async def clocks(self) -> Clocks:
        """Compare the clock of this process with the store's.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...


@runtime_checkable
class Pooled(Protocol):
    """A store that keeps connections to a database."""

    def pools(self) -> dict[str, PoolUse]:
        """Return how those for `read` and for `commit` are used now."""
