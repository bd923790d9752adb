"""From an error to an answer: one table from `code` to status, and the two forms an error takes.

Domain code knows nothing of HTTP: each of its errors carries a stable `code`, and what that means here stands in
`KINDS`. On the wire surface an error is its `text` as the whole body (H1) or a framework page (H2); on our own surface
it is `application/problem+json` with type, title, status, code, request_id and hint.

Example:
    raise Problem("too-many-requests")
"""

from dataclasses import dataclass

import msgspec
from aiohttp import web

from capabilities.errors import CapabilityError
from encryption_network.errors import EncryptionError, KeyBackendError
from tee_backend.attestation.errors import AttestationError, CollateralUnusable

from ...logs import log_failure
from ...operations.errors import OperationError
from ...operations.own_errors import AttestationRequestError
from .answers import WireText, text_answer
from .pages import FrameworkPage, page_answer, reason_of
from .request_ids import request_id


@dataclass(frozen=True, slots=True)
class Kind:
    """What one code means to a client.

    Attributes:
        status: HTTP status.
        title: what went wrong, in one line.
        hint: what the caller can do.
        page: on the wire surface a framework page instead of the text.
        retry_after_s: seconds after which another try may succeed; None says nothing.
        say: on the wire surface the error's own message instead of the title; it names bounds, never values.
    """

    status: int
    title: str
    hint: str
    page: bool = False
    retry_after_s: int | None = None
    say: bool = False


KINDS: dict[str, Kind] = {
    # raised by the server around the routes
    "not-readable": Kind(400, "The request could not be read", "send well-formed JSON", page=True),
    "unauthenticated": Kind(401, "A token is missing", "send the token as the Authorization header", page=True),
    "not-found": Kind(404, "There is nothing here", "compare method, path and content type", page=True),
    "too-large": Kind(413, "The request is too large", "send less", page=True),
    "wrong-shape": Kind(422, "The body has another shape", "compare the members with the documentation", page=True),
    "too-many-requests": Kind(429, "Too many requests", "wait, then try again", retry_after_s=10),
    "internal": Kind(500, "Something went wrong on our side", "report the request id to the operator", page=True),
    "quotes-busy": Kind(503, "Too many quotes wait to be verified", "try again shortly", retry_after_s=1),
    "own-quotes-busy": Kind(503, "Too many wait for the node's own quote", "try again shortly", retry_after_s=1),
    "own-quote-failed": Kind(503, "The node's platform makes no quote", "try again; see /readyz", retry_after_s=10),
    "not-ready": Kind(503, "The node is not ready", "try again; see the node's log", retry_after_s=1),
    # raised by the store
    "store-unavailable": Kind(503, "The store cannot be reached", "send it again, newly signed", retry_after_s=1),
    "store-busy": Kind(503, "Others changed the same rows", "send it again, newly signed", retry_after_s=1),
    "store-full": Kind(507, "The store is full", "tell the operator; reading still works"),
    "store-locked": Kind(503, "The store cannot be reached", "send it again, newly signed", retry_after_s=1),
    "record-damaged": Kind(500, "A stored record cannot be read", "report the request id to the operator"),
    "commit-too-large": Kind(400, "The request changes more than one commit may", "send it in parts", say=True),
    "too-many-delegations": Kind(
        400, "Too many delegations are kept", "let some expire; they leave 30 days later", say=True
    ),
    "path-too-long": Kind(400, "The path is too long", "store the value under a shorter path", say=True),
    "too-many-spaces": Kind(400, "The delegation names too many spaces", "sign one for fewer spaces", say=True),
    "metadata-too-large": Kind(400, "The stored metadata is too large", "send fewer or shorter headers", say=True),
    # raised while reading and judging tokens
    "token-malformed": Kind(401, "The token cannot be decoded", "send the raw token, without `Bearer`", page=True),
    "json-invalid": Kind(400, "The body is not strict JSON", "send one JSON object without repeated members"),
    "identifier-invalid": Kind(400, "An identifier is not valid", "compare it with the documentation"),
}

