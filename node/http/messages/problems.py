"""Conversion of errors to HTTP responses.

On the wire surface an answer is a text as the whole body (H1), `application/problem+json` if the
request failed before its route (H2), or the JSON of a write that does not fit into its space (H12).
iExec's clients get the JSON of SM6. On our own surface it is always `application/problem+json`,
with type, title, status, code, request_id and hint (wire 7.1).
The table in `refusals` explains the codes.
"""

import msgspec
from aiohttp import web

from ...logs import log_failure
from ...refusal import Refusal
from .error_answers import AnsweredRoute, ErrorResponse, reason_of, storage_refused, wire_form
from .http_answers import json_answer, text_answer
from .refusals import TABLE, code_of
from .request_ids import request_id

PLACE: web.RequestKey[AnsweredRoute] = web.RequestKey("place", str)  # type: ignore[arg-type]  # one of them
"""Set by a handler whose refusals are answered differently from then on."""

# Codes of the statuses with which the framework itself ends requests.
_CODE_OF_STATUS = {
    400: "not-readable",
    401: "unauthenticated",
    404: "not-found",
    408: "too-slow",
    413: "too-large",
    422: "wrong-shape",
    500: "internal",
}


def error_answer(
    request: web.Request,
    error: Exception,
    *,
    own: bool,
    place: AnsweredRoute | None = None,
    sms: bool = False,
) -> web.Response:
    """Return the response to an error raised by a route handler.

    An error without a row in the table is a fault of the node. It is answered 500 and logged under
    the request id, without its message, which may contain values.
    """
    if isinstance(error, web.HTTPException):
        return status_answer(request, error.status, own=own)
    code = code_of(error)
    row = TABLE[code]
    if row.is_fault:
        log_failure(request_id(request), request.method, error)
    if own:
        return _problem(request, code, row.status, own=True, error=error)
    place = request.get(PLACE) or place
    status, text = wire_form(error, row, place)
    if sms:  # the form of iExec's clients (SM6)
        return json_answer(
            {"error": [row.title or reason_of(status)], "code": code, "hint": row.hint},
            status=status,
            headers=_headers_of(row, error),
        )
    if text is None:
        return _problem(request, code, status, own=False, error=error)
    if row.body == "storage" and isinstance(error, Refusal):
        return json_answer(storage_refused(error), status=status)
    if place in row.by_route:  # an answer that is specific to a route has no `Retry-After`
        return text_answer(text, status=status, headers={})
    return text_answer(text, status=status, headers=_headers_of(row, error))


def status_answer(request: web.BaseRequest, status: int, *, own: bool = False) -> web.Response:
    """Return an error response with the given HTTP status.

    It is for a request that the framework has refused, or that failed outside of all routes.
    """
    return _problem(request, _CODE_OF_STATUS.get(status, "not-readable"), status, own=own)


def _problem(
    request: web.BaseRequest, code: str, status: int, *, own: bool, error: Exception | None = None
) -> web.Response:
    row = TABLE[code]
    title = row.title
    if title is None:
        # An error's message may repeat text of the request. Problems of the wire protocol must not
        # (H2), so there the title is the phrase of the status.
        title = str(error) if own else reason_of(status)
    hint = row.hint
    if isinstance(error, Refusal) and error.hint:
        hint = error.hint
    accepted_types = [
        media.partition(";")[0].strip().lower()
        for media in request.headers.get("Accept", "").split(",")
    ]
    if not own and "application/json" in accepted_types:
        kind = "application/json"
        body: dict[str, object] = {
            "error": {
                "code": status,
                "reason": reason_of(status),
                "description": f"{title}: {hint}.",
            }
        }
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
    headers = {"Content-Type": kind, **_headers_of(row, error)}
    return web.Response(status=status, body=msgspec.json.encode(body), headers=headers)


def _headers_of(row: ErrorResponse, error: Exception | None) -> dict[str, str]:
    """Return `Allow` for a wrong method, or `Retry-After` if the wait is known."""
    after_s = row.retry_after_s
    if isinstance(error, Refusal):
        if error.code == "wrong-method":  # such a refusal is about the allowed methods
            return {"Allow": ", ".join(map(str, error.about))}
        if error.retry_after_s is not None:
            after_s = error.retry_after_s
    return {} if after_s is None else {"Retry-After": str(after_s)}
