"""Whether the clock of this machine is plausible: every signed window is judged by it (AT17).

A clock that was set back makes old collateral, revocation lists and certificates valid again, and a
new store contains nothing newer to compare them with. A clock that is before this version was made
is wrong.

By a clock that is years ahead, everything is old enough to be removed. A version is not in use ten
years after it was made: the formats of platforms and the certificates it knows change sooner.
"""

from datetime import UTC, datetime
from typing import Final

from capabilities.clock_and_entropy import Clock
from sealspace.cli.command_errors import ClockWrong

_SET_IT: Final = "set the clock: timedatectl set-ntp true"
MADE_AT: Final = 1_793_491_200
"""When this version was made at the earliest, epoch seconds: 2026-11-01. It moves with
`__version__`."""
LONGEST_USE_S: Final = 10 * 365 * 86_400
"""How long after it was made a version can be in use."""


def check_clock(clock: Clock) -> None:
    """Refuse to continue if the clock is before this version was made, or over ten years after."""
    now = clock.now()
    if now < MADE_AT:
        raise ClockWrong(
            f"the clock says {_day(now)}, and this version was made on {_day(MADE_AT)}",
            hint=_SET_IT,
        )
    if now > MADE_AT + LONGEST_USE_S:
        raise ClockWrong(
            f"the clock says {_day(now)}, which is over ten years after this version was made, on"
            f" {_day(MADE_AT)}",
            hint=f"{_SET_IT}; if it is right, install a version of these days",
        )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
