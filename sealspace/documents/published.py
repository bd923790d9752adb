"""What a backend publishes about itself to any client that sends a nonce (AT50 to AT52).

    GET <backend>/.well-known/sealspace/backend?nonce=<base64url of 32 bytes>

    {"type": "sealspace.backend/v1",
     "nonce":     base64url, the client's,
     "statement": {"did", "manifest", "compose"},
     "quote":     base64,
     "eventLog":  array of entries, or null}

The quote's report data name the nonce, the DID and the hash of the statement, so that another party
on the way can insert nothing into what an owner is shown. The manifest is an app manifest; what it
lists under `secrets` is what the backend wants to read. `compose` is the text whose SHA-256 the
event log names, or null.

Example:
    text = encode_published(nonce, statement, quote=quote, event_log=log)
    published = parse_published(text, nonce=nonce)
"""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NoReturn

from msgspec import Meta, Struct

from capabilities.capability_errors import CapabilityError
from capabilities.principals import Principal, parse_principal, same_principal
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import Json, parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import BackendAnswerInvalid, BackendNotProven, ManifestInvalid
from ..printable import printable
from .manifests import Manifest, parse_manifest, resolve_manifest
from .shapes import shaped_at

DOCUMENT_TYPE: Final = "sealspace.backend/v1"
EVIDENCE_PATH: Final = "/.well-known/sealspace/backend"
GRANTS_PATH: Final = "/.well-known/sealspace/backend/grants"
NONCE_BYTES: Final = 32
MAX_PUBLISHED_BYTES: Final = 512 * 1024
"""Longest document: a quote, an event log and a compose file at their bounds take less."""
MAX_COMPOSE_CHARS: Final = 64 * 1024
MAX_STATEMENT_BYTES: Final = 128 * 1024
MAX_GRANT_BYTES: Final = 256 * 1024
"""Longest portable delegation that a backend reads."""

_MAX_QUOTE_BYTES: Final = 16 * 1024
_MAX_DID_CHARS: Final = 512
_MEMBERS: Final = frozenset({"type", "nonce", "statement", "quote", "eventLog"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a backend says of itself; the quote binds all of it."""

    did: Principal
    manifest: Manifest
    compose: str | None = field(repr=False)
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A parsed document; a verifier decides whether the quote holds, and holds for this
    statement."""

    nonce: bytes
    statement: Statement
    quote: bytes = field(repr=False)
    event_log: list[Json] | None = field(repr=False)


def statement_json(did: str, manifest: dict[str, Json], compose: str | None) -> dict[str, Json]:
    """Write a statement as its JSON object."""
    return {"did": did, "manifest": manifest, "compose": compose}


class _Stated(Struct, forbid_unknown_fields=True):
    did: Annotated[str, Meta(max_length=_MAX_DID_CHARS)]
    manifest: dict[str, Any]
    compose: Annotated[str, Meta(max_length=MAX_COMPOSE_CHARS)] | None


def parse_statement(value: Json) -> Statement:
    """Read a statement, untrusted."""
    stated = shaped_at("statement", value, _Stated, _refuse)
    try:
        text = canonical_bytes(value)
        did = parse_principal(stated.did)
        manifest = parse_manifest(stated.manifest)
        resolve_manifest(manifest)  # what it asks for can be resolved
    except InvalidCanonicalJson as exc:
        raise BackendAnswerInvalid("the backend's statement has no canonical form") from exc
    except CapabilityError as exc:
        raise BackendAnswerInvalid("the backend names itself by something that is no DID") from exc
    except ManifestInvalid as exc:
        raise BackendAnswerInvalid(f"the backend's manifest: {printable(exc.message)}") from exc
    if len(text) > MAX_STATEMENT_BYTES:
        raise BackendAnswerInvalid(
            f"the backend's statement is longer than {MAX_STATEMENT_BYTES} bytes"
        )
    if manifest.did is not None and not same_principal(manifest.did, did):
        raise BackendAnswerInvalid("the backend's manifest names another DID than its own")
    return Statement(
        did=did, manifest=manifest, compose=stated.compose, sha256=hashlib.sha256(text).digest()
    )


def _refuse(member: str, what: str) -> NoReturn:
    raise BackendAnswerInvalid(f"the backend's {member} {what}")


def encode_published(
    nonce: bytes, statement: dict[str, Json], *, quote: bytes, event_log: list[Json] | None
) -> bytes:
    """Write the document that answers a nonce."""
    return canonical_bytes(
        {
            "type": DOCUMENT_TYPE,
            "nonce": encode_url(nonce),
            "statement": statement,
            "quote": encode_standard(quote),
            "eventLog": event_log,
        }
    )


def parse_published(data: bytes, *, nonce: bytes) -> Published:
    """Read a document.

    Args:
        data: untrusted, at most MAX_PUBLISHED_BYTES.
        nonce: the nonce sent to the backend, 32 bytes.
    Raises:
        BackendAnswerInvalid: cut off, too long, no such document.
        BackendNotProven: it answers another nonce (`report-data`): it was recorded.
    Does not check:
        Quote and event log.
    """
    try:
        value = parse_json(data, max_bytes=MAX_PUBLISHED_BYTES)
    except CapabilityError as exc:
        raise BackendAnswerInvalid(
            "the backend's answer is cut off, too long or no JSON object"
        ) from exc
    if value.keys() != _MEMBERS or value["type"] != DOCUMENT_TYPE:
        raise BackendAnswerInvalid(f"the backend's answer is no {DOCUMENT_TYPE}")
    answered = decode_url(value["nonce"])
    if answered is None or len(answered) != NONCE_BYTES:
        raise BackendAnswerInvalid(f"the backend's answer has no nonce of {NONCE_BYTES} bytes")
    if answered != nonce:  # AT52
        raise BackendNotProven(
            "the evidence answers another question than ours: it was recorded",
            problem="report-data",
            hint=(
                "ask again; if it stays, somebody replays old evidence: do not grant, tell the"
                " backend's operator"
            ),
        )
    quote, log = decode_standard(value["quote"]), value["eventLog"]
    if quote is None or not 0 < len(quote) <= _MAX_QUOTE_BYTES:
        raise BackendAnswerInvalid(
            f"the backend's quote is not 1 to {_MAX_QUOTE_BYTES} bytes in base64"
        )
    if log is not None and not isinstance(log, list):
        raise BackendAnswerInvalid("the backend's event log is no array")
    return Published(
        nonce=answered, statement=parse_statement(value["statement"]), quote=quote, event_log=log
    )
