"""The JSON of a door's answers (DR12)."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from capabilities.frozen import frozen

from .door_errors import DoorRefusal

_HEADERS = {"Cache-Control": "no-store"}


@frozen
class ApiAnswer:
    """An answer.

    Attributes:
        data: data of the answer; None if it has none.
        auth: the token of a login; None for other answers.
        warnings: texts for the client's log.
        status: HTTP status.
        top: further members beside `data`.
    """

    data: Mapping[str, Any] | None = None
    auth: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()
    status: int = 200
    top: Mapping[str, Any] | None = None

    def response(self) -> web.Response:
        """Return the answer as an HTTP response."""
        if self.status == 204:
            return web.Response(status=204, headers=_HEADERS)
        value = {
            **(self.top or {}),
            "request_id": str(uuid.uuid4()),
            "lease_id": "",
            "renewable": False,
            # A secret has no lease: clients that see one keep the secret for as long (DR9).
            "lease_duration": 0,
            "data": self.data,
            "wrap_info": None,
            "warnings": [*self.warnings] or None,
            "auth": self.auth,
        }
        return _json_response(self.status, value)


def plain_response(value: Mapping[str, Any]) -> web.Response:
    """Return an answer without the members that others have, such as that of `sys/health`."""
    return _json_response(200, value)


def refusal_response(refusal: DoorRefusal) -> web.Response:
    """Return the answer for a refusal."""
    return _json_response(refusal.status, {"errors": [*refusal.texts]})


def _json_response(status: int, value: Mapping[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers=_HEADERS,
    )
