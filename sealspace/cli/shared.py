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
# What a kind of value is called where it is not named -> what help calls it.
_KINDS: Final = {
    "DIRECTORY": "DIR",
    "FOLDER": "DIR",
    "FILENAME": "FILE",
    "PATH": "FILE",
    "FLOAT": "NUMBER",
    "FLOAT RANGE": "NUMBER",
    "INTEGER": "NUMBER",
    "INTEGER RANGE": "NUMBER",
}


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


def share_options(command: click.Command) -> click.Command:
    """Have a command, and those below it, accept the shared options, and call kinds of values as all help does.

    A second call changes nothing.
    """
    if _OPTIONS[0] not in command.params:
        command.params.extend(_OPTIONS)
    for parameter in command.params:
        named = parameter.metavar or parameter.type.name.upper()
        if named == "FOLDER" or (parameter.metavar is None and named in _KINDS):
            parameter.metavar = _KINDS[named] + ("..." if parameter.nargs == -1 else "")
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        share_options(below)
    return command


def is_shared(parameter: click.Parameter) -> bool:
    """Whether a parameter of a command is one of the shared options."""
    return parameter in _OPTIONS


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None  # empty is not set


def _note(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value:
        context.meta[f"{_META}{parameter.name}"] = value


class _SharedOption(click.Option):
    """A shared option; in the help of a command the first stands for all, the others are completed by shells only."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of help."""
        if ctx.parent is None:
            return super().get_help_record(ctx)
        return (
            ("--json, --home, --node, -q", "Work with every command: sealspace --help.")
            if self.name == "json"
            else None
        )


_OPTIONS: Final = (
    _SharedOption(["--json"], is_flag=True, expose_value=False, callback=_note, help="Print one JSON document."),
    _SharedOption(
        ["--home"],
        metavar="DIR",
        type=click.Path(file_okay=False),
        expose_value=False,
        callback=_note,
        help=f"Where the owner's session and grants are kept; by default {HOME_VARIABLE}, or ~/{FOLDER_NAME}.",
    ),
    _SharedOption(
        ["--node"],
        metavar="URL",
        expose_value=False,
        callback=_note,
        help=f"The node; by default {NODE_VARIABLE}, or that of the last login.",
    ),
    _SharedOption(
        ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_note, help="Print data and errors only."
    ),
)
