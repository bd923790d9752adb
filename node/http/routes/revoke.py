"""POST /revoke: revoke delegations (wire §5.5)."""

import msgspec
from aiohttp import web

from ...operations.delegations.revoke import revoke
from ...services import SERVICES
from ..messages.answers import json_answer
from ..messages.token_header import token_of


class Revoked(msgspec.Struct, omit_defaults=True):
    """Delegations that are revoked, named as in the request; `cids` only where the request names several."""

    revoked: bool
    cid: str
    cids: tuple[str, ...] = ()


async def post_revocation(request: web.Request) -> web.Response:
    """Revoke delegations; answer `{"revoked", "cid"}`, and `cids` for several, in the request's codec (E8, V5, W27)."""
    echoes = await revoke(request.app[SERVICES], token_of(request))
    return json_answer(Revoked(True, echoes[0], echoes if len(echoes) > 1 else ()))  # V5
