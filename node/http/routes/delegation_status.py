"""POST /delegation/status: the state of one delegation (wire 5.3)."""

from typing import Final

import msgspec
from aiohttp import web

from capabilities.tokens import parse_invocation

from ...operations.delegations.delegation_status import delegation_status
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.request_bodies import json_body
from ..messages.token_header import token_of

MAX_BODY_BYTES: Final = 1024 * 1024


class StatusRequest(msgspec.Struct, frozen=True):
    """The delegation that is asked about, as the token names it."""

    cid: str


async def post_status(request: web.Request) -> web.Response:
    """Report the state of one delegation, with 404 when nothing may be reported."""
    token = parse_invocation(token_of(request))
    question = await json_body(request, StatusRequest, max_bytes=MAX_BODY_BYTES)
    report = await delegation_status(request.app[SERVICES], token, question.cid)
    return json_answer(report, status=200 if report.exists else 404)
