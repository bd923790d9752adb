"""What to do next on the command line about an error of the SDK, whose own hints are for programs.

Example:
    fail(error.code, error.message, next_step(error))
"""

from collections.abc import Mapping
from typing import Final

from sealspace.errors import DecryptDenied, SealspaceError

_LOGIN: Final = "sealspace login"
NEXT_STEPS: Final[Mapping[str, str]] = {
    "action-not-authorized": "ask the owner for a grant that covers it, or log in as the owner: sealspace login",
    "batch-incomplete": "remove the cause, then start the same command again",
    "descriptor-unsigned": "is this the node's own address, and its version current? sealspace status",
    "invalid-secret-value": "store a text or bytes, at most 1 MiB",
    "lifetime-too-long": "ask for less, or log in for longer: sealspace login --days N",
    "network-key-changed": "seal nothing until the node's operator has said why the key changed; if it is right: "
    "sealspace login",
    "network-not-found": "sealspace login, which makes the owner's network",
    "node-mismatch": "do not go on: find out why the node's identity differs; if it was restored as a new one, "
    "sealspace login",
    "not-granted": "for a space of yours: sealspace login --space NAME; for one of somebody else, ask its owner for a "
    "grant",
    "not-signed-in": _LOGIN,
    "precondition-failed": "somebody else wrote it meanwhile: look at it, then start the command again",
    "response-too-large": "sealspace kv get KEY --out FILE",
    "session-expired": _LOGIN,
    "space-not-found": "sealspace space list; sealspace space create NAME makes one",
    "transfer-broken": "start the command again; nothing was left half written",
    "unauthorized": "sealspace status says whether the session holds; sealspace login makes a new one",
    "value-too-large": "sealspace kv get KEY --out FILE, or store less",
}
"""Code of an error -> what a person at a command line does; every other one has a hint that serves people too."""


def next_step(error: SealspaceError) -> str:
    """Return what to do next: what the command said, else what is in the table, else the error's own hint."""
    cause = error.refusal if isinstance(error, DecryptDenied) else error
    if error.hint in (cause.default_hint, error.default_hint):
        return NEXT_STEPS.get(cause.code, error.hint)
    return error.hint
