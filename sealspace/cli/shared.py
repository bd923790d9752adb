"""The options that every command accepts, before the noun, between noun and verb, and after the
verb.

The last one given holds. `SEALSPACE_NODE` and `SEALSPACE_HOME` stand in for `--node` and `--home`;
the settings of a node are read from other variables (`node.config.loading`).

Example:
    @click.command("list")
    def list_() -> None:
        rows = asyncio.run(_list(owner_home()))  # the owner's folder that is named: `sealspace.cli.owner_profile`
        if shared().as_json: ...
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

NODE_VARIABLE: Final = "SEALSPACE_NODE"
HOME_VARIABLE: Final = "SEALSPACE_HOME"
FOLDER_NAME: Final = ".sealspace"

_META: Final = "sealspace.shared"
_KINDS: Final = {
    "directory": "DIR",
    "filename": "FILE",
    "path": "FILE",
    "float range": "NUMBER",
    "integer": "NUMBER",
    "integer range": "NUMBER",
}
"""Type of a value that is not named -> its name in help."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared options, as they were given; an empty environment variable is not set."""

    as_json: bool = False
    quiet: bool = False
    given_home: str | None = None
    given_node: str | None = None

    @property
    def home_folder(self) -> Path:
        """The owner's folder."""
        named = self.given_home or os.environ.get(HOME_VARIABLE)
        return Path(named) if named else Path.home() / FOLDER_NAME

    @property
    def node(self) -> str | None:
        """Address of the node; None where none is named."""
        return self.given_node or os.environ.get(NODE_VARIABLE) or None


def shared() -> Shared:
    """Return what the running command was given; outside a command, what holds without options."""
    context = click.get_current_context(silent=True)
    found: Shared = Shared() if context is None else context.meta.get(_META, Shared())
    return found


def share_options(command: click.Command) -> click.Command:
    """Have a command, and those below it, accept the shared options, and call kinds of values as
    all help does.

    A second call changes nothing.
    """
    if _OPTIONS[0] not in command.params:
        command.params.extend(_OPTIONS)
    for parameter in command.params:
        if parameter.metavar is None:  # an empty one hides the parameter
            parameter.metavar = _KINDS.get(parameter.type.name)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        share_options(below)
    return command


def is_shared(parameter: click.Parameter) -> bool:
    """Whether a parameter of a command is one of the shared options."""
    return parameter in _OPTIONS


# Any: as in click
def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        context.meta[_META] = replace(shared(), **{str(parameter.name): value})


class _SharedOption(click.Option):
    """A shared option; in the help of a command the first stands for all, the others are completed
    by shells only."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of help."""
        if ctx.parent is None:
            return super().get_help_record(ctx)
        return (
            ("--json, --home, --node, -q", "Work with every command: sealspace --help.")
            if self.name == "as_json"
            else None
        )


_option = partial(_SharedOption, expose_value=False, callback=_note)
_OPTIONS: Final = (
    _option(["--json", "as_json"], is_flag=True, help="Print one JSON document."),
    _option(
        ["--home", "given_home"],
        metavar="DIR",
        type=click.Path(file_okay=False),
        help=(
            f"Where the owner's session and grants are kept; by default {HOME_VARIABLE}, or"
            f" ~/{FOLDER_NAME}."
        ),
    ),
    _option(
        ["--node", "given_node"],
        metavar="URL",
        help=f"The node; by default {NODE_VARIABLE}, or that of the last login.",
    ),
    _option(["-q", "--quiet"], is_flag=True, help="Print data and errors only."),
)
