"""Framework pages: the bodies of errors that are raised before a route runs (H2).

Clients rely on the status alone. The body is HTML, or JSON where `Accept` prefers it.

Example:
    raise NotFound
"""

from functools import cache
from http import HTTPStatus

import msgspec
from aiohttp import web

from ...refusal import Refusal

# One sentence each; a status without one here uses its reason phrase.
_SENTENCES = {
    400: "The request could not be read.",
    401: "This needs a token that proves what the caller may do.",
    404: "There is nothing here.",
    408: "The request took too long to arrive.",
    409: "The request contradicts what is stored.",
    413: "The request is larger than this route takes.",
    422: "The request is well formed, but not what this route reads.",
    429: "Too many requests came at once.",
    500: "Something went wrong on our side.",
    503: "This cannot be served at the moment.",
    507: "The store is full.",
}


class NotReadable(Refusal):
    """The framing of the body is broken, or it is no JSON."""

    code = "not-readable"


class Unauthenticated(Refusal):
    """There is no token where one is needed."""

    code = "unauthenticated"


class NotFound(Refusal):
    """There is no such route, or no such method on it."""

    code = "not-found"


class WrongMethod(Refusal):
    """A path of our own surface has other methods."""

    code = "wrong-method"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__()
        self.allowed = allowed


class TooSlow(Refusal):
    """No part of the body arrived for too long."""

    code = "too-slow"


class TooLarge(Refusal):
    """The body is longer than this route takes."""

    code = "too-large"


class WrongShape(Refusal):
    """The body is JSON of another shape."""

    code = "wrong-shape"


class OperatorLocked(Refusal):
    """A request to the operator's routes does not bear the operator's secret."""

    code = "operator-locked"


class OperatorAbsent(Refusal):
    """The node has no operator's secret: its operator's routes are closed."""

    code = "operator-absent"


def page_answer(status: int, accept: str, *, sentence: str = "") -> web.Response:
    """Return the framework page of a status.

    Args:
        status: HTTP status, 400 to 599.
        accept: the request's `Accept` header, or the empty text.
        sentence: what it says, in place of the sentence of the status; a constant, no text of a request.
    """
    said = sentence or _SENTENCES.get(status, f"{reason_of(status)}.")
    if prefers_json(accept):
        return web.Response(status=status, body=_json_page(status, said), headers={"Content-Type": "application/json"})
    headers = {"Content-Type": "text/html; charset=utf-8"}
    return web.Response(status=status, body=_html_page(status, said), headers=headers)


def prefers_json(accept: str) -> bool:
    """Return whether the best media type of an `Accept` header is JSON.

    The type with the highest `q` wins, the earlier among equals; wildcards count as HTML. Header text of any form is
    read without an error.
    """
    best, best_quality = "", 0.0
    for item in accept.split(","):
        media, _, parameters = item.strip().partition(";")
        quality = _quality(parameters)
        if media and quality > best_quality:
            best, best_quality = media.strip().lower(), quality
    return best == "application/json"


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, text = parameter.strip().partition("=")
        if name.lower() == "q":
            try:
                return min(max(float(text), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def reason_of(status: int) -> str:
    """Return the reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


@cache
def _json_page(status: int, said: str) -> bytes:
    error = {"code": status, "reason": reason_of(status), "description": said}
    return msgspec.json.encode({"error": error})


@cache
def _html_page(status: int, said: str) -> bytes:
    title = f"{status} {reason_of(status)}"
    heading = f"{status}: {reason_of(status)}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{title}</title></head>\n<body><h1>{heading}</h1>\n<p>{said}</p></body>\n</html>\n"
    ).encode()
