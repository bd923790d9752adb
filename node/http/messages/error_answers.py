"""The forms in which errors are answered.

`refusals` has the answer for each code, in these forms.

Example:
    row = ErrorResponse(status=404, title="Key not found", hint="store a value first")
    status, text = wire_form(error, row)
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

from capabilities.frozen_struct import FrozenStruct

from ...refusal import Refusal

AnsweredRoute = Literal[
    "invoked-decrypt",
    "delegate",
    "revoke",
    "delegation-status",
    "delegation-query",
    "peer",
    "hooks",
    "sms-requester",
]
"""Routes of the wire surface that answer some codes differently. `invoked-decrypt` is a decrypt
request on `/invoke`."""


_KEPT_PHRASES = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}
"""Phrases that Python 3.13 changed. A node answers the same on each version of Python."""


def reason_of(status: int) -> str:
    """Return the reason phrase of an HTTP status."""
    if status in _KEPT_PHRASES:
        return _KEPT_PHRASES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


Body = Literal["title", "message", "problem", "storage"]
"""The body of a wire answer: the row's title; the error's message, which may name limits and the
caller's input but never a secret; `application/problem+json` (H2); or `StorageRefused`."""


class StorageNumbers(FrozenStruct, rename="camel"):
    """How much a space contains, and its limit, in bytes."""

    used_bytes: int
    limit_bytes: int


class StorageRefused(FrozenStruct):
    """The response body for a write that does not fit into its space (wire 4.10).

    Attributes:
        error: distinguishes a full space from a value that is too large for it.
        message: a sentence with both numbers, which older clients parse (J8).
        space: the numbers.
    """

    error: Literal["storage_quota_exceeded", "storage_limit_reached"]
    message: str
    space: StorageNumbers


class RouteAnswer(FrozenStruct):
    """A plain-text error response that is specific to a route.

    It replaces the default response, and has no `Retry-After`.
    """

    status: int
    text: str | None = None


class ErrorResponse(FrozenStruct):
    """The HTTP response for one kind of error.

    Some routes have a response of their own.
    """

    status: int
    title: str | None
    hint: str
    body: Body = "title"
    retry_after_s: int | None = None
    is_expected: bool = False
    by_route: Mapping[AnsweredRoute, RouteAnswer] = {}

    @property
    def is_fault(self) -> bool:
        """Return whether the node caused the error.

        Such an error has to be logged.
        """
        return self.status >= 500 and not self.is_expected


def wire_form(
    error: Exception, row: ErrorResponse, place: AnsweredRoute | None = None
) -> tuple[int, str | None]:
    """Return the HTTP status and the response text for an error on the wire surface.

    The text is None if the body is `problem+json`.
    """
    if place is not None and place in row.by_route:
        at_place = row.by_route[place]
        text = str(error) if at_place.text is None else at_place.text
        return at_place.status, text
    if row.body == "problem":
        return row.status, None
    if row.body == "title":
        return row.status, row.title
    return row.status, str(error)


def storage_refused(error: Refusal) -> StorageRefused:
    """Return the response body for a write that does not fit into its space."""
    used_bytes, limit_bytes = error.about
    assert isinstance(used_bytes, int) and isinstance(limit_bytes, int)
    is_full = error.code == "quota-exceeded"
    return StorageRefused(
        error="storage_quota_exceeded" if is_full else "storage_limit_reached",
        message=str(error),
        space=StorageNumbers(used_bytes=used_bytes, limit_bytes=limit_bytes),
    )
