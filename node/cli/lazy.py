"""Groups of commands that are imported when they are called, so that help and start cost nothing.

Example:
    backend = LazyGroup(COMMANDS, name="backend", help="…")
"""

import importlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import click

Table: TypeAlias = Mapping[str, tuple[str, str, str]]
"""Name of a command -> module, attribute, one line of help."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called.

    Args:
        table: its commands.
        hidden: names that help does not show.
        attributes: of click's group.
    """

    def __init__(self, table: Table, *, hidden: frozenset[str] = frozenset(), **attributes: Any) -> None:
        super().__init__(**attributes)
        self._table = table
        self._hidden = hidden

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that help shows."""
        return [name for name in self._table if name not in self._hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._table:
            return None
        module, attribute, _ = self._table[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name][2]) for name in self.list_commands(ctx)])
