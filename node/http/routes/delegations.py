"""The state of one delegation (wire 5.3), and what an account granted and received (wire 5.4)."""

from typing import Final

import msgspec
from aiohttp import web

from capabilities.tokens import parse_invocation

from ...operations.delegations.delegation_query import query_delegations
from ...operations.delegations.delegation_status import delegation_status
from ...operations.delegations.query_filters import MAX_QUERY_BYTES
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.requests import json_body, limited_body, token_of

MAX_STATUS_BODY_BYTES: Final = 1024 * 1024


class StatusRequest(msgspec.Struct, frozen=True):
    """The delegation that is asked about, as the token names it."""

    cid: str


async def post_status(request: web.Request) -> web.Response:
    """POST /delegation/status: report the state of one delegation, with 404 when nothing may be reported."""
    token = parse_invocation(token_of(request))
    question = await json_body(request, StatusRequest, max_bytes=MAX_STATUS_BODY_BYTES)
    report = await delegation_status(request.app[SERVICES], token, question.cid)
    return json_answer(report, status=200 if report.exists else 404)


async def post_query(request: web.Request) -> web.Response:
    """POST /delegation/query: list the delegations of an account: `{"schemaVersion", "items", "nextCursor"?}`."""
    token = parse_invocation(token_of(request))
    body = await limited_body(request, max_bytes=MAX_QUERY_BYTES)
    return json_answer(await query_delegations(request.app[SERVICES], token, body))
