"""How a command ends: each exit status, what it means, and the codes of the errors that lead to it.

The help of `sealspace` prints the table, and `spec/operations/commands.md` is made from it.
"""

from typing import Final, NamedTuple


class ExitStatus(NamedTuple):
    """One exit status."""

    number: int
    meaning: str
    codes: tuple[str, ...] = ()


FAILED: Final = 1
WRONG_ARGUMENT: Final = 2
REFUSED: Final = 15
MISSING_EXTRA: Final = 20
NOT_FOUND: Final = 21
DENIED: Final = 22
INTERRUPTED: Final = 130

EXIT_STATUSES: Final = (
    ExitStatus(0, "done"),
    ExitStatus(FAILED, "what was examined does not hold, or any other failure; the message names it"),
    ExitStatus(
        WRONG_ARGUMENT,
        "an option, an argument or a setting is wrong, or names a file that cannot be read",
        ("configuration-invalid", "file-unreadable"),
    ),
    ExitStatus(
        3,
        "another distribution, or a module earlier on the import path, has one of our package names",
        ("foreign-distribution",),
    ),
    ExitStatus(4, "the root secret cannot be used", ("secret-unusable",)),
    ExitStatus(
        5,
        "the store belongs to another node or version, was moved, is beside its original, or cannot be read",
        ("store-misused", "store-moved", "beside-original"),
    ),
    ExitStatus(6, "the settings are looser than the release record", ("release-loosened",)),
    ExitStatus(7, "collateral was refused", ("collateral-refused",)),
    ExitStatus(8, "the store cannot be reached, or another process has it", ("store-unavailable", "store-locked")),
    ExitStatus(9, "the store is full", ("store-full",)),
    ExitStatus(
        10,
        "nobody is logged in, the session has ended, the key file cannot be used, or nobody signed in the browser",
        ("not-signed-in", "key-file-unusable", "not-signed", "backend-key-unusable", "session-expired"),
    ),
    ExitStatus(
        11,
        "the node or the backend does not answer, or is another one than before",
        ("backend-unreachable", "node-unreachable", "node-timeout", "node-mismatch", "malformed-answer"),
    ),
    ExitStatus(
        12,
        "evidence, a receipt or the signature of a network's key does not hold, or that key changed since the login",
        (
            "backend-answer-invalid",
            "backend-not-proven",
            "node-evidence-refused",
            "receipt-invalid",
            "descriptor-unsigned",
            "network-key-changed",
            "response-signature-invalid",
            "statement-invalid",
        ),
    ),
    ExitStatus(13, "collateral is missing or stale", ("collateral-needed",)),
    ExitStatus(
        14,
        "the backend runs other code than is expected, or the node would refuse it",
        ("backend-not-expected", "backend-not-acceptable"),
    ),
    ExitStatus(
        REFUSED,
        "the node or the backend refuses, or what is there is not to be replaced",
        ("already-there", "grant-not-taken"),
    ),
    ExitStatus(16, "the clock is before the making of this version, or more than ten years after it", ("clock-wrong",)),
    ExitStatus(MISSING_EXTRA, "an extra is not installed; the message says how to install it", ("extra-missing",)),
    ExitStatus(
        NOT_FOUND,
        "there is no such secret, value, space, network, grant or backend",
        ("not-there", "not-found", "space-not-found", "network-not-found"),
    ),
    ExitStatus(
        DENIED,
        "this is not granted: the session, the delegation or the code that runs does not suffice",
        (
            "not-granted",
            "unauthorized",
            "action-not-authorized",
            "delegation-revoked",
            "release-refused",
            "decrypt-denied",
        ),
    ),
    ExitStatus(126, "the command of `run` cannot be started", ("command-not-executable",)),
    ExitStatus(127, "the command of `run` does not exist", ("command-not-found",)),
    ExitStatus(INTERRUPTED, "interrupted"),
)
EXIT_STATUS: Final = {code: status.number for status in EXIT_STATUSES for code in status.codes}
"""Code of an error -> exit status; 1 for every other."""
