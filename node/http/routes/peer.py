"""The DID that a host grant names: GET /peer/generate/<space> (wire 5.1)."""

from aiohttp import web

from capabilities.errors import InvalidIdentifier
from capabilities.resources import parse_space_id

from ...services import SERVICES
from ..messages.answers import WireText, text_answer


async def get_host_did(request: web.Request) -> web.Response:
    """Answer the did:key of one space on this node; derived from the root secret, nothing is stored."""
    try:
        space = parse_space_id(request.match_info["space"])
    except InvalidIdentifier:
        raise WireText(400, "Invalid space ID") from None
    return text_answer(request.app[SERVICES].keyring.space_did(space))  # J3: no newline after it
