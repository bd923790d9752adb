"""`sealspace run`: a command with secrets as environment variables, and their values masked in its output."""

import os
import re
from collections.abc import Mapping, Sequence

import click

from .errors import NotThere
from .run_child import keep_out_of_core_dumps, replace_process, run_masked
from .run_environment import child_environment, directs_programs
from .run_masker import patterns_of
from .secret import scope_option
from .secret_values import Value, read_values
from .terminal import words

_OF_SECRETS = re.compile(r".*_(KEY|TOKEN|SECRET|PASSWORD|DSN|CREDENTIALS)|(DATABASE|REDIS)_URL")


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    epilog="Examples: `sealspace run -- ./deploy.sh`; `sealspace run --only API_KEY -- python app.py`; "
    "`sealspace run --scope ci -- env`.",
)
@scope_option
@click.option("--only", metavar="A,B", help="Only these secrets; by default those named as secrets.")
@click.option(
    "--allow-override",
    metavar="A,B",
    help="Hand over these too although programs take orders from variables of these names, like PATH.",
)
@click.option("--allow-empty", is_flag=True, help="Run the command even if there is no secret to hand over.")
@click.option("--no-mask", is_flag=True, help="Do not mask: the command gets this terminal itself.")
@click.argument("command", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    scope: str | None,
    only: str | None,
    allow_override: str | None,
    allow_empty: bool,
    no_mask: bool,
    command: tuple[str, ...],
) -> int | None:
    """Run a command with secrets as environment variables.

    Its output shows `***` where a secret's value would be, also JSON-escaped, percent-encoded or in base64; values of
    under four bytes are not masked. Signals and the exit status are passed on. Nothing is written to a file.

    Without `--only` it gets the secrets of the scope whose names end in _KEY, _TOKEN, _SECRET, _PASSWORD, _DSN or
    _CREDENTIALS, and DATABASE_URL and REDIS_URL; a line on standard error names the others.

    Where standard input, output and error are a terminal, the command has one too; else its outputs are pipes. A
    secret of bytes is handed over in base64. Variables `SEALSPACE_…` are not handed over.
    """
    keep_out_of_core_dumps()
    allowed = _names(allow_override or "")
    values = read_values(_names(only) if only is not None else lambda names: _chosen(names, allowed), scope=scope)
    if not values and not allow_empty:  # of a wrong wallet or scope: the command would run without its keys
        raise NotThere(
            "there are no secrets to hand over, so the command was not started",
            hint="sealspace whoami; sealspace secret list --all; name what you need: --only A,B; or add --allow-empty",
        )
    environment = child_environment(os.environb, values, allowed=allowed)
    if no_mask:
        replace_process(command, environment)
    return run_masked(command, environment, _patterns(values))


def _chosen(names: Sequence[str], allowed: Sequence[str]) -> Sequence[str]:
    """Return the names that are handed over where the caller named none, and print the others."""
    # CL1: no list of refused names is complete; programs also take orders from TAR_OPTIONS, CFLAGS, RSYNC_RSH, PS0.
    chosen = [name for name in names if name in allowed or (_OF_SECRETS.fullmatch(name) and not directs_programs(name))]
    if others := [name for name in names if name not in chosen]:
        words(f"not handed over ({len(others)}): {', '.join(others):.300}; name the secrets you need: --only A,B")
    return chosen


def _patterns(values: Mapping[str, Value]) -> frozenset[bytes]:
    """Return what is masked; name the secrets that cannot be."""
    found: set[bytes] = set()
    for name, value in values.items():
        patterns = frozenset().union(*(patterns_of(form) for form in value.forms))
        if not patterns and value.text:
            words(f"{name} is too short to be masked in the output")
        found |= patterns
    return frozenset(found)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
