"""Groups of commands that are imported when they are called, so that help and start cost nothing.

A command that needs more than the base install names the extra in its row, and is not imported
without it. A library that is imported later, when an option or a setting asks for it, is looked up
in the same table when it is missing.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeAlias

import click
from click.shell_completion import CompletionItem

from .command_errors import ExtraMissing
from .shared import share_options

# Extra of the distribution -> the modules that it installs; of two extras with one module the
# smaller comes first.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "verify": ("dcap_qvl",),
    "node": ("lmdb", "dcap_qvl", "prometheus_client"),
    "postgres": ("asyncpg",),
    "s3": ("obstore",),
    "runner": ("wasmtime",),
    "yaml": ("yaml", "_yaml"),
}


# What other tools call a command -> what it may be called here.
_ALSO: Final[Mapping[str, str]] = {
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
    """Whether all that an extra installs is there."""
    return all(map(find_spec, EXTRAS[extra]))


class Row(NamedTuple):
    """Where a command is, and what it needs.

    In its module it has its own name (`list_` for `list`, which is Python's), or the one after a
    colon.
    """

    module: str
    summary: str
    extra: str | None = None


Table: TypeAlias = Mapping[str, Row]
"""Name of a command -> where it is."""
Sections: TypeAlias = Mapping[str, Table]
"""Heading of the root's help -> its commands; each package has its own under the entry point
`sealspace.commands`."""


def rows_of(module: str, summaries: Mapping[str, str]) -> Table:
    """Return the rows of commands that one module of the base install has."""
    return {name: Row(module, summary) for name, summary in summaries.items()}


def provided(name: str) -> Any:
    """Import a module that a package above this one provides under the entry point
    `sealspace.provided`.

    Any: the module, whose functions a type checker cannot see from here; imports go downwards only.
    """
    (point,) = entry_points(group="sealspace.provided", name=name)
    return point.load()


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def __init__(self, table: Table, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of help."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        row = self.table.get(cmd_name)
        if row is None:
            return None
        for needed in EXTRAS.get(row.extra or "", ()):
            if find_spec(needed) is None:
                raise _missing(needed, row.extra)
        module, _, named = row.module.partition(":")
        members, name = vars(import_module(module)), named or cmd_name.replace("-", "_")
        command: click.Command = members.get(f"{name}_") or members[name]
        return share_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was called."""
        # a shell completes: a mistake in the words before is not its subject
        if ctx.resilient_parsing:
            try:
                return super().resolve_command(ctx, args)
            except ExtraMissing:
                return None, None, args
        if args[0] not in self.table and not args[0].startswith("-"):
            error = click.exceptions.NoSuchCommand(
                args[0], possibilities=self.list_commands(ctx), ctx=ctx
            )
            here = _ALSO.get(args[0], "")
            if here in self.table and error.possibilities is not None:
                error.possibilities.insert(0, here)
            raise error
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command from the table, without importing any, or an option of the
        group."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.table[name].summary) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = next(
                (extra for extra, modules in EXTRAS.items() if error.name in modules), None
            )
            if extra is None:
                raise
            raise _missing(str(error.name), extra) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.table[name].summary) for name in self.list_commands(ctx)]
            )


class Verbs(click.Group):
    """A group of commands of one module; its help says of each what the first sentence of its own
    help says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which the module has them."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; the framework would cut what is longer than a line."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=200)) for name, one in self.commands.items()]
            )


def _missing(module: str, extra: str | None) -> ExtraMissing:
    return ExtraMissing(
        f"this needs the extra {extra}, which is not installed: there is no module {module}",
        hint=f"pip install 'sealspace[{extra}]'",
    )
