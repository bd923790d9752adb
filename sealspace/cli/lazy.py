"""Command groups that import each command on first use.

This keeps startup fast. The row of a command names the extra that it needs; without the extra the
command is not imported. If an option or a setting imports a missing library later, the same table
names the extra to install.
"""

import gc
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from ..service.command_errors import ExtraMissing
from .shared import share_options

# Extra -> the modules that it installs. Of two extras with the same module the smaller comes
# first: the first match is what an error tells the user to install.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "verify": ("dcap_qvl",),
    "node": ("apsw", "lmdb", "dcap_qvl", "prometheus_client", "jwt"),
    "postgres": ("asyncpg",),
    "s3": ("obstore",),
    "runner": (
        ("wasmtime", "re2", "prometheus_client")
        if sys.version_info < (3, 15)
        else ("wasmtime", "prometheus_client")
    ),
    "provenance": ("sigstore",),
    "yaml": ("yaml", "_yaml"),
    "mcp": ("mcp", "pydantic"),
}


# Verb of other tools -> the verb here, for "did you mean".
_ALSO: Mapping[str, str] = {
    "add": "put",
    "cat": "get",
    "del": "delete",
    "exec": "run",
    "ls": "list",
    "read": "get",
    "remove": "delete",
    "rm": "delete",
    "set": "put",
    "unset": "delete",
    "write": "put",
}


def is_installed(extra: str) -> bool:
    """Return whether an optional dependency group is installed."""
    return all(map(find_spec, EXTRAS[extra]))


class Row(NamedTuple):
    """An entry in a table of commands.

    The table names the command. The function in the module is called like it (`list_` for `list`),
    unless `module` ends with a colon and another name.
    """

    module: str
    summary: str
    extra: str | None = None


Table = Mapping[str, Row]
"""Name of a command -> its row."""
Sections = Mapping[str, Table]
"""Heading in `sealspace --help` -> its commands; packages register theirs with the entry point
`sealspace.commands`."""


def rows_of(module: str, summaries: Mapping[str, str], extra: str | None = None) -> Table:
    """Build a table of the commands in one module.

    `summaries` maps command names to help texts.
    """
    return {name: Row(module, summary, extra=extra) for name, summary in summaries.items()}


class LazyGroup(click.Group):
    """A command group that imports each command on first use."""

    def __init__(self, table: Table, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the help text."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command, and return the command.

        Returns None if the group has no command of this name.

        Raises:
            ExtraMissing: the command needs an extra that is not installed; nothing is imported.
        """
        row = self.table.get(cmd_name)
        if row is None:
            return None
        for required_module in EXTRAS.get(row.extra or "", ()):
            if find_spec(required_module) is None:
                raise _missing(required_module, row.extra)
        module_name, _, explicit_name = row.module.partition(":")
        members = vars(_import_quickly(module_name))
        function_name = explicit_name or cmd_name.replace("-", "_")
        # A function whose name a builtin has ends with an underscore, such as `list_`.
        command: click.Command = members.get(f"{function_name}_") or members[function_name]
        command.name = cmd_name
        return share_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named by the arguments."""
        # The shell is completing a line: mistakes in the words before are not reported.
        if ctx.resilient_parsing:
            try:
                return super().resolve_command(ctx, args)
            except ExtraMissing:
                return None, None, args
        if args[0] not in self.table and not args[0].startswith("-"):
            error = click.exceptions.NoSuchCommand(
                args[0], possibilities=self.list_commands(ctx), ctx=ctx
            )
            if error.possibilities is not None:
                # Before the names that click found, which only resemble the word.
                error.possibilities[:0] = self._commands_meant(ctx, args)
            raise error
        return super().resolve_command(ctx, args)

    def _commands_meant(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Return the commands that unknown arguments may mean.

        A verb may be without its group, or before it: `list secrets` means `secret list`.
        """
        verb = _ALSO.get(args[0], args[0])
        commands = [verb] if verb in self.table else []
        for name in (args[-1].removesuffix("s"), "secret"):
            with suppress(ExtraMissing):
                group = self.get_command(ctx, name)
                if isinstance(group, LazyGroup) and verb in group.table:
                    commands.append(f"{name} {verb}")
        return commands

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names and options without importing commands."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=self.table[name].summary) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Raises:
            ExtraMissing: an option or a setting imports a module of an extra that is not installed.
        """
        try:
            return super().invoke(ctx)
        except click.BadOptionUsage as error:
            # click's parser does not say which command the option was for.
            name = ctx.invoked_subcommand or ""
            if error.ctx is None and (command := self.get_command(ctx, name)):
                error.ctx = click.Context(command, ctx, name)
            raise
        except ModuleNotFoundError as error:
            for extra, modules in EXTRAS.items():
                if error.name in modules:
                    raise _missing(str(error.name), extra) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help text."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.table[name].summary) for name in self.list_commands(ctx)]
            )


class Verbs(click.Group):
    """A group of commands in one module.

    Its help shows the first sentence of each command.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in definition order."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help text."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(limit=200))
                    for name, command in self.commands.items()
                ]
            )


def _import_quickly(name: str) -> ModuleType:
    """Import a module without garbage collections.

    Next to everything that an import creates is kept, so collections would only take time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if was_enabled:
            gc.enable()


def _missing(module: str, extra: str | None) -> ExtraMissing:
    return ExtraMissing(
        f"this needs the extra {extra}, which is not installed: module {module} is missing",
        hint=f"pip install 'sealspace[{extra}]'",
    )
