"""Limits on what the callers of a door may use (DR14, DR19, DR21).

Grants and requests have places. One holder has at most a quarter of each, and all holders that the
operator did not name together have half (`serving.shares`). Logins have no grant yet, so they
have places of their own, shared by the addresses of clients.
"""

from collections.abc import Callable

from capabilities.clock_and_entropy import Clock
from serving.shares import UNKNOWN, ShareFull

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
IDLE_S = 60.0
"""Time without a request after which a grant may give its place to another one."""
MAX_REQUESTS = 160
"""Requests with a token that are under way at the same time: from the check of the token until the
answer is sent."""
MAX_LOGINS = 48
"""Logins that wait for the node at the same time."""
MAX_ARRIVING = 32
"""Logins whose body is arriving at the same time."""
MAX_CONNECTIONS = 384
"""Connections of a door. They are more than all requests, logins and delivered grants under way, so
that callers without a token cannot close the door to those who have one."""
LOGINS_PER_MINUTE = 60
"""Logins that reach the node, of all callers."""
LOGINS_OF_ONE_PER_MINUTE = 30
"""Logins that reach the node, of one client or holder."""
AT_ONCE = 8
"""Requests of one grant that wait for the node at the same time."""
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


def share_refusal(what: str, step: str) -> Callable[[ShareFull], DoorRefusal]:
    """Return a function that makes the refusals for places of one kind.

    Args:
        what: what has the places, such as "callers are logged in".
        step: what a caller can do when its own share is used up.
    """

    def refusal(full: ShareFull) -> DoorRefusal:
        if full.is_own:
            return DoorRefusal(
                TOO_MANY,
                f"{full.most} {what} for this owner or trust, which is its share; next: {step}",
            )
        if full.counter == UNKNOWN:
            return DoorRefusal(
                TOO_MANY,
                f"{full.most} {what} for owners and trusts that the operator did not name, which is"
                " their share; next: try again later, or ask the operator to start the door with"
                " --allow OWNER, or --role NAME=ID",
            )
        return DoorRefusal(
            TOO_MANY, f"{full.most} {what}, which are all that it has; next: try again later"
        )

    return refusal
