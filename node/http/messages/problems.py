"""From an error to an answer, in the two forms an answer takes.

On the wire surface it is a text as the whole body (H1), or `application/problem+json` where the
request failed before its route (H2); on our own surface it is always `application/problem+json`,
with type, title, status, code, request_id and hint (wire 7.1). What a code means is in the table of
`refusals`.
"""

from typing import Final

import msgspec
from aiohttp import web

from ...logs import log_failure
from ...refusal import Refusal
from .http_answers import request_id, text_answer
from .refusals import TABLE, Place, Row, code_of, reason_of, wire_form

PLACE: Final[web.RequestKey[Place]] = web.RequestKey("place", str)  # type: ignore[arg-type]  # one of them
"""Set by a handler whose refusals the table answers differently from then on."""

# The code of a status with which the framework itself ends a request.
_CODE_OF_STATUS: Final = {
    400: "not-readable",
    401: "unauthenticated",
    404: "not-found",
    408: "too-slow",
    413: "too-large",
    422: "wrong-shape",
    500: "internal",
}


def error_answer(
    request: web.Request, error: Exception, *, own: bool, place: Place | None = None
) -> web.Response:
    """Return the answer to an error that a route let through.

    An error without a row in the table is a fault of ours: it is logged under the request id,
    without its message, which may contain values, and answered 500.
    """
    if isinstance(error, web.HTTPException):
        return status_answer(request, error.status, own=own)
    code = code_of(error)
    row = TABLE[code]
    if row.is_fault:
        log_failure(request_id(request), request.method, error)
    place = request.get(PLACE) or place
    status, text = (row.status, None) if own else wire_form(error, row, place)
    if text is None:
        return _problem(request, code, status, own=own, error=error)
    return text_answer(
        text, status=status, headers={} if place in row.elsewhere else _retry(row, error)
    )


def status_answer(request: web.BaseRequest, status: int, *, own: bool = False) -> web.Response:
    """Return the answer to a request that no route could answer."""
    return _problem(request, _CODE_OF_STATUS.get(status, "not-readable"), status, own=own)


def _problem(
    request: web.BaseRequest, code: str, status: int, *, own: bool, error: Exception | None = None
) -> web.Response:
    row = TABLE[code]
    # On the wire surface an error that has no text there is answered without its message (H2).
    title = row.title or (str(error) if own else reason_of(status))
    hint = (error.hint if isinstance(error, Refusal) else None) or row.hint
    accepted = [
        media.partition(";")[0].strip().lower()
        for media in request.headers.get("Accept", "").split(",")
    ]
    if not own and "application/json" in accepted:
        kind = "application/json"
        said = {"code": status, "reason": reason_of(status), "description": f"{title}: {hint}."}
        body: dict[str, object] = {"error": said}
    else:
        kind = "application/problem+json"
        body = {
            "type": f"urn:sealspace:problem:{code}",
            "title": title,
            "status": status,
            "code": code,
            "request_id": request_id(request),
            "hint": hint,
        }
    headers = {"Content-Type": kind, **_retry(row, error)}
    if isinstance(error, Refusal) and code == "wrong-method":
        headers["Allow"] = ", ".join(map(str, error.about))
    return web.Response(status=status, body=msgspec.json.encode(body), headers=headers)


def _retry(row: Row, error: Exception | None) -> dict[str, str]:
    """Return when to try again: as the error states it, else as the table does."""
    known_s = error.retry_after_s if isinstance(error, Refusal) else None
    after_s = row.retry_after_s if known_s is None else known_s
    return {} if after_s is None else {"Retry-After": str(after_s)}
