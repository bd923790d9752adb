"""The attestation evidence that a backend publishes (AT50 to AT52).

A backend answers a client's nonce with it.

    GET <backend>/.well-known/sealspace/backend?nonce=<base64url of 32 bytes>

    {"type": "sealspace.backend/v1",
     "nonce":     base64url, the client's,
     "statement": {"did", "manifest", "compose"},
     "quote":     base64,
     "eventLog":  array of entries, or null}

The quote's report data contain the nonce, the DID and the hash of the statement, so a man in the
middle cannot change the statement. The manifest is an app manifest; its `secrets` are those that
the backend asks to read. `compose` is the text whose SHA-256 the event log contains, or null.

Example:
    text = encode_published(nonce, statement, quote=quote, event_log=log)
    published = parse_published(text, nonce=nonce)
"""

import hashlib
from dataclasses import field
from typing import Annotated, Any, NoReturn

from msgspec import Meta

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import Principal, parse_principal, same_principal
from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url
from capabilities.strict_json import Json, JsonObject, StrictStruct, parse_json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import InvalidCanonicalJson

from ..errors import BackendAnswerInvalid, BackendNotProven, ManifestInvalid
from ..printable import printable
from .manifests import Manifest, parse_manifest, resolve_manifest
from .shapes import shaped_at

DOCUMENT_TYPE = "sealspace.backend/v1"
DESCRIPTION_TYPE = "sealspace.backend-description/v1"
EVIDENCE_PATH = "/.well-known/sealspace/backend"
GRANTS_PATH = "/.well-known/sealspace/backend/grants"
NONCE_BYTES = 32
MAX_PUBLISHED_BYTES = 512 * 1024
"""Longest document, bytes; quote, event log and compose file are smaller together at their
limits."""
MAX_COMPOSE_CHARS = 64 * 1024
MAX_STATEMENT_BYTES = 128 * 1024
MAX_GRANT_BYTES = 256 * 1024
"""Longest portable delegation that a backend reads, bytes."""

_MAX_QUOTE_BYTES = 16 * 1024
_MAX_DID_CHARS = 512
_MEMBERS = frozenset({"type", "nonce", "statement", "quote", "eventLog"})


@frozen(kw_only=True)
class Statement:
    """A backend's statement about its identity and its code.

    The backend's quote confirms all of it.
    """

    did: Principal
    manifest: Manifest
    compose: str | None = field(repr=False)
    sha256: bytes


@frozen(kw_only=True)
class Published:
    """The parsed but unverified attestation evidence of a backend."""

    nonce: bytes
    statement: Statement
    quote: bytes = field(repr=False)
    event_log: list[Json] | None = field(repr=False)


def statement_json(did: str, manifest: JsonObject, compose: str | None) -> JsonObject:
    """Convert a backend's statement to JSON."""
    return {"did": did, "manifest": manifest, "compose": compose}


class _Stated(StrictStruct):
    did: Annotated[str, Meta(max_length=_MAX_DID_CHARS)]
    manifest: dict[str, Any]
    compose: Annotated[str, Meta(max_length=MAX_COMPOSE_CHARS)] | None


def parse_statement(value: Json) -> Statement:
    """Parse a backend's untrusted statement.

    Raises BackendAnswerInvalid if the statement is malformed.
    """
    stated = shaped_at("statement", value, _Stated, _refuse)
    try:
        canonical = canonical_bytes(value)
        did = parse_principal(stated.did)
        manifest = parse_manifest(stated.manifest)
        resolve_manifest(manifest)  # raises here, and not later when its requests are read
    except InvalidCanonicalJson as exc:
        raise BackendAnswerInvalid(
            "the backend's published statement cannot be encoded as canonical JSON"
        ) from exc
    except CapabilityError as exc:
        raise BackendAnswerInvalid("the DID in the backend's statement is not valid") from exc
    except ManifestInvalid as exc:
        raise BackendAnswerInvalid(
            f"the backend's manifest is not valid: {printable(exc.message)}"
        ) from exc
    if len(canonical) > MAX_STATEMENT_BYTES:
        raise BackendAnswerInvalid(
            f"the backend's statement is longer than {MAX_STATEMENT_BYTES} bytes"
        )
    if manifest.did is not None and not same_principal(manifest.did, did):
        raise BackendAnswerInvalid(
            "the DID in the backend's manifest differs from the DID in the backend's statement"
        )
    return Statement(
        did=did,
        manifest=manifest,
        compose=stated.compose,
        sha256=hashlib.sha256(canonical).digest(),
    )


def _refuse(member: str, what: str) -> NoReturn:
    raise BackendAnswerInvalid(f"the backend's {member} {what}")


def encode_published(
    nonce: bytes, statement: JsonObject, *, quote: bytes, event_log: list[Json] | None
) -> bytes:
    """Encode a backend's attestation evidence as canonical JSON."""
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
    """Parse the attestation evidence of a backend.

    Args:
        data: untrusted, at most MAX_PUBLISHED_BYTES.
        nonce: the nonce that was sent to the backend, 32 bytes.
    Raises:
        BackendAnswerInvalid: the data is truncated, too long or malformed.
        BackendNotProven: the document answers another nonce, so it was recorded (`report-data`).
    Does not check:
        Quote and event log: see `EvidenceVerifier`.
    """
    try:
        value = parse_json(data, max_bytes=MAX_PUBLISHED_BYTES)
    except CapabilityError as exc:
        raise BackendAnswerInvalid(
            "the backend's response is truncated, too long or not a JSON object"
        ) from exc
    if value.keys() != _MEMBERS or value["type"] != DOCUMENT_TYPE:
        raise BackendAnswerInvalid(f"the backend's response is not a {DOCUMENT_TYPE} document")
    answered_nonce = decode_url(value["nonce"])
    if answered_nonce is None or len(answered_nonce) != NONCE_BYTES:
        raise BackendAnswerInvalid(
            f"the nonce in the backend's response must be {NONCE_BYTES} bytes long"
        )
    if answered_nonce != nonce:  # evidence that was recorded earlier proves nothing today (AT52)
        raise BackendNotProven(
            "the evidence does not contain the nonce that was sent, so the evidence was recorded"
            " earlier",
            problem="report-data",
            hint="fetch the evidence again; if the nonce still differs, old evidence is being"
            " replayed: do not grant anything to this backend, and tell its operator",
        )
    quote = decode_standard(value["quote"])
    log = value["eventLog"]
    if quote is None or not 0 < len(quote) <= _MAX_QUOTE_BYTES:
        raise BackendAnswerInvalid(
            f"the backend's quote must be 1 to {_MAX_QUOTE_BYTES} bytes in base64"
        )
    if log is not None and not isinstance(log, list):
        raise BackendAnswerInvalid("the backend's event log is not an array")
    return Published(
        nonce=answered_nonce,
        statement=parse_statement(value["statement"]),
        quote=quote,
        event_log=log,
    )
