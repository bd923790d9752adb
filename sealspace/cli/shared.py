"""The options that every command accepts.

They are `--json`, `--home`, `--node`, `--as` and `--quiet`. They can be given at any position; the
last one wins. The environment variables `SEALSPACE_NODE` and `SEALSPACE_HOME` are the defaults of
`--node` and `--home`. `node.config.loading` reads the settings of a node from other variables.

Example:
    @click.command()
    def list_() -> None:
        rows = asyncio.run(_list(owner_home()))
        if shared().as_json: ...
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from capabilities.frozen import frozen

NODE_VARIABLE = "SEALSPACE_NODE"
HOME_VARIABLE = "SEALSPACE_HOME"
FOLDER_NAME = ".sealspace"

_META = "sealspace.shared"
_PROJECT_META = "sealspace.project"
_FOR_TEAM_META = "sealspace.for_team"
_KINDS = {
    "directory": "DIR",
    "filename": "FILE",
    "path": "FILE",
    "float range": "NUMBER",
    "integer": "NUMBER",
    "integer range": "NUMBER",
}
"""Type of a parameter without a metavar -> its metavar in help."""


@frozen
class Shared:
    """The values of the options that every command accepts."""

    as_json: bool = False
    quiet: bool = False
    given_home: str | None = None
    given_node: str | None = None
    given_team: str | None = None

    @property
    def home_folder(self) -> Path:
        """The folder that contains the owner's files.

        It comes from `--home` or SEALSPACE_HOME, and is ~/.sealspace by default.
        """
        path = self.given_home or os.environ.get(HOME_VARIABLE)
        return Path(path) if path else Path.home() / FOLDER_NAME

    @property
    def node(self) -> str | None:
        """The node's address from `--node` or SEALSPACE_NODE.

        None means that neither is set.
        """
        return self.given_node or os.environ.get(NODE_VARIABLE) or None


def shared() -> Shared:
    """Return the shared options of the running command.

    If no command runs, this returns the defaults.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return Shared()
    options: Shared = context.meta.get(_META, Shared())
    return options


def team_of_project() -> tuple[str, str]:
    """Return the team in the project file and the path of the file, or two empty texts.

    The root command sets the function that finds the file.
    """
    context = click.get_current_context(silent=True)
    if context is None or _PROJECT_META not in context.meta:
        return "", ""
    team_and_file: tuple[str, str] = context.meta[_PROJECT_META]()
    return team_and_file


def provide(
    context: click.Context, *, find_team: Callable[[], tuple[str, str]], for_team: object
) -> None:
    """Provide two functions to the modules of commands, which cannot import them.

    Args:
        context: context of the root command.
        find_team: returns what `team_of_project` returns.
        for_team: see `for_team`.
    """
    context.meta[_PROJECT_META] = find_team
    context.meta[_FOR_TEAM_META] = for_team


def for_team() -> Any:
    """Return the function that gives commands the client for the chosen team, or None.

    It takes the owner's folder and a client, and returns an asynchronous context manager.
    """
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_FOR_TEAM_META)


def share_options(command: click.Command) -> click.Command:
    """Add the shared options to a command and its subcommands.

    All options get uniform metavars. A second call changes nothing.
    """
    if _OPTIONS[0] not in command.params:
        command.params.extend(_OPTIONS)
    for parameter in command.params:
        if parameter.metavar is None:  # an empty string hides the parameter
            parameter.metavar = _KINDS.get(parameter.type.name)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            share_options(below)
    return command


def is_shared(parameter: click.Parameter) -> bool:
    """Return whether every command accepts a given option."""
    return parameter in _OPTIONS


# Any: as in click
def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        context.meta[_META] = replace(shared(), **{str(parameter.name): value})


class _SharedOption(click.Option):
    """An option that every command accepts.

    Help lists all such options on one line.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line in the help text, or None.

        None hides the option.
        """
        if ctx.parent is None:
            return super().get_help_record(ctx)
        # Below `sealspace`, the first of the options has a line for all of them.
        if self.name == "as_json":
            return "--json, --home, --node, --as, -q", "Shared options, see sealspace --help."
        return None


_option = partial(_SharedOption, expose_value=False, callback=_note)
_OPTIONS = (
    _option(["--json", "as_json"], is_flag=True, help="Print the result as one JSON document."),
    _option(
        ["--home", "given_home"],
        metavar="DIR",
        type=click.Path(file_okay=False),
        help=f"Folder with the owner's session and grants. Default: {HOME_VARIABLE} if set, else"
        f" ~/{FOLDER_NAME}.",
    ),
    _option(
        ["--node", "given_node"],
        metavar="URL",
        help=f"Address of the node. Default: {NODE_VARIABLE} if set, else the last login's node.",
    ),
    _option(
        ["--as", "given_team"],
        metavar="TEAM|me",
        help="Use the secrets of this team, or your own. Default: the team that `sealspace use`"
        " chose, else your own.",
    ),
    _option(["-q", "--quiet"], is_flag=True, help="Print only data and errors."),
)
