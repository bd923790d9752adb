"""What to do next on the command line about an error of the SDK, whose own hints are for programs."""

import re
from collections.abc import Mapping
from typing import Final

from ..errors import DecryptDenied, SealspaceError

_LOGIN: Final = "sealspace login"
NEXT_STEPS: Final[Mapping[str, str]] = {
    "action-not-authorized": "ask the owner for a grant that covers it, or log in as the owner: sealspace login",
    "batch-incomplete": "remove the cause, then start the same command again",
    "descriptor-unsigned": "is this the node's own address, and its version current? sealspace status",
    "invalid-secret-value": "store a text or bytes, at most 1 MiB",
    "invalid-portable-delegation": "ask whoever gave it for the file as it was written, or for a new one",
    "lifetime-too-long": "ask for less, or log in for longer: sealspace login --days N",
    "manifest-invalid": "correct it, then: sealspace manifest check FILE",
    "network-key-changed": "seal nothing until the node's operator has said why the key changed; if it is right: "
    "sealspace login",
    "network-not-found": "sealspace network create NAME",
    "node-mismatch": "do not go on: find out why the node's identity differs; if it was restored as a new one, "
    "sealspace login",
    "not-granted": "for a space of yours: sealspace login --space NAME; for one of somebody else, ask its owner for a "
    "grant, then: sealspace grant accept FILE",
    "not-signed-in": _LOGIN,
    "precondition-failed": "somebody else wrote it meanwhile: look at it, then start the command again",
    "release-refused": "grant it to a backend that proves its code: sealspace backend grant URL; people read each "
    "other's secrets only where the node's operator allows it: sealspace admin release set --attestation off",
    "response-too-large": "sealspace kv get KEY --out FILE",
    "delegation-revoked": "it was revoked for good: ask its owner for a new grant",
    "session-expired": _LOGIN,
    "space-not-found": "sealspace space list; sealspace space create NAME makes one",
    "transfer-broken": "start the command again; nothing was left half written",
    "unauthorized": "sealspace status says whether the session holds; sealspace login makes a new one",
    "value-too-large": "sealspace kv get KEY --out FILE, or store less",
}
"""Code of an error -> what a person at a command line does; every other one has a hint that serves people too."""


INSTEAD: Final[Mapping[str, str]] = {
    'its owner finds it at `client.kv("public").space.text`': "its owner finds it with: sealspace space info public",
    "make it with Client(…, require_node_evidence=…)": "sealspace login --require-node-evidence",
    'name one, as in `client.kv("notes")`': "name one: --space NAME",
    "of anything else, json.dumps(value) makes a text": "write it as JSON",
    "pass new_wallet(), wallet_from_key(…), wallet_from_keystore(…) or an account of eth-account": "sealspace login "
    "--key-file FILE",
    "the recipient finds it at `client.session.did`: did:key:…": "the recipient finds it with: sealspace whoami",
    "use https://, or pass TransportSettings(allow_plain_http=True) on a network you trust": "use https://",
}
"""Hint of the SDK that is for programs -> what a person does, where one kind of error has several."""

_ASK_FOR: Final = (
    "for a delegation that holds it, and take it up",
    "for a grant of it, then: sealspace grant accept FILE",
)
"""End of a hint of the SDK that begins with the owner's DID -> what a person does."""

_PROGRAM: Final = re.compile(
    r"\w\("  # a call
    r"|\b(?:client|session|error|delegations|manifests|wallet)\.[a-z_]"  # a member of an object
    r"|=(?:True|False|None)\b"
    r"|`[a-z]+(?:_[a-z]+)+`"  # a name of Python's
    r"|\bSignIn\b|\bTransportSettings\b|\bsign_in\b"
)


def speaks_to_programs(hint: str) -> bool:
    """Whether a hint names calls or objects of the SDK, which whoever runs a command does not have."""
    return _PROGRAM.search(hint) is not None


def next_step(error: SealspaceError) -> str:
    """Return what to do next: what the command said, else what is in the tables, else the error's own hint."""
    cause = error.refusal if isinstance(error, DecryptDenied) else error
    if error.hint in (cause.default_hint, error.default_hint):
        return NEXT_STEPS.get(cause.code, error.hint)
    if speaks_to_programs(error.hint):
        return INSTEAD.get(error.hint) or NEXT_STEPS.get(cause.code, "sealspace doctor")
    return error.hint.replace(*_ASK_FOR)
