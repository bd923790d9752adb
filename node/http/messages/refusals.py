"""The table of error codes and their HTTP responses.

Code that raises errors knows nothing of HTTP: each error has a stable code, and a row here. The
errors are the node's own (`Refusal`) and those of the packages below. An error without a row is a
fault of the node, and clients see nothing of it.

`make pages` writes `spec/refusals.md` from this table; `tests/node/http/messages/test_refusals.py`
compares it with all error classes.
"""

from collections.abc import Mapping
from typing import get_args

from msgspec.structs import replace

from capabilities.capability_errors import CHAIN_TEXTS, CapabilityError
from encryption_network.network_errors import EncryptionError
from spaces.space_errors import SpaceError
from tee_backend.attestation.attestation_errors import AttestationError, QuoteCode

from ...refusal import Refusal
from .error_answers import AnsweredRoute, Body, ErrorResponse, RouteAnswer, reason_of

Coded = Refusal | CapabilityError | EncryptionError | SpaceError | AttestationError
"""The error classes that end requests."""

_FORBIDDEN = RouteAnswer(403)

DESCRIPTION = "/openapi.json"
"""The path of the OpenAPI description."""

_COMPARE = "compare the request with the documentation"
_SIGN_AGAIN = "sign a new token and try again"

_SERVER = {
    "not-readable": ErrorResponse(
        status=400,
        title="The request could not be read",
        hint="send well-formed JSON",
        body="problem",
    ),
    "unauthenticated": ErrorResponse(
        status=401,
        title="A token is missing",
        hint="send the token as the Authorization header",
        body="problem",
    ),
    "operator-locked": ErrorResponse(
        status=401,
        title="The operator's secret is missing",
        hint="send `Authorization: Bearer <secret>`",
        body="problem",
    ),
    "not-found": ErrorResponse(
        status=404,
        title="The route does not exist",
        hint=f"check method, path and content type against {DESCRIPTION}",
        body="problem",
    ),
    "wrong-method": ErrorResponse(
        status=405,
        title="The path does not accept this method",
        hint=f"check the method against {DESCRIPTION}",
        body="problem",
    ),
    "too-slow": ErrorResponse(
        status=408,
        title="The request took too long to arrive",
        hint="send the request again, and send the body without pauses",
        body="problem",
    ),
    "too-large": ErrorResponse(
        status=413, title="The request is too large", hint="send a smaller request", body="problem"
    ),
    "wrong-shape": ErrorResponse(
        status=422,
        title="The body has the wrong shape",
        hint="check the members of the JSON body against the documentation",
        body="problem",
    ),
    "too-many-requests": ErrorResponse(
        status=429,
        title="Too many requests",
        hint="wait, then try again",
        body="message",
        retry_after_s=10,
    ),
    "decoding-rate": ErrorResponse(
        status=429,
        title="Too many bytes of delegations were read for this client",
        hint="wait, and cite fewer or smaller delegations",
        body="message",
        retry_after_s=10,
    ),
    "internal": ErrorResponse(
        status=500,
        title="The node failed to process the request",
        hint="report the request id to the operator",
        body="problem",
    ),
    "not-enabled": ErrorResponse(
        status=501,
        title="The service is not offered",
        hint="use a node that offers this service; a node lists its features at `/info`",
        body="message",
        is_expected=True,
        # Clients that wait for changes repeat a 5xx for ever, and stop at a 404 (Q7).
        by_route={"hooks": RouteAnswer(404)},
    ),
    "operator-absent": ErrorResponse(
        status=503,
        title="The operator's routes are disabled",
        hint="the operator has to set `admin.secret_file`",
        body="problem",
        is_expected=True,
    ),
}
"""Codes of the HTTP server itself."""

