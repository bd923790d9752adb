"""POST /delegate: register a delegation (wire §3)."""

from aiohttp import web

from ...operations.delegations.delegate import register
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.clients import client_address
from ..messages.token_header import token_of


async def post_delegation(request: web.Request) -> web.Response:
    """Register a delegation and answer `{"cid", "activated", "skipped"}`; the body of the request is ignored."""
    services = request.app[SERVICES]
    return json_answer(
        await register(services, token_of(request), client=client_address(request, services.config.http))
    )
