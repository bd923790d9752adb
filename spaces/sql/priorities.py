"""At which priority the statements of an owner compute (SQ29).

Example:
    slow_owners.add(owner, computed_s=0.02, now=now)
    lower_priority(process, slow_owners.priority_of(owner, now))
"""

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

_SLOW_S = 10.0
_MINUTE_S = 60.0
SLOW_BUDGET_S = 2.0
"""What the slow statements of one owner compute in a minute before they come after all others."""


class Priority(IntEnum):
    """The priority of a child. It falls and never rises: the kernel does not let it."""

    USUAL = 0
    LOW = 1
    """The nice value 19: a sixty-eighth of what a worker gets that wants the same processor."""
    LAST = 2
    """SCHED_IDLE: the child computes when nothing else wants the processor."""


@dataclass(slots=True)
class _SlowOwner:
    """An owner whose statements computed for long.

    Attributes:
        minute_began_at: when its budget began, in seconds of the monotonic clock.
        computed_s: what its slow statements have computed since then.
        last_slow_at: when such a statement last computed.
    """

    minute_began_at: float
    computed_s: float
    last_slow_at: float


class SlowOwners:
    """The owners whose statements computed for long in the last minute."""

    def __init__(self) -> None:
        self._owners = dict[bytes, _SlowOwner]()  # those that were slow last come last

    def add(self, owner: bytes, computed_s: float, now: float) -> None:
        """Count what a slow statement has computed.

        Args:
            owner: a hash of the owner.
            computed_s: processor time since the last call for this statement.
            now: seconds of the monotonic clock.
        """
        # Removed first, so that the owner becomes the last in order.
        slow = self._owners.pop(owner, None)
        if slow is None or now >= slow.minute_began_at + _MINUTE_S:
            slow = _SlowOwner(minute_began_at=now, computed_s=0.0, last_slow_at=now)
        slow.computed_s += computed_s
        slow.last_slow_at = now
        self._owners[owner] = slow

    def priority_of(self, owner: bytes, now: float) -> Priority:
        """Return the priority at which the next statement of an owner begins."""
        slow = self._owners.get(owner)
        if slow is None:
            return Priority.USUAL
        is_budget_used = slow.computed_s >= SLOW_BUDGET_S
        if is_budget_used and now < slow.minute_began_at + _MINUTE_S:
            return Priority.LAST
        if now < slow.last_slow_at + _SLOW_S:
            return Priority.LOW
        return Priority.USUAL

    def forget(self, now: float) -> None:
        """Forget the owners who were not slow for a minute."""
        for owner, slow in list(self._owners.items()):
            if now < slow.last_slow_at + _MINUTE_S:
                return
            del self._owners[owner]


def lower_priority(process: int, priority: Priority) -> None:
    """Give a process a priority that is not above its own; 0 is this process.

    A process that has ended is left alone, and so is one whose priority the service manager does
    not allow to be changed.
    """
    with suppress(OSError):
        match priority:
            case Priority.USUAL:
                pass
            case Priority.LOW:
                os.setpriority(os.PRIO_PROCESS, process, 19)
            case Priority.LAST:
                os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def processor_time_s(process: int) -> float:
    """Return how long a process has computed; infinity if it has ended.

    The number of the clock of another process is defined by Linux (`clock_getcpuclockid`).
    """
    try:
        return time.clock_gettime(~process << 3 | 2)
    except OSError:
        return math.inf
