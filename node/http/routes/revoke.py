"""POST /revoke: revoke a delegation (wire §5.5)."""

from aiohttp import web

from ...operations.delegations.revoke import revoke
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.problems import PLACE
from ..messages.token_header import token_of


async def post_revocation(request: web.Request) -> web.Response:
    """Answer `{"revoked", "cid"}` with the cid in the codec of the request (E8, W27)."""
    request[PLACE] = "revoke"
    echo = await revoke(request.app[SERVICES], token_of(request))
    return json_answer({"revoked": True, "cid": echo})
