"""A cache of opened secrets, bounded in size and age (DR15).

A value belongs to the grant that read it. Another grant never gets it, even at the same door.
"""

from collections import OrderedDict
from dataclasses import field
from typing import Any

from capabilities.clock_and_entropy import Clock
from capabilities.frozen import frozen

MAX_CACHE_BYTES = 64 << 20
MAX_ENTRIES = 20_000
_ENTRY_BYTES = 512  # of an entry without its value


@frozen
class Kept:
    """A value in the cache.

    Attributes:
        value: the value that was read.
        asked_at: when the request for it began, epoch seconds.
        size_bytes: the number of bytes that it counts.
    """

    value: Any = field(repr=False)
    asked_at: float
    size_bytes: int


class Cache:
    """The values that the grants of one door have read.

    Args:
        fresh_s: age up to which a value is an answer without a request to the node; 0: none is.
        stale_s: age up to which it is an answer while the node is away.
        clock: source of the time.
    """

    def __init__(self, *, fresh_s: float, stale_s: float, clock: Clock) -> None:
        self.fresh_s = fresh_s
        self.stale_s = stale_s
        self._clock = clock
        self._kept: OrderedDict[tuple[str, object], Kept] = OrderedDict()
        self._size_bytes = 0

    @property
    def longest_s(self) -> float:
        """The longest time for which a value is an answer after its right was revoked."""
        return max(self.fresh_s, self.stale_s)

    def fresh(self, grant_id: str, key: object) -> Kept | None:
        """Return a value that may be an answer without a request to the node; None without one."""
        return self._younger_than(self.fresh_s, grant_id, key)

    def stale(self, grant_id: str, key: object) -> Kept | None:
        """Return a value that may be an answer while the node is away; None without one."""
        return self._younger_than(self.stale_s, grant_id, key)

    def keep(self, grant_id: str, key: object, entry: Kept) -> None:
        """Store a value, and remove the values that were used the longest time ago."""
        self.drop(grant_id, key)
        if self.longest_s <= 0:
            return
        self._kept[grant_id, key] = entry
        self._size_bytes += entry.size_bytes + _ENTRY_BYTES
        while self._size_bytes > MAX_CACHE_BYTES or len(self._kept) > MAX_ENTRIES:
            oldest_grant_id, oldest_key = next(iter(self._kept))
            self.drop(oldest_grant_id, oldest_key)

    def drop(self, grant_id: str, key: object) -> None:
        """Remove a value."""
        entry = self._kept.pop((grant_id, key), None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes + _ENTRY_BYTES

    def drop_grant(self, grant_id: str) -> None:
        """Remove all values of a grant."""
        for kept_grant_id, key in [*self._kept]:
            if kept_grant_id == grant_id:
                self.drop(kept_grant_id, key)

    def _younger_than(self, limit_s: float, grant_id: str, key: object) -> Kept | None:
        """Return a value whose age is below a limit, and count it as used.

        A value that is too old for any answer is removed.
        """
        entry = self._kept.get((grant_id, key))
        if entry is None or limit_s <= 0:
            return None
        age_s = self._clock.now() - entry.asked_at
        if age_s >= self.longest_s:
            self.drop(grant_id, key)
            return None
        # A clock that was set back gives a negative age. The real one is unknown, so the node is
        # asked.
        if not 0 <= age_s < limit_s:
            return None
        self._kept.move_to_end((grant_id, key))
        return entry
