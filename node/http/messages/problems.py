"""From an error to an answer, in the two forms an answer takes.

On the wire surface it is a text as the whole body (H1) or a framework page (H2); on our own surface it is
`application/problem+json` with type, title, status, code, request_id and hint (wire 7.1). What a code means is in the
table of `refusals`.
"""

from typing import Final

import msgspec
from aiohttp import web

from ...logs import log_failure
from ...refusal import Refusal
from .answers import text_answer
from .pages import NotFound, OperatorAbsent, WrongMethod, page_answer
from .refusals import TABLE, Place, Row, code_of, wire_form
from .request_ids import request_id

PLACE: Final[web.RequestKey[Place]] = web.RequestKey("place", str)  # type: ignore[arg-type]  # one of them
"""Set by a handler whose refusals the table answers differently from then on."""

# What our surface calls a status that the framework itself ends a request with.
_CODE_OF_STATUS: Final = {
    400: "not-readable",
    401: "unauthenticated",
    404: "not-found",
    408: "too-slow",
    413: "too-large",
    422: "wrong-shape",
    500: "internal",
}


def error_answer(request: web.Request, error: Exception, *, own: bool, place: Place | None = None) -> web.Response:
    """Return the answer to an error that a route let through.

    An error without a row in the table is a fault of ours: it is logged under the request id, without its message,
    which may contain values, and answered 500.

    Args:
        request: what is answered.
        error: what was raised.
        own: whether the answer is problem+json.
        place: of the route, in the table; where the handler has set `PLACE`, that counts.
    """
    if isinstance(error, web.HTTPException):
        return _framework_answer(request, error.status, own=own)
    code = code_of(error)
    row = TABLE[code]
    if row.is_fault:
        log_failure(request_id(request), request.method, error)
    if own:
        return _problem(request, code, row, error)
    place = request.get(PLACE) or place
    status, text = wire_form(error, row, place)
    if text is None:
        # Where the routes are described, and what closes the operator's, may be named to anybody.
        sentence = f"{row.title}: {row.hint}." if isinstance(error, NotFound | OperatorAbsent) else ""
        return page_answer(status, request.headers.get("Accept", ""), sentence=sentence)
    return text_answer(text, status=status, headers={} if place in row.elsewhere else _retry(row, error))


def _framework_answer(request: web.Request, status: int, *, own: bool) -> web.Response:
    if not own:
        return page_answer(status, request.headers.get("Accept", ""))
    code = _CODE_OF_STATUS.get(status, "not-readable")
    return _problem(request, code, TABLE[code])


def _problem(request: web.Request, code: str, row: Row, error: Exception | None = None) -> web.Response:
    hint = error.hint if isinstance(error, Refusal) else None
    body = {
        "type": f"urn:sealspace:problem:{code}",
        "title": str(error) if row.title is None else row.title,
        "status": row.status,
        "code": code,
        "request_id": request_id(request),
        "hint": hint or row.hint,
    }
    headers = {"Content-Type": "application/problem+json", **_retry(row, error)}
    if isinstance(error, WrongMethod):
        headers["Allow"] = ", ".join(error.allowed)
    return web.Response(status=row.status, body=msgspec.json.encode(body), headers=headers)


def _retry(row: Row, error: Exception | None) -> dict[str, str]:
    """Return when to try again: as the error states it, else as the table does."""
    known_s = error.retry_after_s if isinstance(error, Refusal) else None
    after_s = row.retry_after_s if known_s is None else known_s
    return {} if after_s is None else {"Retry-After": str(after_s)}
