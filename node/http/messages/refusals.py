"""What each refusal means to a client: one table from code to status, title and hint, and its form
on the wire.

Code that raises errors knows nothing of HTTP: each error has a stable code, and a row here. The
families are the node's own (`Refusal`) and those of the packages below. A code without a row is a
fault of ours, and nothing of it is shown.

`make pages` writes `spec/refusals.md` from this table; `tests/node/http/messages/test_refusals.py`
compares it with all error classes.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from capabilities.capability_errors import CHAIN_TEXTS, CapabilityError
from encryption_network.network_errors import EncryptionError
from spaces.space_errors import SpaceError
from tee_backend.attestation.attestation_errors import AttestationError, QuoteCode

from ...refusal import Refusal

Coded: TypeAlias = Refusal | CapabilityError | EncryptionError | SpaceError | AttestationError
"""The families that end requests."""

Place = Literal[
    "invoked-decrypt", "delegate", "revoke", "delegation-status", "delegation-query", "peer"
]
"""Where on the wire surface some codes are answered differently; `invoked-decrypt`: a decrypt
request on `/invoke`."""


def reason_of(status: int) -> str:
    """Return the reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


Body = Literal["title", "message", "problem"]
"""The body of a wire answer: the title of the row; the error's own message, which names bounds and
what the caller sent, never a secret; or `application/problem+json` (H2)."""


class Elsewhere(Struct, frozen=True):
    """How a code is answered in one place; always as text, and without `Retry-After`."""

    status: int
    text: str | None = None


class Row(Struct, frozen=True):
    """What one code means to a client."""

    status: int
    title: str | None
    hint: str
    body: Body = "title"
    retry_after_s: int | None = None
    is_expected: bool = False
    elsewhere: Mapping[Place, Elsewhere] = {}

    @property
    def is_fault(self) -> bool:
        """Whether the node is at fault: the error is logged, so that its operator can find out
        why."""
        return self.status >= 500 and not self.is_expected


_FORBIDDEN: Final = Elsewhere(403)

DESCRIPTION: Final = "/openapi.json"
"""Where a node describes its routes."""

_COMPARE: Final = "compare the request with the documentation"

_SERVER: Final = {
    "not-readable": Row(400, "The request could not be read", "send well-formed JSON", "problem"),
    "unauthenticated": Row(
        401, "A token is missing", "send the token as the Authorization header", "problem"
    ),
    "operator-locked": Row(
        401, "The operator's secret is missing", "send `Authorization: Bearer <secret>`", "problem"
    ),
    "not-found": Row(
        404,
        "There is nothing here",
        f"compare method, path and content type with {DESCRIPTION}",
        "problem",
    ),
    "wrong-method": Row(
        405, "The path has other methods", f"compare the method with {DESCRIPTION}", "problem"
    ),
    "too-slow": Row(
        408, "The request took too long to arrive", "send it again, without pauses", "problem"
    ),
    "too-large": Row(413, "The request is too large", "send less", "problem"),
    "wrong-shape": Row(
        422, "The body has another shape", "compare the members with the documentation", "problem"
    ),
    "too-many-requests": Row(
        429, "Too many requests", "wait, then try again", "message", retry_after_s=10
    ),
    "internal": Row(
        500, "Something went wrong on our side", "report the request id to the operator", "problem"
    ),
    "not-enabled": Row(
        501,
        "The service is not offered",
        "use a node that offers it; `/info` lists features",
        "message",
        is_expected=True,
    ),
    "operator-absent": Row(
        503,
        "The operator's routes are closed",
        "the operator sets `admin.secret_file`",
        "problem",
        is_expected=True,
    ),
}
"""What the server around the use cases raises."""

_STORE: Final = {
    "store-unavailable": Row(
        503,
        "The store cannot be reached",
        "send it again, newly signed",
        retry_after_s=1,
        elsewhere={
            "delegation-status": Elsewhere(503, "Status unavailable"),
            "delegation-query": Elsewhere(503, "Delegation query unavailable"),
        },
    ),
    "store-busy": Row(
        503, "Others changed the same rows", "send it again, newly signed", retry_after_s=1
    ),
    "intake-full": Row(
        503, "Too many values are on their way", "send it again, newly signed", retry_after_s=1
    ),
    "store-full": Row(507, "The store is full", "tell the operator; reading still works"),
    "record-damaged": Row(
        500, "A stored record cannot be read", "report the request id to the operator"
    ),
    "commit-too-large": Row(
        400, "The request changes more than one commit may", "send it in parts", "message"
    ),
    "too-many-delegations": Row(
        400, "Too many delegations are kept", "let some expire; they leave 30 days later", "message"
    ),
    "path-too-long": Row(
        400, "The path is too long", "store the value under a shorter path", "message"
    ),
    "too-many-spaces": Row(
        400, "The delegation names too many spaces", "sign one for fewer spaces", "message"
    ),
    "metadata-too-large": Row(
        400, "The stored metadata is too large", "send fewer or shorter headers", "message"
    ),
}
"""What the store raises."""