_STORE = {
    "store-unavailable": ErrorResponse(
        status=503,
        title="The store cannot be reached",
        hint=_SIGN_AGAIN,
        retry_after_s=1,
        by_route={
            "delegation-status": RouteAnswer(503, "Status unavailable"),
            "delegation-query": RouteAnswer(503, "Delegation query unavailable"),
        },
    ),
    "store-busy": ErrorResponse(
        status=503, title="The store is busy", hint=_SIGN_AGAIN, retry_after_s=1, is_expected=True
    ),
    "intake-full": ErrorResponse(
        status=503,
        title="Too many values are being received",
        hint=_SIGN_AGAIN,
        retry_after_s=1,
        is_expected=True,
    ),
    "store-full": ErrorResponse(
        status=507,
        title="The node's store is full",
        hint="ask the node's operator to free disk space",
        is_expected=True,
    ),
    "record-damaged": ErrorResponse(
        status=500,
        title="A stored record cannot be read",
        hint="report the request id to the operator",
    ),
    "commit-too-large": ErrorResponse(
        status=400,
        title="The request is too large for one commit",
        hint="send it in parts",
        body="message",
    ),
    "too-many-delegations": ErrorResponse(
        status=400,
        title="Too many delegations are stored",
        hint="wait until old delegations are removed, 30 days after they expire",
        body="message",
    ),
    "delegation-too-large": ErrorResponse(
        status=400,
        title="The delegation is too large",
        hint="grant fewer resources in one delegation, or host a space at this node first",
        body="message",
    ),
    "too-much-decoded": ErrorResponse(
        status=400,
        title="The request depends on too many bytes of delegations",
        hint="cite fewer or smaller delegations, or revoke large ones that are not needed",
        body="message",
    ),
    "too-many-exchanged": ErrorResponse(
        status=429,
        title="Too many machine tokens of this trust are live",
        hint=(
            "use each machine token until it ends, or wait: it ends within 15 minutes; if more jobs"
            " run at the same time, make a second trust, or ask the node's operator to raise"
            " `limits.exchanged_per_trust`"
        ),
        body="message",
        retry_after_s=60,
    ),
    "path-too-long": ErrorResponse(
        status=400,
        title="The path is too long",
        hint="store the value under a shorter path",
        body="message",
    ),
    "too-many-spaces": ErrorResponse(
        status=400,
        title="The delegation names too many spaces",
        hint="sign a delegation for fewer spaces",
        body="message",
    ),
    "metadata-too-large": ErrorResponse(
        status=400,
        title="The stored metadata is too large",
        hint="send fewer or shorter headers",
        body="message",
    ),
}
"""Codes of the store."""


_NOT_ALLOWED = "The token does not allow this"
_SIGN_ANEW = "sign a new token, or ask the owner for access"
# W20 to W22 and 4.8: 403 if the token is valid and meant for this route but lacks authority.
_AUTHORITY_FAILS: Mapping[AnsweredRoute, RouteAnswer] = {
    "revoke": _FORBIDDEN,
    "invoked-decrypt": _FORBIDDEN,
}
# A token or chain that does not allow the request (wire 3.3, 4.10).
_NO_AUTHORITY = ErrorResponse(
    status=401, title=_NOT_ALLOWED, hint=_SIGN_ANEW, body="message", by_route=_AUTHORITY_FAILS
)
_SET_CLOCK = "set the clock, then sign a new token"
_ASK_AGAIN = "ask the owner for a new delegation"
_CITE_OWN = "cite delegations to the key that signs the token"
_CHAIN_HINTS = {
    "chain-too-large": "cite fewer delegations",
    "delegation-outside-window": "check the clock, or ask for a new delegation",
    "invocation-outside-window": _SET_CLOCK,
    "revocation-outside-window": _SET_CLOCK,
    "lifetime-too-long": "sign a token that expires sooner",
    "parent-not-found": "register all delegations of the chain, and cite each parent once",
    "delegator-unauthorized": _CITE_OWN,
    "invoker-unauthorized": _CITE_OWN,
    "parent-revoked": _ASK_AGAIN,
    "delegation-revoked": _ASK_AGAIN,
    "ancestor-revoked": _ASK_AGAIN,
    "parent-terminal": "ask the owner to delegate to the recipient directly",
    "expiry-exceeds-parent": "sign a delegation that expires no later than its parent",
    "not-before-precedes-parent": "sign a delegation that begins no earlier than its parent",
}

_TOKENS = {
    "owner-moved": ErrorResponse(
        status=403,
        title="The owner has moved to another wallet",
        hint="use the owner's new DID, after you compared it with somebody of the owner's",
        body="message",
    ),
    "token-malformed": ErrorResponse(
        status=401,
        title="The token cannot be decoded",
        hint="send the raw token, without `Bearer`",
        body="problem",  # without a reason (E5)
        by_route={"invoked-decrypt": _FORBIDDEN},
    ),
    "json-invalid": ErrorResponse(
        status=400,
        title="The body is not strict JSON",
        hint="send one JSON object without repeated members",
        body="message",
        by_route=_AUTHORITY_FAILS,
    ),
    "identifier-invalid": ErrorResponse(
        status=400,
        title="An identifier is not valid",
        hint="check the identifier against the documentation",
        body="message",
        by_route={**_AUTHORITY_FAILS, "peer": RouteAnswer(400, "Invalid space ID")},
    ),
    # 401 everywhere (T9)
    "token-kind": ErrorResponse(status=401, title=_NOT_ALLOWED, hint=_SIGN_ANEW, body="message"),
    **dict.fromkeys(("signature-invalid", *CHAIN_TEXTS, "caveat-refused"), _NO_AUTHORITY),
    **{code: replace(_NO_AUTHORITY, hint=hint) for code, hint in _CHAIN_HINTS.items()},
    # Policy roots and policy sessions are not accepted (capabilities 3.8).
    "policy-profile-refused": replace(
        _NO_AUTHORITY, by_route={**_AUTHORITY_FAILS, "delegate": _FORBIDDEN}
    ),
}
"""Codes of parsing and checking tokens."""


