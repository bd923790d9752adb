"""A plausibility check of this machine's clock (AT17).

A clock that was set back makes old collateral, revocation lists and certificates valid again, and a
new store contains nothing newer to compare them with. A clock before this version's build date is
wrong.

By a clock that is years ahead, every record is old enough to be removed. No version is in use ten
years after its build: platform formats and the certificates it knows change sooner.
"""

from datetime import UTC, datetime

from capabilities.clock_and_entropy import Clock

from .command_errors import ClockWrong

_SET_IT = "set the clock: timedatectl set-ntp true"
MADE_AT = 1_793_491_200
"""This version's build date at the earliest, in epoch seconds: 2026-11-01.

It is updated with `__version__`.
"""
LONGEST_USE_S = 10 * 365 * 86_400
"""The longest time after its build date that a version can be in use."""


def check_clock(clock: Clock) -> None:
    """Refuse to start if the system clock is implausible.

    The clock must be within ten years after this version's build date.
    """
    now = clock.now()
    if now < MADE_AT:
        raise ClockWrong(
            f"this machine's clock shows {_day(now)}, but this version of sealspace was made later,"
            f" on {_day(MADE_AT)}",
            hint=_SET_IT,
        )
    if now > MADE_AT + LONGEST_USE_S:
        raise ClockWrong(
            f"this machine's clock shows {_day(now)}, but this version of sealspace was made on"
            f" {_day(MADE_AT)}, over ten years earlier",
            hint=f"{_SET_IT}; if the clock is right, install a current version of sealspace",
        )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
