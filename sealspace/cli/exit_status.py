"""Exit statuses of the command line program `sealspace`.

The table has the meaning of each status, and the error codes that lead to it. `sealspace --help`
prints the table, and `spec/operations/commands.md` is generated from it.
"""

from collections.abc import Mapping

FAILED = 1
WRONG_ARGUMENT = 2
REFUSED = 15
PARTLY_CHECKED = 17
MISSING_EXTRA = 20
INTERRUPTED = 130

EXIT_STATUSES: Mapping[int, tuple[str, ...]] = {
    0: ("done",),
    FAILED: ("a check failed, or another error occurred; the message says which",),
    WRONG_ARGUMENT: (
        "an option, argument or setting is wrong, or names a file that cannot be read",
        "configuration-invalid",
        "file-unreadable",
    ),
    3: (
        "another Python distribution or module uses one of sealspace's package names",
        "foreign-distribution",
    ),
    4: (
        "the root secret cannot be used, was replaced, or is being replaced",
        "secret-unusable",
        "secret-replaced",
        "rotation-unfinished",
    ),
    5: (
        (
            "the store belongs to another node or version, was moved, is a copy whose original"
            " still exists, or cannot be read"
        ),
        "store-misused",
        "store-moved",
        "beside-original",
    ),
    6: ("the settings allow more than the release record", "release-loosened"),
    7: ("collateral was refused", "collateral-refused"),
    8: (
        "the store cannot be reached, or another process is using it",
        "store-unavailable",
        "store-locked",
    ),
    9: ("the store is full", "store-full"),
    10: (
        (
            "not logged in, the session has ended, the key file cannot be used, or the browser"
            " wallet did not sign"
        ),
        "not-signed-in",
        "key-file-unusable",
        "not-signed",
        "backend-key-unusable",
        "session-expired",
    ),
    11: (
        "the node or the backend does not answer, or its identity has changed",
        "backend-unreachable",
        "node-unreachable",
        "node-timeout",
        "node-mismatch",
        "malformed-answer",
    ),
    12: (
        (
            "evidence, a receipt, an invitation, the list of contacts or the signature of a"
            " network's key is invalid, or that key has changed since the login"
        ),
        "backend-answer-invalid",
        "backend-not-proven",
        "measurement-refused",
        "node-evidence-refused",
        "receipt-invalid",
        "descriptor-unsigned",
        "network-key-changed",
        "response-signature-invalid",
        "statement-invalid",
        "provenance-invalid",
        "contacts-invalid",
        "invitation-invalid",
        "succession-invalid",
        "record-invalid",
    ),
    13: ("collateral is missing or stale", "collateral-needed"),
    14: (
        "the backend runs code other than expected, or code that the node would refuse",
        "backend-not-expected",
        "backend-not-acceptable",
    ),
    REFUSED: (
        "the node or the backend refuses the request, or the object already exists",
        "already-there",
        "grant-not-taken",
    ),
    16: (
        "the system clock is earlier than this version's release, or over ten years later",
        "clock-wrong",
    ),
    PARTLY_CHECKED: (
        "what was checked is valid, but not everything was compared; the first line says what",
    ),
    18: ("a part of the answer could not be fetched; the message says which", "answer-incomplete"),
    MISSING_EXTRA: (
        "an extra is not installed; the message says how to install it",
        "extra-missing",
    ),
    21: (
        "the secret, value, space, network, grant, backend or contact does not exist",
        "not-there",
        "not-found",
        "not-shared",
        "no-such-contact",
        "space-not-found",
        "network-not-found",
    ),
    22: (
        "permission denied: the session, the grant or the running code does not allow this",
        "not-granted",
        "not-a-member",
        "unauthorized",
        "action-not-authorized",
        "delegation-revoked",
        "owner-moved",
        "release-refused",
        "decrypt-denied",
    ),
    126: ("the command given to `run` cannot be started", "command-not-executable"),
    127: ("the command given to `run` does not exist", "command-not-found"),
    INTERRUPTED: ("interrupted",),
}
"""Exit status -> its meaning, followed by the error codes that lead to it."""
EXIT_STATUS = {code: number for number, (_, *codes) in EXIT_STATUSES.items() for code in codes}
"""Error code -> exit status; the caller chooses a default for all others."""