_NOT_ALLOWED: Final = "The token does not allow this"
_SIGN_ANEW: Final = "sign anew, or ask the owner for the authority"
# W20 to W22 and 4.8: if a valid token is meant for this route and its authority is refused, the
# status is 403.
_AUTHORITY_FAILS: Final[Mapping[Place, Elsewhere]] = {
    "revoke": _FORBIDDEN,
    "invoked-decrypt": _FORBIDDEN,
}
# A token or chain that does not allow what was asked (wire 3.3, 4.10).
_NO_AUTHORITY: Final = Row(401, _NOT_ALLOWED, _SIGN_ANEW, "message", elsewhere=_AUTHORITY_FAILS)

_TOKENS: Final = {
    "token-malformed": Row(
        401,
        "The token cannot be decoded",
        "send the raw token, without `Bearer`",
        "problem",  # E5
        elsewhere={"invoked-decrypt": _FORBIDDEN},
    ),
    "json-invalid": Row(
        400,
        "The body is not strict JSON",
        "send one JSON object without repeated members",
        "message",
        elsewhere=_AUTHORITY_FAILS,
    ),
    "identifier-invalid": Row(
        400,
        "An identifier is not valid",
        "compare it with the documentation",
        "message",
        elsewhere={**_AUTHORITY_FAILS, "peer": Elsewhere(400, "Invalid space ID")},
    ),
    "token-kind": Row(401, _NOT_ALLOWED, _SIGN_ANEW, "message"),  # T9: 401 everywhere
    **dict.fromkeys(("signature-invalid", *CHAIN_TEXTS, "caveat-refused"), _NO_AUTHORITY),
    # 3.8
    "policy-profile-refused": replace(
        _NO_AUTHORITY, elsewhere={**_AUTHORITY_FAILS, "delegate": _FORBIDDEN}
    ),
}
"""What reading and judging tokens raises."""


def _said(status: int, hint: str, body: Body = "message") -> Row:
    """Return the row of a use case's refusal in words of the wire; our own surface states the
    reason of the status."""
    return Row(status, reason_of(status), hint, body)


_VALUES: Final = {
    "bad-option": _said(400, "compare the headers with the documentation"),
    "bad-nonce": _said(400, "send one nonce, of the size and spelling documented"),
    "duplicate-invocation": _said(409, _COMPARE),
    "replay-unknown": _said(409, _COMPARE),
    "space-not-found": _said(404, "the owner hosts a space by signing in to it"),
    "key-not-found": _said(404, "list the space to see what is stored", "problem"),
    "no-such-key": _said(404, "list the space to see what is stored"),
    "no-value": _said(404, "list the space to see what is stored"),
    "ticket-refused": _said(401, "ask for a new signed URL"),
    "scope-refused": _said(403, "ask the owner for a delegation that covers the value"),
    "not-public": _said(403, "read it with a token, on `/invoke`"),
    "value-changed": _said(412, "ask for a new signed URL"),
    "precondition-failed": _said(412, "read the value again, then decide anew"),
    "quota-exceeded": _said(402, "delete values, or ask the operator for more"),
    "value-exceeds-quota": _said(413, "store less, delete values, or ask the operator for more"),
    "response-too-large": _said(413, "raise the bound that the request sets"),
    "batch-too-large": _said(413, "read fewer values at once"),
    "body-too-large": _said(413, "store the value in parts"),
}
"""What use cases of values raise."""

_DELEGATIONS: Final = {
    "status-token-refused": _said(401, "sign a status invocation anew"),
    "status-not-bound": _said(403, "sign for the one delegation that the body names"),
    "status-cid-invalid": _said(400, "send the cid as `/delegate` answered it"),
    "query-refused": _said(403, "sign for the account itself; take cursors from its answers"),
    "bad-query": _said(400, "compare the members with the documentation"),
    "bad-delegation-cid": _said(401, "name delegations by their cids"),
    "bad-space-name": _said(400, "compare the name with the documentation"),
    "space-exists": _said(409, "use it, or choose another name"),
    "space-not-made": _said(403, "ask the operator, who bounds and lists whom the node hosts"),
}
"""What use cases of delegations and spaces raise."""


def _network(
    status: int, hint: str = _COMPARE, *, invoked: Elsewhere = _FORBIDDEN, body: Body = "message"
) -> Row:
    """Return the row of a refused request to an encryption network: its message, and 403 on
    `/invoke` (enc 2.7)."""
    return Row(status, None, hint, body, elsewhere={"invoked-decrypt": invoked})


_OTHER_TYPE: Final = Elsewhere(403, "invocation type is not a decrypt invocation")