# Every other refusal of a token or a chain: 401 with its own text (wire 3.3, 4.10).
_REFUSED = Kind(401, "The token does not allow this", "sign anew, or ask the owner for the authority")
_EVIDENCE_REFUSED = Kind(403, "The evidence does not hold", "attest anew, with a new challenge")
_ATTESTATION_UNUSABLE = Kind(503, "This node cannot judge the evidence", "ask the operator to import fresh collateral")
# What a framework page's status is called on our surface.
_CODE_OF_STATUS = {
    400: "not-readable",
    401: "unauthenticated",
    404: "not-found",
    413: "too-large",
    422: "wrong-shape",
    500: "internal",
    503: "not-ready",
}


class Problem(Exception):
    """Ends a request of our own surface with a code of `KINDS`.

    Attributes:
        code: a key of `KINDS`.
        hint: what this caller can do, where more can be said than the table does.
    """

    def __init__(self, code: str, *, hint: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.hint = hint


def error_answer(request: web.Request, error: Exception, *, own: bool) -> web.Response:
    """Return the answer to an error that a route let through.

    What is neither an answer in disguise nor a domain error is a fault of ours: it is logged under the request id,
    without its message, which may hold values, and answered 500.
    """
    if isinstance(error, WireText):
        return text_answer(error.text, status=error.status, headers=error.headers)
    if isinstance(error, FrameworkPage | web.HTTPException):
        return _status_answer(request, error.status, own=own)
    code = getattr(error, "code", "")
    kind = KINDS.get(code) or _family_kind(error)
    if kind is None:
        log_failure(request_id(request), request.method, error)
        return _status_answer(request, 500, own=own)
    # A wrapped key that does not open is the caller's doing, whatever the wire's status for it is.
    if kind.status >= 500 and not isinstance(error, KeyBackendError | OperationError):
        log_failure(request_id(request), request.method, error)
    if own:
        return _problem(request, code, kind, hint=getattr(error, "hint", None), headers=_retry(kind, error))
    if kind.page:
        return page_answer(kind.status, request.headers.get("Accept", ""))
    text = str(error) if kind.say else str(getattr(error, "text", kind.title))
    return text_answer(text, status=kind.status, headers=_retry(kind, error))


def _family_kind(error: Exception) -> Kind | None:
    """Return what a whole family of errors means where the table has no row of its own."""
    if isinstance(error, CapabilityError):
        return _REFUSED
    if isinstance(error, AttestationError):
        return _ATTESTATION_UNUSABLE if isinstance(error, CollateralUnusable) else _EVIDENCE_REFUSED
    if isinstance(error, AttestationRequestError):
        return Kind(error.status, error.title, error.hint)
    if isinstance(error, OperationError):
        return Kind(
            error.status, reason_of(error.status), "compare the request with the documentation", page=error.text is None
        )
    if isinstance(error, EncryptionError):
        return Kind(error.status_dedicated, error.text, "compare the request with the documentation")
    return None


def _status_answer(request: web.Request, status: int, *, own: bool) -> web.Response:
    if not own:
        return page_answer(status, request.headers.get("Accept", ""))
    code = _CODE_OF_STATUS.get(status, "not-readable")
    return _problem(request, code, KINDS[code], hint=None, headers=_retry(KINDS[code]))


def _problem(request: web.Request, code: str, kind: Kind, *, hint: str | None, headers: dict[str, str]) -> web.Response:
    body = {
        "type": f"urn:sealspace:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "code": code,
        "request_id": request_id(request),
        "hint": hint or kind.hint,
    }
    headers = {"Content-Type": "application/problem+json", **headers}
    return web.Response(status=kind.status, body=msgspec.json.encode(body), headers=headers)


def _retry(kind: Kind, error: Exception | None = None) -> dict[str, str]:
    """Say when to try again: as the error knows it, else as the table says."""
    after_s = getattr(error, "retry_after_s", kind.retry_after_s)
    return {} if after_s is None else {"Retry-After": str(after_s)}
