"""POST /revoke: revoke a delegation (wire §5.5)."""

import msgspec
from aiohttp import web

from ...operations.delegations.revoke import revoke
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.token_header import token_of


class Revoked(msgspec.Struct):
    """A delegation that is revoked, named as in the request."""

    revoked: bool
    cid: str


async def post_revocation(request: web.Request) -> web.Response:
    """Revoke a delegation and answer `{"revoked", "cid"}` with the cid in the codec of the request (E8, W27)."""
    echo = await revoke(request.app[SERVICES], token_of(request))
    return json_answer(Revoked(revoked=True, cid=echo))