_NETWORKS: Final = {
    "body-not-json": _network(400, invoked=Elsewhere(400), body="problem"),  # enc 2.1
    "request-too-large": _network(413, invoked=Elsewhere(400), body="problem"),  # enc 2.1
    **dict.fromkeys(
        (
            "invalid-canonical-json",
            "invalid-policy",
            "invalid-withdrawal",
            "invalid-receipt",
            "body-malformed",
            "create-body-malformed",
            "invalid-network-id",
            "invalid-base64",
        ),
        _network(400),
    ),
    **dict.fromkeys(
        (
            "multiple-networks",
            "type-mismatch",
            "network-mismatch",
            "action-not-permitted",
            "version-mismatch",
        ),
        _network(401),
    ),
    **dict.fromkeys(("not-yet-valid", "expired"), _network(401, "set the clock, then sign anew")),
    "nonce-used": _network(401, "sign anew, with a new nonce"),
    "release-refused": _network(401, "see release.md for the reason in the text"),  # RL14
    "audience-mismatch": _network(401, invoked=_OTHER_TYPE),
    "target-node-mismatch": _network(401, invoked=_OTHER_TYPE),
    # `/invoke` names one field whatever differs.
    "hash-mismatch": _network(401, invoked=Elsewhere(403, "invocation hash mismatch: bodyHash")),
    # `/invoke` knows only the state.
    "network-revoked": _network(
        401,
        "nothing opens it again",
        invoked=Elsewhere(403, "network is not active (state: revoked)"),
    ),
    "network-not-found": _network(404, "create the network first"),
    "network-exists": _network(409, "use it, or choose another name", invoked=Elsewhere(409)),
    "network-not-active": _network(409, "ask the network's owner"),
    # A wrapped key that does not open is the caller's fault, whatever the wire's status for it is.
    "key-backend": Row(
        500, None, _COMPARE, "message", is_expected=True, elsewhere={"invoked-decrypt": _FORBIDDEN}
    ),
    "invalid-record": _network(500),
}
"""What encryption networks raise."""


_ATTESTATION: Final = {
    "request-malformed": Row(400, "The request is malformed", _COMPARE),
    "session-not-bound": Row(403, "The token is not bound to this request", _COMPARE),
    "challenge-used": Row(409, "The challenge was used before", "ask for a new challenge"),
    "network-unknown": Row(
        404, "There is no such network on this node", "create the network first"
    ),
    "document-unknown": Row(
        404, "There is no such document on this node", "take digests from receipts of this node"
    ),
    "policy-not-in-person": Row(
        403, "The owner's policy is written by the owner in person", "sign as the owner"
    ),
    "collateral-missing": Row(
        503,
        "The node has no collateral for this platform",
        "ask the operator to import fresh collateral",
    ),
    **dict.fromkeys(
        get_args(QuoteCode),
        Row(403, "The evidence does not hold", "attest anew, with a new challenge"),
    ),
    **dict.fromkeys(
        (
            "collateral-malformed",
            "collateral-window",
            "collateral-signature",
            "collateral-mismatch",
            "collateral-root",
        ),
        Row(
            503,
            "This node cannot judge the evidence",
            "ask the operator to import fresh collateral",
        ),
    ),
    "quotes-busy": Row(
        503, "Too many quotes wait to be verified", "try again shortly", retry_after_s=1
    ),
    "own-quotes-busy": Row(
        503,
        "Too many wait for the node's own quote",
        "try again shortly",
        "message",
        retry_after_s=1,
    ),
    "own-quote-failed": Row(
        503,
        "The node's platform makes no quote",
        "try again; see /readyz",
        "message",
        retry_after_s=10,
    ),
}
"""What attestation, policies and receipts raise."""

SECTIONS: Final[Mapping[str, Mapping[str, Row]]] = {
    "Any route": _SERVER,
    "Tokens and chains": _TOKENS,
    "The store": _STORE,
    "Values": _VALUES,
    "Delegations and spaces": _DELEGATIONS,
    "Encryption networks": _NETWORKS,
    "Attestation, policies and receipts": _ATTESTATION,
}
"""The table, in the order of its page."""

GROUPS: Final[Mapping[str, frozenset[str]]] = {
    "tokens": frozenset(_TOKENS),
    "values": frozenset(_VALUES),
    "networks": frozenset(_NETWORKS),
    "attestation": frozenset(_ATTESTATION),
}
"""Codes that come together, for routes whose use cases raise nearly all of one kind."""

TABLE: Final[Mapping[str, Row]] = {
    code: row for rows in SECTIONS.values() for code, row in rows.items()
}
"""Every code that can reach a client."""


def code_of(error: Exception) -> str:
    """Return the code under which an error is answered: `internal` for every error without a
    row."""
    return error.code if isinstance(error, Coded) and error.code in TABLE else "internal"


def wire_form(error: Exception, row: Row, place: Place | None = None) -> tuple[int, str | None]:
    """Return status and text of an answer on the wire surface; None: problem+json."""
    elsewhere = None if place is None else row.elsewhere.get(place)
    if elsewhere is not None:
        return elsewhere.status, str(error) if elsewhere.text is None else elsewhere.text
    if row.body == "problem":
        return row.status, None
    return row.status, str(error) if row.body == "message" else row.title
