"""The options of commands that watch the secrets that they use."""

from collections.abc import Callable
from typing import Any

import click

from ..terminal import flag_option

_DEFAULT_EVERY_S = 10
_MAX_EVERY_S = 3600


def watch_options(help: str) -> Callable[[Any], Any]:
    """Return a decorator that adds `--watch`, with a help text, and `--watch-every`."""

    # Any: as in click
    def decorate(command: Any) -> Any:
        every = click.option(
            "--watch-every",
            "every_s",
            metavar="SECONDS",
            type=click.IntRange(1, _MAX_EVERY_S),
            help=f"Time between two looks with --watch, 1 to {_MAX_EVERY_S}. Default:"
            f" {_DEFAULT_EVERY_S}.",
        )
        return flag_option("--watch", "is_watched", help=help)(every(command))

    return decorate


def watch_interval(
    is_watched: bool, every_s: int | None, *, without: str | bool = False, **others: object
) -> int | None:
    """Return the seconds between two looks; None without `--watch`.

    Args:
        is_watched: whether `--watch` was given.
        every_s: the value of `--watch-every`.
        without: a given option that cannot be combined with `--watch`; False: there is none.
        others: further options that need `--watch`: name, with `_` for `-`, to value.
    """
    if is_watched:
        if without:
            raise click.UsageError(f"--watch and {without} cannot be combined")
        return _DEFAULT_EVERY_S if every_s is None else every_s
    for name, value in {"watch_every": every_s, **others}.items():
        # `--stop-s 0` was given, although 0 equals False.
        if value is not None and value is not False:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --watch")
    return None