def _untitled(status: int, hint: str, body: Body = "message") -> ErrorResponse:
    """Return an error response whose title is its HTTP status phrase."""
    return ErrorResponse(status=status, title=reason_of(status), hint=hint, body=body)


_FREE_SPACE = "delete values, or ask the operator for a larger quota"
_VALUES = {
    "bad-option": _untitled(400, "compare the headers with the documentation"),
    "bad-nonce": _untitled(400, "send one nonce of the documented form"),
    "duplicate-invocation": _untitled(409, _SIGN_AGAIN),
    "replay-unknown": _untitled(409, _SIGN_AGAIN),
    "restored-recently": ErrorResponse(
        status=503,
        title="The node was restored from a backup",
        hint="wait as long as `Retry-After` says, then sign a new token",
        body="message",
        is_expected=True,
    ),
    "space-not-found": _untitled(404, "sign in as the owner to host the space"),
    "key-not-found": _untitled(404, "list the space to see what is stored", "problem"),
    "no-such-key": _untitled(404, "list the space to see what is stored"),
    "version-not-found": _untitled(404, "read a version that is kept"),
    "versions-not-in-person": _untitled(403, "sign in with the owner's wallet"),
    "no-value": _untitled(404, "list the space to see what is stored"),
    "ticket-refused": _untitled(401, "request a new signed URL"),
    "scope-refused": _untitled(403, "ask the owner for a delegation that covers the value"),
    "not-public": _untitled(403, "read it with a token, on `/invoke`"),
    "value-changed": _untitled(412, "request a new signed URL"),
    "precondition-failed": _untitled(412, "read the value again, then retry"),
    "sync-reset": _untitled(410, "read the feed again from its beginning, without a cursor"),
    "retention-refused": _untitled(403, "name a live grant of kv/retain that covers the prefix"),
    "quota-exceeded": _untitled(402, _FREE_SPACE, "storage"),
    "value-exceeds-quota": _untitled(413, _FREE_SPACE, "storage"),
    "response-too-large": _untitled(413, "raise the limit in the request"),
    "batch-too-large": _untitled(413, "read fewer values at once"),
    "body-too-large": _untitled(413, "store the value in parts"),
    "key-retiring": _untitled(400, "fetch the network's key again, and seal the value to it"),
    "key-rows-full": _untitled(402, "ask the owner to store it, or for a larger quota"),
    "answer-refused": _untitled(400, "store other values outside of `invitations/`"),
}
"""Codes of operations on values."""

_DELEGATIONS = {
    "machine-token-refused": _untitled(400, "create the machine token again"),
    "membership-refused": _untitled(400, "have an admin of the team make the membership again"),
    "oidc-refused": ErrorResponse(
        status=401,
        title="The ID token was refused",
        hint=(
            "compare the claims of the job with those in `sealspace ci list --json`; if the trust"
            " is not listed, make a new one with `sealspace ci trust`; request a new ID token for"
            " each exchange, with the node's DID as audience; the node's operator can look up the"
            " reason in its log"
        ),
    ),
    "status-token-refused": _untitled(401, "sign a new status invocation"),
    "status-not-bound": _untitled(403, "sign for exactly the delegation in the body"),
    "status-cid-invalid": _untitled(400, "send the cid that `/delegate` returned"),
    "query-refused": _untitled(
        403, "sign for the account itself; use only cursors from its answers"
    ),
    "bad-query": _untitled(400, "check the members of the JSON body against the documentation"),
    "bad-delegation-cid": _untitled(401, "send the cid of a delegation"),
    "bad-space-name": _untitled(400, "compare the name with the documentation"),
    "space-exists": _untitled(409, "use it, or choose another name"),
    "space-not-made": _untitled(403, "ask the operator to admit the owner or to raise the limits"),
}
"""Codes of operations on delegations and spaces."""


