"""Is the clock of this machine possible? Every signed window is judged by it (AT17).

A clock that was set back makes collateral, revocation lists and certificates of then hold again, and a new store holds
nothing newer to compare them with. No clock is right that is before the version at hand was made.
"""

from datetime import UTC, datetime
from typing import Final

from capabilities.ambient import Clock

from .errors import ClockWrong

MADE_AT: Final = 1_793_491_200
"""When this version was made at the earliest, epoch seconds: 2026-11-01. It moves with `__version__`."""


def check_clock(clock: Clock) -> None:
    """Refuse to go on where the clock is before this version was made.

    Raises:
        ClockWrong: it is.
    """
    now = clock.now()
    if now < MADE_AT:
        raise ClockWrong(
            f"the clock says {_day(now)}, and this version was made on {_day(MADE_AT)}",
            hint="set the clock: timedatectl set-ntp true",
        )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
