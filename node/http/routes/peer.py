"""The DID that a host grant names: GET /peer/generate/<space> (wire 5.1)."""

from aiohttp import web

from capabilities.resources import parse_space_id

from ...services import SERVICES
from ..messages.answers import text_answer


async def get_host_did(request: web.Request) -> web.Response:
    """Answer the did:key of one space on this node; derived from the root secret, nothing is stored."""
    space = parse_space_id(request.match_info["space"])
    return text_answer(request.app[SERVICES].keyring.space_did(space))  # J3: no newline after it