def _network(
    status: int, hint: str = _COMPARE, *, invoked: RouteAnswer = _FORBIDDEN, body: Body = "message"
) -> ErrorResponse:
    """Return the HTTP response for an encryption-network error.

    Decrypt requests on `/invoke` are answered 403 by default (enc 2.7).
    """
    return ErrorResponse(
        status=status, title=None, hint=hint, body=body, by_route={"invoked-decrypt": invoked}
    )


_OTHER_TYPE = RouteAnswer(403, "invocation type is not a decrypt invocation")

_NETWORKS = {
    "body-not-json": _network(400, invoked=RouteAnswer(400), body="problem"),  # enc 2.1
    "request-too-large": _network(413, invoked=RouteAnswer(400), body="problem"),  # enc 2.1
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
    **dict.fromkeys(("not-yet-valid", "expired"), _network(401, _SET_CLOCK)),
    "nonce-used": _network(401, "sign a new token with a new nonce"),
    # The caller gets the cause's code; the audit log has the full cause (RL14).
    "release-refused": _network(401, "look up the reason in release.md"),
    "audience-mismatch": _network(401, invoked=_OTHER_TYPE),
    "target-node-mismatch": _network(401, invoked=_OTHER_TYPE),
    # `/invoke` names this field whichever hash differs.
    "hash-mismatch": _network(401, invoked=RouteAnswer(403, "invocation hash mismatch: bodyHash")),
    # `/invoke` names only the state.
    "network-revoked": _network(
        401,
        "revocation is final; create another network",
        invoked=RouteAnswer(403, "network is not active (state: revoked)"),
    ),
    "network-not-found": _network(404, "create the network first"),
    "network-exists": _network(409, "use it, or choose another name", invoked=RouteAnswer(409)),
    "key-statement-refused": _network(400, "let the owner's wallet or own key sign it again"),
    "key-version-changed": _network(412, "read the versions of the key, then try again"),
    "key-version-kept": _network(400, "read the versions of the key"),
    "network-not-active": _network(409, "ask the network's owner"),
    # The wire says 500, but a wrapped key that cannot be opened is the caller's fault: not logged.
    "key-backend": replace(_network(500), is_expected=True),
    "invalid-record": _network(500),
}
"""Codes of encryption networks."""


_ATTEST_AGAIN = "attest again with a new challenge"
_UPDATE = "update the platform's firmware, or use another platform"
_SEND_LOG = "send the event log of the boot that made the quote"
_EVIDENCE_HINTS = {
    "unsupported": "send a TDX quote",
    "td-attributes": "run the trust domain without debugging and migration",
    "revoked": _UPDATE,
    "tcb-too-old": _UPDATE,
    "evidence-invalid": "report the request id to the operator",
    "verdict-unknown": "report the request id to the operator",
    "event-log-malformed": _SEND_LOG,
    "event-log": _SEND_LOG,
    "key-provider": "use a key provider that the policy accepts",
    "untrusted-root": "use a platform that the node's trust root certifies",
}

_ATTESTATION = {
    "request-malformed": ErrorResponse(status=400, title="The request is malformed", hint=_COMPARE),
    "session-not-bound": ErrorResponse(
        status=403, title="The token is not bound to this request", hint=_COMPARE
    ),
    "challenge-used": ErrorResponse(
        status=409, title="The challenge was used before", hint="request a new challenge"
    ),
    "network-unknown": ErrorResponse(
        status=404, title="There is no such network on this node", hint="create the network first"
    ),
    "document-unknown": ErrorResponse(
        status=404,
        title="There is no such document on this node",
        hint="use digests from receipts of this node",
    ),
    "policy-not-in-person": ErrorResponse(
        status=403,
        title="Only the owner in person, not a delegate, may do this",
        hint="sign as the owner",
    ),
    "collateral-missing": ErrorResponse(
        status=503,
        title="The node has no collateral for this platform",
        hint="ask the operator to import fresh collateral",
    ),
    **{
        code: ErrorResponse(
            status=403,
            title="The evidence was refused",
            hint=_EVIDENCE_HINTS.get(code, _ATTEST_AGAIN),
        )
        for code in get_args(QuoteCode)
    },
    **dict.fromkeys(
        (
            "collateral-malformed",
            "collateral-window",
            "collateral-signature",
            "collateral-mismatch",
            "collateral-root",
        ),
        ErrorResponse(
            status=503,
            title="The node's collateral cannot be used",
            hint="ask the operator to import fresh collateral",
        ),
    ),
    "quotes-busy": ErrorResponse(
        status=503,
        title="Too many quotes are waiting for verification",
        hint="try again shortly",
        retry_after_s=1,
    ),
    "root-secret-replaced": ErrorResponse(
        status=503,
        title="The node's root secret was replaced",
        hint="the node's operator must restart the node with the new root secret; try again later",
        body="message",
        retry_after_s=30,
        is_expected=True,
    ),
    "own-quotes-busy": ErrorResponse(
        status=503,
        title="Too many requests are waiting for the node's own quote",
        hint="try again shortly",
        body="message",
        retry_after_s=1,
    ),
    "own-quote-failed": ErrorResponse(
        status=503,
        title="The node's platform failed to make a quote",
        hint="try again; see /readyz",
        body="message",
        retry_after_s=10,
    ),
}
"""Codes of attestation, policies and receipts."""

