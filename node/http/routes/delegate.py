"""POST /delegate: register a delegation (wire §3)."""

from aiohttp import web

from capabilities.errors import PolicyProfileRefused

from ...operations.delegations.delegate import register
from ...services import SERVICES
from ..messages.answers import WireText, json_answer
from ..messages.clients import client_address
from ..messages.token_header import token_of


async def post_delegation(request: web.Request) -> web.Response:
    """Answer `{"cid", "activated", "skipped"}`; the body of the request is ignored."""
    services = request.app[SERVICES]
    try:
        answer = await register(services, token_of(request), client=client_address(request, services.config.http))
    except PolicyProfileRefused as error:
        raise WireText(403, error.text) from None  # 3.8
    return json_answer(answer)
