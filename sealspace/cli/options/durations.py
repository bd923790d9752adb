"""Durations in command line options, such as `30m` or `90d`."""

import re
from collections.abc import Callable
from typing import Any

import click

from ...errors import InvalidInput

MIN_TTL_S = 60.0
_DURATION = re.compile(r"[0-9]{1,5}[mhd]")
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def ttl_s_of(text: str, *, option: str = "--expires", most_days: int = 365) -> float:
    """Convert a duration such as `90d` to seconds."""
    ttl_s = 0.0  # too short: refused below
    if _DURATION.fullmatch(text):
        number, unit = text[:-1], text[-1]
        ttl_s = int(number) * _UNITS_S[unit]
    if not MIN_TTL_S <= ttl_s <= most_days * 86_400:
        raise InvalidInput(
            f"{option} {text[:20]} is not a duration from 1m to {most_days}d",
            hint="write a number and a unit: minutes, hours or days, like 30m, 12h or 90d",
        )
    return ttl_s


def days_option(help: str) -> Callable[..., Any]:
    """Return the command line option `--days`, the lifetime of a sign-in."""
    return click.option(
        "--days", type=click.FloatRange(min=0.01, max=30), default=7.0, show_default=True, help=help
    )


def expires_option(
    default: str, help: str, *, option: str = "--expires", most_days: int = 365
) -> Callable[..., Any]:
    """Return the command line option `--expires`, or one of another name.

    Commands get its value in seconds as `ttl_s`.
    """
    return click.option(
        option,
        "ttl_s",
        metavar="TIME",
        callback=lambda _context, _option, text: ttl_s_of(text, option=option, most_days=most_days),
        default=default,
        show_default=True,
        help=help,
    )
