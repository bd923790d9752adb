"""The command line: one module a command, imported when the command is called.

Human text goes to standard error, data to standard output. An error is two lines, what happened and the next command;
the exit status follows from the error's code.

Modules:
    attest: `sealspace attest`, the group.
    demo: `sealspace demo`.
    exit_status: exit statuses, and the codes of errors that lead to them.
    lazy: groups of commands that are imported on use.
    terminal: everything that commands print.
    version: `sealspace version`.

Folders: operator, owner.
"""

import os

import click

from sealspace.errors import InvalidInput, NodeRefused, SealspaceError
from sealspace.printable import printable

from .. import __version__
from ..errors import NodeError
from .exit_status import EXIT_STATUS as EXIT_STATUS
from .exit_status import EXIT_STATUSES, FAILED, REFUSED, WRONG_ARGUMENT
from .lazy import LazyGroup, Row, Table
from .terminal import hold_standard_streams, print_lines

# Listed here so that `--help` imports no command.
COMMANDS: Table = {
    "serve": Row("node.cli.operator.serve", "serve", "Run the node.", "node"),
    "demo": Row("node.cli.demo", "demo", "Run a node and a simulated backend, and show what they do.", "node"),
    "doctor": Row(
        "node.cli.operator.doctor", "doctor", "Check the installation, the settings and the data folder.", "node"
    ),
    "release": Row(
        "node.cli.operator.release", "release", "Show or set the terms under which keys are released.", "node"
    ),
    "collateral": Row(
        "node.cli.operator.collateral", "collateral", "Take in what Intel publishes about its platforms.", "node"
    ),
    "attest": Row("node.cli.attest", "attest", "Show or verify receipts of releases, or a node's own evidence."),
    "audit": Row(
        "node.cli.operator.audit", "audit", "Export the chain over the audit records, or verify an export.", "node"
    ),
    "withdraw": Row(
        "node.cli.operator.withdraw", "withdraw", "Withdraw code, a backend or evidence from every release.", "node"
    ),
    "admin": Row("node.cli.operator.admin", "admin", "Say who may have spaces here, in hosting mode `permit`.", "node"),
    "migrate-store": Row(
        "node.cli.operator.migrate_store", "migrate_store", "Move the store into a database, or back.", "node"
    ),
    "migrate-objects": Row(
        "node.cli.operator.migrate_objects", "migrate_objects", "Move large values into a bucket, or back.", "node"
    ),
    "login": Row("node.cli.owner.login", "login", "Sign in to a node as an owner, with a wallet's key."),
    "secret": Row("node.cli.owner.secret", "secret", "Owner: keep secrets: put, list, delete."),
    "backend": Row(
        "node.cli.owner.backend", "backend", "Owner: look at a backend, grant to exactly that, end it again."
    ),
    "receipts": Row("node.cli.owner.receipts", "receipts", "Owner: see who got keys, and check the node's receipts."),
    "version": Row("node.cli.version", "version", "Print the version."),
    "storekeeper": Row("node.cli.operator.storekeeper", "storekeeper", "", "node"),
    "worker": Row("node.cli.operator.worker", "worker", "", "node"),
}
HIDDEN = frozenset({"storekeeper", "worker"})  # started by `serve`


class _Root(LazyGroup):
    """The command `sealspace`, whose help ends with the exit statuses."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status.number), status.meaning) for status in EXIT_STATUSES])


cli = _Root(
    COMMANDS,
    hidden=HIDDEN,
    name="sealspace",
    help="sealspace: a key-value node whose secrets open only for code that proves itself.",
    epilog="To run a node: `sealspace serve`. To keep secrets on one and grant them: `sealspace login`, then "
    "`sealspace secret`, `sealspace backend` and `sealspace receipts`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, message="%(version)s")(cli)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    hold_standard_streams()
    try:
        status = cli.main(arguments, prog_name="sealspace", standalone_mode=False)
    except NodeError as error:
        return fail(error.code, error.text, error.hint)
    except SealspaceError as error:
        return fail(error.code, _sentence(str(error)), error.hint or "sealspace --help", otherwise=_status_of(error))
    except click.ClickException as error:
        error.show()
        return WRONG_ARGUMENT
    except click.Abort:
        return fail("aborted", "aborted", "start it again")
    except OSError as error:
        return _refused_by_system(error)
    return status if isinstance(status, int) else 0


def fail(code: str, text: str, hint: str, *, otherwise: int = FAILED) -> int:
    """Print two lines, what happened and what to do next; return the exit status of the code."""
    # The text may contain what a node or a backend sent: its control characters must not reach the terminal.
    print_lines(f"sealspace: {text}", f"next: {hint}", err=True)
    return EXIT_STATUS.get(code, otherwise)


def _refused_by_system(error: OSError) -> int:
    reason = error.strerror or type(error).__name__
    if error.filename is None:  # not about a file: a full disk under a stream, a lack of descriptors
        return fail("system-refused", reason, "sealspace doctor")
    named = printable(os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename))
    return fail("system-refused", f"{named}: {reason}", f"ls -ld {named}")


def _status_of(error: SealspaceError) -> int:
    """Return the exit status of a class of error that has none of its own."""
    if isinstance(error, InvalidInput):
        return WRONG_ARGUMENT
    return REFUSED if isinstance(error, NodeRefused) else FAILED


def _sentence(text: str) -> str:
    """Return one line without the full stop, the form of all errors of the command line."""
    return " ".join(text.split()).rstrip(".")
