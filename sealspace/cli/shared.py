"""The options that every command accepts, before the noun, between noun and verb, and after the verb.

The last one given holds. `SEALSPACE_NODE` and `SEALSPACE_HOME` stand in for `--node` and `--home`; the settings of a
node are read from other variables (`node.config.loading`).

Example:
    @click.command("list")
    def list_() -> None:
        rows = asyncio.run(_list(owner_home()))  # the owner's folder that is named: `sealspace.cli.owner_profile`
        if shared().as_json: ...
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

NODE_VARIABLE: Final = "SEALSPACE_NODE"
HOME_VARIABLE: Final = "SEALSPACE_HOME"
FOLDER_NAME: Final = ".sealspace"

_META: Final = "sealspace."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What was given of the shared options."""

    as_json: bool
    home_folder: Path
    node: str | None
    quiet: bool
    names_login: bool = False


def shared() -> Shared:
    """Return what the running command was given; outside a command, what holds without options."""
    context = click.get_current_context(silent=True)
    given: dict[str, Any] = {} if context is None else context.meta  # Any: click's own type of it
    home = given.get(_META + "home") or _variable(HOME_VARIABLE)
    return Shared(
        as_json=bool(given.get(_META + "json")),
        home_folder=Path.home() / FOLDER_NAME if home is None else Path(home),
        node=given.get(_META + "node") or _variable(NODE_VARIABLE),
        quiet=bool(given.get(_META + "quiet")),
        names_login=any(_META + name in given for name in ("home", "node")),
    )


def share_options(command: click.Command, *, is_shown: bool = False) -> click.Command:
    """Have a command, and those below it, accept the shared options; a second call changes nothing."""
    options = _SHOWN if is_shown else _SUMMED_UP
    if options[0] not in command.params:
        command.params.extend(options)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            share_options(below)
    return command


def is_shared(parameter: click.Parameter) -> bool:
    """Whether a parameter of a command is one of the shared options."""
    return parameter in _SHOWN or parameter in _SUMMED_UP


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None  # empty is not set


def _note(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value:
        context.meta[f"{_META}{parameter.name}"] = value


class _SummedUp(click.Option):
    """A shared option in the help of a command: the first stands for all, the others are completed by shells only."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of help."""
        return _SUMMARY if self.name == "json" else None


_SUMMARY: Final = ("--json, --home, --node, -q", "Work with every command: sealspace --help.")


def _options(kind: type[click.Option]) -> tuple[click.Option, ...]:
    return (
        kind(["--json"], is_flag=True, expose_value=False, callback=_note, help="Print one JSON document."),
        kind(
            ["--home"],
            metavar="DIR",
            type=click.Path(file_okay=False),
            expose_value=False,
            callback=_note,
            help=f"Where the owner's session and grants are kept; by default {HOME_VARIABLE}, or ~/{FOLDER_NAME}.",
        ),
        kind(
            ["--node"],
            metavar="URL",
            expose_value=False,
            callback=_note,
            help=f"The node; by default {NODE_VARIABLE}, or that of the last login.",
        ),
        kind(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_note, help="Print data and errors only."),
    )


_SHOWN: Final = _options(click.Option)
_SUMMED_UP: Final = _options(_SummedUp)
