"""The command line: one file a command, imported when it is called.

Human text goes to standard error, data to standard output. An error is two lines, what happened and the next command;
the exit status follows from the error's code.
"""

import os

import click

from sealspace.errors import InvalidInput, NodeRefused, SealspaceError
from sealspace.printable import printable

from .. import __version__
from ..errors import NodeError
from .lazy import LazyGroup, Row, Table
from .terminal import hold_standard_streams, tell

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
        "node.cli.operator.collateral", "collateral", "Take in what Intel says about its platforms.", "node"
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
    "migrate-blobs": Row(
        "node.cli.operator.migrate_blobs", "migrate_blobs", "Move large values into a bucket, or back.", "node"
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

# Exit status by code; 1 for every other.
EXIT_STATUS = {
    "configuration-invalid": 2,
    "foreign-distribution": 3,
    "extra-missing": 3,
    "secret-unusable": 4,
    "store-misused": 5,
    "store-moved": 5,
    "release-loosened": 6,
    "collateral-refused": 7,
    "store-unavailable": 8,
    "store-locked": 8,
    "store-full": 9,
    "not-signed-in": 10,
    "key-file-unusable": 10,
    "session-expired": 10,
    "backend-unreachable": 11,
    "node-unreachable": 11,
    "node-timeout": 11,
    "node-mismatch": 11,
    "malformed-answer": 11,
    "backend-answer-invalid": 12,
    "backend-not-proven": 12,
    "node-evidence-refused": 12,
    "receipt-invalid": 12,
    "descriptor-unsigned": 12,
    "network-key-changed": 12,
    "response-signature-invalid": 12,
    "collateral-needed": 13,
    "backend-not-expected": 14,
    "backend-not-acceptable": 14,
    "grant-not-taken": 15,
    "clock-wrong": 16,
}
_ARGUMENT_STATUS = 2
_REFUSED_STATUS = 15


cli = LazyGroup(
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
        return 2
    except click.Abort:
        return fail("aborted", "aborted", "start it again")
    except OSError as error:
        return _refused_by_system(error)
    return status if isinstance(status, int) else 0


def fail(code: str, text: str, hint: str, *, otherwise: int = 1) -> int:
    """Say in two lines what happened and what to do next; return the exit status of the code."""
    # What a node or a backend said may stand in it: its signs are not for the terminal.
    tell(f"sealspace: {text}", f"next: {hint}", err=True)
    return EXIT_STATUS.get(code, otherwise)


def _refused_by_system(error: OSError) -> int:
    reason = error.strerror or type(error).__name__
    if error.filename is None:  # of no file: a full disk under a stream, a lack of descriptors
        return fail("system-refused", reason, "sealspace doctor")
    named = printable(os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename))
    return fail("system-refused", f"{named}: {reason}", f"ls -ld {named}")


def _status_of(error: SealspaceError) -> int:
    """Return the exit status of a kind of error that has none of its own."""
    if isinstance(error, InvalidInput):
        return _ARGUMENT_STATUS
    return _REFUSED_STATUS if isinstance(error, NodeRefused) else 1


def _sentence(text: str) -> str:
    """One line, without the full stop, as all errors of the command line are."""
    return " ".join(text.split()).rstrip(".")
