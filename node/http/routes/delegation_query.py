"""POST /delegation/query: what an account granted and received (wire 5.4)."""

import msgspec
from aiohttp import web

from capabilities.tokens import parse_invocation

from ...operations.delegations.delegation_listing import Listed
from ...operations.delegations.delegation_query import query_delegations
from ...operations.delegations.query_filters import MAX_QUERY_BYTES
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.request_bodies import limited_body
from ..messages.token_header import token_of

SCHEMA_VERSION = 2


class DelegationPage(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A page of an account's delegations."""

    schema_version: int
    items: tuple[Listed, ...]
    next_cursor: str | None = None


async def post_query(request: web.Request) -> web.Response:
    """List the delegations of an account: `{"schemaVersion", "items", "nextCursor"?}`."""
    token = parse_invocation(token_of(request))
    body = await limited_body(request, max_bytes=MAX_QUERY_BYTES)
    page = await query_delegations(request.app[SERVICES], token, body)
    return json_answer(DelegationPage(SCHEMA_VERSION, page.items, page.next_cursor))
