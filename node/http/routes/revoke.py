"""POST /revoke: take a delegation back (wire §5.5)."""

from aiohttp import web

from capabilities.errors import CapabilityError, MalformedToken, WrongKind

from ...operations.delegations.revoke import revoke
from ...services import SERVICES
from ..messages.answers import WireText, json_answer
from ..messages.token_header import token_of


async def post_revocation(request: web.Request) -> web.Response:
    """Answer `{"revoked", "cid"}` with the cid in the codec it was asked in (E8, W27)."""
    try:
        echo = await revoke(request.app[SERVICES], token_of(request))
    except (MalformedToken, WrongKind):
        raise
    except CapabilityError as error:
        raise WireText(403, error.text) from None  # W20 to W22: every other refusal of this route is 403
    return json_answer({"revoked": True, "cid": echo})
