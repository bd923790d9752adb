"""Limits on what the callers of a door may use (DR14)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capabilities.clock_and_entropy import Clock

from .door_errors import TOO_MANY, DoorRefusal

MAX_TARGET_CHARS = 1024
MAX_BODY_BYTES = 2 << 20
"""Longest body of a write: a secret is at most 1 MiB as JSON."""
MAX_LOGIN_BYTES = 128 << 10
"""Longest body of a login: the line of a machine token has at most 98,304 characters."""
BODY_S = 10.0
MAX_GRANTS = 256
"""Grants that callers bring to a door, at the same time."""
REQUESTS_PER_MINUTE = 1200
"""Requests that reach the node for one grant."""
LOGINS_PER_MINUTE = 60
"""Logins that reach the node, of all callers."""
AT_ONCE = 8
"""Requests of one grant that wait for the node at the same time."""
MOST_WAITING = 256
"""Requests of one grant that wait for their turn."""
NODE_S = 20.0
"""Longest time for which a caller waits for the node. Clients give up after 30 to 60 s."""
STALE_AFTER_S = 3.0
"""Time after which a value from the cache is the answer while the node does not answer."""

_MINUTE_S = 60.0


class Allowance:
    """A number of actions a minute.

    What is unused is saved up to the number of one minute.

    Args:
        per_minute: the number.
        what: name of the actions, for the refusal.
        clock: source of the time.
    """

    def __init__(self, per_minute: int, what: str, clock: Clock) -> None:
        self._per_minute = per_minute
        self._what = what
        self._clock = clock
        self._left = float(per_minute)
        self._refilled_at = clock.now()

    def take(self) -> None:
        """Use one action.

        Raises:
            DoorRefusal: all actions of this minute are used.
        """
        self._refill()
        if self._left < 1:
            raise DoorRefusal(
                TOO_MANY,
                f"too many {self._what}: the limit is {self._per_minute} a minute; next: wait a few"
                " seconds, and keep what was read",
            )
        self._left -= 1

    def _refill(self) -> None:
        """Add the actions for the time since the last refill, up to those of one minute."""
        now = self._clock.now()
        # A clock that was set back adds nothing.
        passed_s = max(0.0, now - self._refilled_at)
        self._refilled_at = now
        added = passed_s * self._per_minute / _MINUTE_S
        self._left = min(self._per_minute, self._left + added)


class Turns:
    """A limit on the requests of one grant that wait for the node."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until fewer than `AT_ONCE` others wait for the node.

        Raises:
            DoorRefusal: `MOST_WAITING` requests wait already.
        """
        if self._waiting >= MOST_WAITING:
            raise DoorRefusal(
                TOO_MANY,
                f"{MOST_WAITING} requests with this grant wait for the node already; next: send"
                " fewer at the same time",
            )
        self._waiting += 1
        try:
            async with self._gate:
                yield
        finally:
            self._waiting -= 1
