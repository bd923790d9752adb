"""How a command ends: each exit status, what it means, and the codes of the errors that lead to it.

The help of `sealspace` prints the table, and `spec/operations/commands.md` is made from it.
"""

from collections.abc import Mapping
from typing import Final

FAILED: Final = 1
WRONG_ARGUMENT: Final = 2
REFUSED: Final = 15
MISSING_EXTRA: Final = 20
INTERRUPTED: Final = 130

EXIT_STATUSES: Final[Mapping[int, tuple[str, ...]]] = {
    0: ("done",),
    FAILED: ("what was examined does not hold, or any other failure; the message names it",),
    WRONG_ARGUMENT: (
        "an option, an argument or a setting is wrong, or names a file that cannot be read",
        "configuration-invalid",
        "file-unreadable",
    ),
    3: (
        (
            "another distribution, or a module earlier on the import path, has one of our package"
            " names"
        ),
        "foreign-distribution",
    ),
    4: (
        "the root secret cannot be used",
        "secret-unusable",
    ),
    5: (
        (
            "the store belongs to another node or version, was moved, is beside its original, or"
            " cannot be read"
        ),
        "store-misused",
        "store-moved",
        "beside-original",
    ),
    6: (
        "the settings are looser than the release record",
        "release-loosened",
    ),
    7: (
        "collateral was refused",
        "collateral-refused",
    ),
    8: (
        "the store cannot be reached, or another process has it",
        "store-unavailable",
        "store-locked",
    ),
    9: (
        "the store is full",
        "store-full",
    ),
    10: (
        (
            "nobody is logged in, the session has ended, the key file cannot be used, or nobody"
            " signed in the browser"
        ),
        "not-signed-in",
        "key-file-unusable",
        "not-signed",
        "backend-key-unusable",
        "session-expired",
    ),
    11: (
        "the node or the backend does not answer, or is another one than before",
        "backend-unreachable",
        "node-unreachable",
        "node-timeout",
        "node-mismatch",
        "malformed-answer",
    ),
    12: (
        (
            "evidence, a receipt or the signature of a network's key does not hold, or that key"
            " changed since the login"
        ),
        "backend-answer-invalid",
        "backend-not-proven",
        "node-evidence-refused",
        "receipt-invalid",
        "descriptor-unsigned",
        "network-key-changed",
        "response-signature-invalid",
        "statement-invalid",
    ),
    13: (
        "collateral is missing or stale",
        "collateral-needed",
    ),
    14: (
        "the backend runs other code than is expected, or the node would refuse it",
        "backend-not-expected",
        "backend-not-acceptable",
    ),
    REFUSED: (
        "the node or the backend refuses, or what is there is not to be replaced",
        "already-there",
        "grant-not-taken",
    ),
    16: (
        "the clock is before the making of this version, or more than ten years after it",
        "clock-wrong",
    ),
    MISSING_EXTRA: (
        "an extra is not installed; the message says how to install it",
        "extra-missing",
    ),
    21: (
        "there is no such secret, value, space, network, grant or backend",
        "not-there",
        "not-found",
        "space-not-found",
        "network-not-found",
    ),
    22: (
        "this is not granted: the session, the delegation or the code that runs does not suffice",
        "not-granted",
        "unauthorized",
        "action-not-authorized",
        "delegation-revoked",
        "release-refused",
        "decrypt-denied",
    ),
    126: (
        "the command of `run` cannot be started",
        "command-not-executable",
    ),
    127: (
        "the command of `run` does not exist",
        "command-not-found",
    ),
    INTERRUPTED: ("interrupted",),
}
"""Exit status -> what it means, and behind that the codes of the errors that lead to it."""
EXIT_STATUS: Final = {
    code: number for number, (_, *codes) in EXIT_STATUSES.items() for code in codes
}
"""Code of an error -> exit status; 1 for every other."""
