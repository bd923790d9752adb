"""The command line: one file a command, imported when it is called.

Human text goes to standard error, data to standard output. An error is two lines, what happened and the next command;
the exit status follows from the error's code.
"""

import importlib
import sys

import click

from .. import __version__
from ..errors import NodeError

# name -> module, attribute, one line of help. Listed here so that `--help` imports no command.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("node.cli.serve", "serve", "Run the node."),
    "demo": ("node.cli.demo", "demo", "Run a node and a simulated backend, and show what they do."),
    "doctor": ("node.cli.doctor", "doctor", "Check the installation, the settings and the data folder."),
    "release": ("node.cli.release", "release", "Show or set the terms under which keys are released."),
    "collateral": ("node.cli.collateral", "collateral", "Take in what Intel says about its platforms."),
    "attest": ("node.cli.attest", "attest", "Show receipts of releases, or verify one."),
    "audit": ("node.cli.audit", "audit", "Export the chain over the audit records, or verify an export."),
    "withdraw": ("node.cli.withdraw", "withdraw", "Withdraw code, a backend or evidence from every release."),
    "migrate-store": ("node.cli.migrate_store", "migrate_store", "Move the store into a database, or back."),
    "version": ("node.cli.version", "version", "Print the version."),
    "storekeeper": ("node.cli.storekeeper", "storekeeper", ""),
    "worker": ("node.cli.worker", "worker", ""),
}
HIDDEN = frozenset({"storekeeper", "worker"})  # started by `serve`

# Exit status by code; 1 for every other.
EXIT_STATUS = {
    "configuration-invalid": 2,
    "foreign-distribution": 3,
    "secret-unusable": 4,
    "store-misused": 5,
    "release-loosened": 6,
    "collateral-refused": 7,
    "store-unavailable": 8,
    "store-locked": 8,
    "store-full": 9,
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that help shows."""
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """sealspace: a key-value node whose secrets open only for code that proves itself."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    try:
        status = cli.main(arguments, prog_name="sealspace", standalone_mode=False)
    except NodeError as error:
        return fail(error.code, error.text, error.hint)
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        return fail("aborted", "aborted", "start it again")
    return status if isinstance(status, int) else 0


def fail(code: str, text: str, hint: str) -> int:
    """Say in two lines what happened and what to do next; return the exit status of the code."""
    print(f"sealspace: {text}\nnext: {hint}", file=sys.stderr)
    return EXIT_STATUS.get(code, 1)
