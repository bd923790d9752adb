"""Every reason for which a run fails, or is refused before it begins, with its stable code.

`REASONS` is the one table: `spec/runner.md` shows it, and an answer to a caller takes code and
sentence from it. A sentence never contains anything of a request; its detail may name imports and
environment variables, and never contains a value.

Example:
    raise RunRefused("program-imports", "wasi:http/types@0.2.0")
"""

from dataclasses import dataclass, replace
from typing import Final

MAX_DETAIL_CHARS: Final = 400
"""A detail may list names from a program; it is cut so that a job's record stays small."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run failed, the status of HTTP for it, and what it is about in this case."""

    code: str
    sentence: str
    status: int
    detail: str = ""

    @property
    def ran(self) -> bool:
        """Whether the program was started: a run that failed is an answer like any other."""
        return self.status == 200


class RunRefused(Exception):
    """The run is refused before the program starts."""

    def __init__(self, code: str, detail: str = "") -> None:
        printable = "".join(char if char.isprintable() else " " for char in detail)
        self.reason = replace(REASONS[code], detail=" ".join(printable.split())[:MAX_DETAIL_CHARS])
        super().__init__(code)


_SENTENCES: Final = {
    400: {
        "request-invalid": "The request is not what this route takes; the detail names the member.",
        "key-malformed": "The API key is not `<owner>:<nonce>:<secret>`.",
        "key-statement": (
            "What is signed about the API key does not hold for this runner; the detail says why."
        ),
        "key-per-call": (
            "The compute limit is over what the API key allows a call; the detail has both."
        ),
        "compute-limit": (
            "The compute limit is below what the shortest run costs; the detail has both."
        ),
        "bad-profile": (
            "The profile is no name of one: `default`, or lower-case letters, digits and dashes."
        ),
        "limits-invalid": "A limit of the run is below one or above what this runner allows.",
        "environment-name": (
            "A secret's name is not an environment variable's: capital letters, digits and"
            " underscores."
        ),
        "environment-value": (
            "A secret contains a NUL, which would cut it off, or is not Unicode text."
        ),
        "environment-too-large": "The environment of the run is longer than 256 KiB.",
        "program-mismatch": "The program's bytes do not have the SHA-256 that was asked for.",
        "program-too-large": "The program has more bytes than this runner takes.",
        "program-not-wasm": "The program is not a WebAssembly binary.",
        "program-target": (
            "The program is a module where its target says component, or the other way round."
        ),
        "program-invalid": (
            "The program does not validate, or needs a WebAssembly feature that is off."
        ),
        "program-imports": "The program imports what no runner offers.",
        "program-no-start": "The program exports no `_start` and no `wasi:cli/run`.",
        "compile-limit": "Compiling the program takes more memory or time than is allowed.",
    },
    401: {
        "call-refused": (
            "The caller did not show who it is, or not for this runner, program and body."
        ),
        "key-refused": "The API key is not one that this runner knows, or it has ended.",
    },
    402: {
        "balance-too-low": (
            "The balance of the caller's account is lower than what the call may cost."
        ),
    },
    403: {
        "key-in-clear": (
            "API keys are taken over TLS that ends in the runner, or from its own machine, and"
            " nowhere else."
        ),
        "key-project": "The API key is not for this project.",
        "key-profile": "The API key is not for secrets of this profile.",
        "owner-unknown": (
            "This runner has no account and no grant of this owner; grant a secret, or ask its"
            " operator for an account."
        ),
        "access-denied": (
            "The owner of the secrets does not let this caller run this program with them."
        ),
        "access-unknown": "Whether the caller may use the secrets could not be judged.",
        "secrets-not-granted": (
            "The owner granted no secrets of this profile to this runner for this program."
        ),
        "grant-no-project": (
            "The grant states hosts, and not the project whose manifest counts; its owner grants"
            " again with `sealspace runner grant --program DID/NAME`."
        ),
        "secret-missing": "A secret that the program needs is not granted, or is not there.",
        "secret-refused": "The node does not release a secret to this runner.",
        "secret-not-generated": (
            "A secret whose name begins with PROTECTED_ was not made by this runner's code, or is"
            " not as it was made."
        ),
        "generation-not-granted": (
            "The owner did not grant this runner to write exactly these secrets."
        ),
    },
    404: {
        "program-unknown": "The program's bytes are not to be had.",
    },
    408: {
        "request-slow": "The body of the request did not arrive in time.",
    },
    409: {
        "call-repeated": "The token of this call was used before; sign a new one.",
        "call-start": (
            "The call is signed for another start of this runner; ask `GET /info` for `start`, and"
            " sign anew."
        ),
        "key-known": "There is another API key of this nonce, or it was revoked.",
        "network-unknown": (
            "The owner has no network `protected`, to which generated secrets are sealed."
        ),
        "program-statement": "What the developer states about the program does not hold.",
        "program-older": "The active version is an older one than this runner has seen.",
    },
    413: {
        "input-too-large": "The input is longer than this runner takes.",
    },
    429: {
        "too-many-calls": (
            "Too many calls of this API key or caller are under way, or came in the last minute."
        ),
    },
    503: {
        "keys-full": "This runner keeps no further API key of this owner, or none at all.",
        "secret-unreadable": "A secret could not be read at the node; ask again later.",
        "node-unavailable": "The node did not answer; ask again later.",
        "runner-busy": "Too many runs are waiting; ask again later.",
        "runner-closed": "The runner is shutting down; the program was ended, if it had begun.",
        "runner-failed": "The runner could not compile or start the program; ask again later.",
    },
    200: {
        "program-start": (
            "The program could not be instantiated: it needs more instances, tables or memories"
            " than are allowed, or a function that nobody offers."
        ),
        "limit-instructions": "The program used all instructions of its limit.",
        "limit-memory": "The program failed after it was refused more memory than its limit.",
        "limit-time": "The program ran longer than its limit.",
        "limit-output": (
            "The program wrote more output than its limit, or more than an answer may have as JSON."
        ),
        "output-format": "The program's output is not what the response format says.",
        "guest-exit": "The program ended with another exit code than 0.",
        "guest-trap": "The program trapped.",
        "interrupted": (
            "The runner ended after the run was started; nothing is charged, and it is not run"
            " again."
        ),
        "run-crashed": (
            "The process that ran the program ended, for instance because the program used up its"
            " resources."
        ),
    },
}
REASONS: Final = {
    code: Reason(code, sentence, status)
    for status, sentences in _SENTENCES.items()
    for code, sentence in sentences.items()
}
