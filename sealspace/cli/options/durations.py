"""Durations in command line options, such as `30m` or `90d`."""

import re
from collections.abc import Callable
from typing import Any, Literal

import click
from click.core import ParameterSource

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


_FORMER = "sealspace.former_lifetime"
"""Key of the lifetime that was given by an option's former name."""


def expires_option(
    default: str,
    help: str,
    *,
    most_days: int = 365,
    former: Literal["--days", "--ends"] | None = None,
) -> Callable[..., Any]:
    """Return the command line option `--expires`.

    Commands get its value in seconds as `ttl_s`. The option's former name still works, but the help
    does not show it. `--days` takes a number of days.
    """

    def note_former(context: click.Context, _option: click.Parameter, former_value: Any) -> None:
        """Note the lifetime that the former option gives."""
        if former_value is None:
            return
        if former == "--days":
            context.meta[_FORMER] = former_value * 86_400.0
        else:
            context.meta[_FORMER] = ttl_s_of(former_value, option="--ends", most_days=most_days)

    def lifetime(context: click.Context, option: click.Parameter, text: str) -> float:
        """Return the lifetime in seconds."""
        former_s: float | None = context.meta.get(_FORMER)
        if former_s is None:
            return ttl_s_of(text, most_days=most_days)
        if context.get_parameter_source(option.name or "") == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{former} is the former name of --expires: omit {former}")
        return former_s

    def decorated(command: Any) -> Any:
        command = click.option(
            "--expires",
            "ttl_s",
            metavar="TIME",
            callback=lifetime,
            default=default,
            show_default=True,
            help=help,
        )(command)
        if former is None:
            return command
        return click.option(
            former,
            "former",
            type=click.FloatRange(min=0.01, max=most_days) if former == "--days" else str,
            hidden=True,
            help="The former name of --expires.",
            expose_value=False,
            is_eager=True,  # so that `lifetime` finds the value
            callback=note_former,
        )(command)

    return decorated
