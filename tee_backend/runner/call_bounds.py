"""How many calls may be under way, of one holder and in all (RN97). In memory: after a restart counting begins anew.

A holder is a key, `(owner, nonce)`, or a caller who signs, `(did, None)`. Anybody can sign as somebody new, so those
who sign share half of the places in the queue.

Example:
    bounds = CallBounds()
    with bounds.at_once(("did:key:z6Mk…", 7), now=clock.now()): ...
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from .reasons import RunRefused

AT_ONCE: Final = 10
"""Calls of one key that wait for their answers."""
PER_MINUTE: Final = 1000
"""Calls of one key."""
QUEUED_OF_ONE: Final = 100
"""Asynchronous calls under way of one holder."""
MOST_QUEUED: Final = 1000
MOST_QUEUED_BYTES: Final = 256 * 1024 * 1024
"""Asynchronous calls under way, and the bytes of their bodies."""

_MOST_REMEMBERED: Final = 10_000

Holder: TypeAlias = tuple[str, int | None]


class CallBounds:
    """Counts of calls."""

    def __init__(self) -> None:
        self._at_once: Counter[Holder] = Counter()
        self._queued: dict[str, tuple[Holder, int]] = {}
        self._rates: OrderedDict[Holder, tuple[float, float]] = OrderedDict()

    @contextmanager
    def at_once(self, holder: Holder) -> Iterator[None]:
        """Count a call that is answered at once, until the block ends.

        Raises:
            RunRefused: `too-many-calls`.
        """
        if holder[1] is not None and self._at_once[holder] >= AT_ONCE:
            raise RunRefused("too-many-calls")
        self._at_once[holder] += 1
        try:
            yield
        finally:
            self._at_once[holder] -= 1
            if not self._at_once[holder]:
                del self._at_once[holder]

    def take(self, holder: Holder, *, now: float) -> None:
        """Count a call of a key against its minute.

        Raises:
            RunRefused: `too-many-calls`.
        """
        left, counted_at = self._rates.pop(holder, (float(PER_MINUTE), now))
        left = min(left + max(now - counted_at, 0.0) * PER_MINUTE / 60, float(PER_MINUTE))
        self._rates[holder] = (max(left - 1, 0.0), now)
        if len(self._rates) > _MOST_REMEMBERED:
            self._rates.popitem(last=False)
        if left < 1:
            raise RunRefused("too-many-calls")

    def queue(self, holder: Holder, job: str, size_bytes: int) -> None:
        """Count an asynchronous call until `forget`.

        Raises:
            RunRefused: `too-many-calls`, `runner-busy`.
        """
        of_one = sum(one == holder for one, _ in self._queued.values())
        signed = sum(one[1] is None for one, _ in self._queued.values())
        if of_one >= QUEUED_OF_ONE:
            raise RunRefused("too-many-calls")
        is_full = len(self._queued) >= MOST_QUEUED or (holder[1] is None and signed >= MOST_QUEUED // 2)
        if is_full or sum(size for _, size in self._queued.values()) + size_bytes > MOST_QUEUED_BYTES:
            raise RunRefused("runner-busy")
        self.put_back(holder, job, size_bytes)

    def put_back(self, holder: Holder, job: str, size_bytes: int = 0) -> None:
        """Count an asynchronous call that was accepted before."""
        self._queued[job] = (holder, size_bytes)

    def forget(self, job: str) -> None:
        """Count an asynchronous call no longer."""
        self._queued.pop(job, None)
