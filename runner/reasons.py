"""Reasons for refused and failed runs, with stable codes.

`REASONS` is the only table: `spec/runner.md` shows it, and answers to callers take code and
sentence from it. A sentence never contains data of a request. A detail may name imports and
environment variables, but never contains a value.

Example:
    raise RunRefused("program-imports", "wasi:http/types@0.2.0")
"""

from typing import NamedTuple

MAX_DETAIL_CHARS = 400
"""Longest detail. Names from a program may be long, and a job's record has to stay small."""


class Reason(NamedTuple):
    """The reason for a refused or failed program run."""

    code: str
    sentence: str
    status: int
    detail: str = ""

    @property
    def ran(self) -> bool:
        """Whether the program was started.

        If so, the HTTP status is 200 even if the run failed, except where the answer is too long to
        be sent now.
        """
        return self.status == 200 or self.code == "answer-unsent"


OF_PROGRAM = frozenset({"guest-exit", "guest-trap"})
"""Failures that a program itself decides; their callers get its output (RN263)."""


class RunRefused(Exception):
    """Raised when a program run is refused or fails.

    The attribute `reason` says why.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.reason = REASONS[code]._replace(detail=_on_one_line(detail)[:MAX_DETAIL_CHARS])
        super().__init__(code)


def _on_one_line(text: str) -> str:
    """Return a text with a single space in place of spaces and characters that do not print."""
    printable = []
    for char in text:
        printable.append(char if char.isprintable() else " ")
    return " ".join("".join(printable).split())


_SENTENCES = {
    400: {
        "request-invalid": "The request is not valid; the detail names the member.",
        "key-malformed": "The API key is not `<owner>:<nonce>:<secret>`.",
        "key-statement": (
            "The signed statement of the API key is not valid for this runner; the detail says why."
        ),
        "key-per-call": (
            "The compute limit exceeds what the API key allows for one call; the detail has both."
        ),
        "compute-limit": (
            "The compute limit does not pay for the shortest run, or for the compilation."
        ),
        "bad-profile": (
            "The profile is not valid: use `default`, or lower-case letters, digits and dashes;"
            " the detail says what is wrong."
        ),
        "limits-invalid": "A limit of the run is below 1 or above what this runner allows.",
        "environment-name": (
            "A secret's name is not valid as a variable: use capital letters, digits and"
            " underscores."
        ),
        "environment-value": (
            "A secret or argument contains a NUL, which would truncate it, or is not Unicode text."
        ),
        "environment-too-large": "The environment of the run is longer than 256 KiB.",
        "program-mismatch": "The program's bytes do not have the expected SHA-256.",
        "program-too-large": "The program is larger than this runner accepts.",
        "program-not-wasm": "The program is not a WebAssembly binary.",
        "program-target": "The program is a module but its target says component, or the reverse.",
        "program-invalid": (
            "The program is not valid, or needs a WebAssembly feature that is disabled."
        ),
        "python-base-unknown": (
            "This runner does not have the Python base of the program; the detail lists those that"
            " it has."
        ),
        "program-imports": (
            "The program imports functions that no runner offers; the detail lists them."
        ),
        "program-no-start": "The program exports neither `_start` nor `wasi:cli/run`.",
        "compile-limit": "Compiling the program needs more memory or time than is allowed.",
    },
    401: {
        "call-refused": (
            "The call's token is missing, or is not valid for this runner, program and body."
        ),
        "key-refused": "The API key is missing, unknown or wrong, or it has ended or was revoked.",
    },
    402: {
        "balance-too-low": "The balance of the account is lower than what the call may cost.",
    },
    403: {
        "key-in-clear": (
            "API keys are accepted only over TLS that ends in the runner, or from its own machine."
        ),
        "key-project": "The API key is not for this project.",
        "key-profile": "The API key is not for secrets of this profile.",
        "owner-unknown": (
            "This runner has no account or grant of this owner; grant a secret, or ask its operator"
            " for an account."
        ),
        "access-denied": (
            "An owner of secrets, or the developer, does not allow this caller to run this program."
        ),
        "access-unknown": "The runner could not decide whether the caller may use the secrets.",
        "secrets-not-granted": (
            "The owner granted no secrets of this profile (of a task: the application's) to this"
            " runner for this program."
        ),
        "grant-no-project": (
            "The grant names no project, but states hosts or is for a run with secrets of the"
            " developer; its owner has to grant again with `sealspace runner grant --program"
            " DID/NAME`."
        ),
        "build-not-proven": (
            "An owner grants to builds of a repository, and the active version is not proven to be"
            " one of them, or is older than one that this runner has admitted."
        ),
        "secret-missing": "A secret that the program needs was not granted or does not exist.",
        "secret-refused": "The node refuses to release a secret to this runner.",
        "secret-not-bound": (
            "The stored value of a secret does not say that it belongs there; a call of the"
            " secret's owner says which secret that is, and what to do."
        ),
        "secret-not-generated": (
            "A secret whose name begins with PROTECTED_ was not generated by this runner's code, or"
            " was changed; delete it, and run `sealspace runner generate`."
        ),
        "PRE_COMPUTE_GET_DATASET_SECRET_FAILED": (
            "The owner of the data set did not grant its key to this runner for this application"
            " and requester, or the key does not exist or is not usable; the detail says why."
        ),
        "POST_COMPUTE_GET_ENCRYPTION_TOKENS_FAILED_EMPTY_BENEFICIARY_KEY": (
            "The beneficiary did not grant its key for results to this runner for this application"
            " and requester, or the key does not exist or is not usable; the detail says why."
        ),
        "generation-not-granted": (
            "The owner did not grant this runner to write exactly these secrets."
        ),
    },
    404: {
        "program-unknown": (
            "The program was not found; a commit that no grant names needs its project. A developer"
            " publishes a build with `sealspace project publish NAME FILE --provenance BUNDLE`."
        ),
        "tasks-off": "This runner runs no tasks; its operator starts it with `--task-dir`.",
    },
    408: {
        "request-slow": "The body of the request did not arrive in time.",
    },
    409: {
        "call-repeated": "The token of this call was used before; sign a new one.",
        "call-start": (
            "The token is for another start of this runner; get `start` from `GET /info`, and sign"
            " again."
        ),
        "key-known": "Another API key has this nonce, or this key was revoked.",
        "network-unknown": (
            "The owner has no network `protected`, which generated secrets are encrypted to."
        ),
        "program-statement": (
            "The developer's statement about the program is not valid; the detail says why."
        ),
        "program-older": "The active version is older than one that this runner has seen.",
    },
    413: {
        "input-too-large": "The input or the body is longer than this runner accepts.",
    },
    429: {
        "too-many-calls": (
            "This API key or caller has too many calls running, or made too many in the last"
            " minute."
        ),
    },
    503: {
        "keys-full": "The runner's storage for API keys is full, for this owner or for all.",
        "secret-unreadable": "A secret could not be read from the node; try again later.",
        "node-unavailable": "The node did not answer; try again later.",
        "runner-busy": "The runner is busy; try again later.",
        "answer-unsent": (
            "The program ran and was charged, but the runner is sending too many long answers to"
            " send this one."
        ),
        "builds-full": (
            "The runner remembers the latest build of as many rules as one owner may have it"
            " remember."
        ),
        "runner-closed": "The runner is shutting down; if the program had started, it was ended.",
        "tasks-unsupported": (
            "This runner cannot confine programs that use files: its kernel has no Landlock."
        ),
        "runner-failed": "The runner could not compile or start the program; try again later.",
    },
    200: {
        "program-start": (
            "The program could not be instantiated: it needs too many instances, tables or"
            " memories, or a function that the runner does not offer."
        ),
        "limit-instructions": "The program used more instructions than its limit.",
        "limit-memory": "The program failed after it was refused more memory than its limit.",
        "limit-time": "The program ran longer than its limit.",
        "limit-output": (
            "The program wrote more output than its limit, or its output is too long as JSON."
        ),
        "limit-files": "The program wrote more files or bytes than its limit.",
        "output-format": "The program's output is not valid in the response format.",
        "guest-exit": "The program exited with a code other than 0.",
        "guest-trap": "The program trapped.",
        "interrupted": (
            "The runner ended during the run; nothing is charged, and the run is not repeated."
        ),
        "run-crashed": (
            "The process that ran the program ended, for example because it ran out of resources."
        ),
    },
}
REASONS = {
    code: Reason(code=code, sentence=sentence, status=status)
    for status, sentences in _SENTENCES.items()
    for code, sentence in sentences.items()
}