_SMS_UNAUTHORIZED = "Invalid authorization"
_SMS = {
    "sms-unauthorized": ErrorResponse(
        status=401, title=_SMS_UNAUTHORIZED, hint="sign with the wallet that owns the secret"
    ),
    "sms-not-enabled": ErrorResponse(
        status=401,
        title=_SMS_UNAUTHORIZED,
        hint="the wallet's owner has to run: sealspace sms enable",
    ),
    "sms-challenge-used": ErrorResponse(
        status=401,
        title=_SMS_UNAUTHORIZED,
        hint="this signature was used before; push another value",
    ),
    "sms-bad-name": ErrorResponse(
        status=400,
        title="Secret key should contain at most 64 characters from [0-9A-Za-z-_]",
        hint="choose another name",
    ),
    "sms-too-large": ErrorResponse(
        status=413,
        title="Secret size should not exceed 4 Kb",
        hint="push at most 4096 bytes",
        by_route={"sms-requester": RouteAnswer(400)},  # as of iExec's service (SM6)
    ),
    "sms-not-text": ErrorResponse(
        status=400,
        title="Secret should be UTF-8 text that is not blank",
        hint="encode bytes as base64",
    ),
    "sms-exists": ErrorResponse(
        status=409, title="Secret already exists", hint="push it under another name"
    ),
    "sms-absent": ErrorResponse(
        status=404, title="Secret not found", hint="push it with POST first"
    ),
}
"""Codes of iExec's secret management service."""

_SQL = {
    "sql-invalid": _untitled(400, "correct the statement or the request"),
    "sql-refused": _untitled(403, "ask the owner for a grant that allows the request"),
    "sql-forbidden": _untitled(403, "ask the owner for a delegation that allows the statement"),
    "sql-no-ability": _untitled(401, "request sql/read, sql/write, sql/schema or sql/admin"),
    "sql-admin-needed": _untitled(401, "ask the owner for a delegation with sql/admin"),
    "sql-no-database": _untitled(404, "write to the database first"),
    "sql-too-large": _untitled(413, "send the statements in several requests"),
    "sql-log-full": _untitled(413, "change fewer rows in each request"),
    "sql-answer-too-large": _untitled(413, "select fewer rows or columns"),
    "sql-too-many-databases": _untitled(429, "use tables of an existing database"),
}
"""Codes of SQL databases."""

SECTIONS: Mapping[str, Mapping[str, ErrorResponse]] = {
    "Any route": _SERVER,
    "Tokens and chains": _TOKENS,
    "The store": _STORE,
    "Values": _VALUES,
    "Delegations and spaces": _DELEGATIONS,
    "Encryption networks": _NETWORKS,
    "Attestation, policies and receipts": _ATTESTATION,
    "iExec's secret management service": _SMS,
    "SQL databases": _SQL,
}
"""The table, in the order of its page."""

GROUPS: Mapping[str, frozenset[str]] = {
    "tokens": frozenset(_TOKENS),
    "values": frozenset(_VALUES),
    "sql": frozenset(_SQL),
    "networks": frozenset(_NETWORKS),
    "attestation": frozenset(_ATTESTATION),
}
"""Sets of codes for routes that can raise nearly all codes of a section."""

TABLE: Mapping[str, ErrorResponse] = {
    code: row for rows in SECTIONS.values() for code, row in rows.items()
}
"""Every code that can reach a client."""


def code_of(error: Exception) -> str:
    """Return the code of an error, or `internal` for an unknown error."""
    if isinstance(error, Coded) and error.code in TABLE:
        return error.code
    return "internal"
