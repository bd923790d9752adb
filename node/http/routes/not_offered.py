"""Services of the protocol that this node does not offer: their routes say so to every caller (wire §7.2)."""

from aiohttp import web

from ...operations.errors import NotEnabled
from ..messages.answers import empty_answer


async def hooks(request: web.Request) -> web.Response:
    """Anything below /hooks."""
    return _not_offered(request, "Hooks")


async def policy(request: web.Request) -> web.Response:
    """Anything below /policy/v3."""
    return _not_offered(request, "Policy v3")


async def share(request: web.Request) -> web.Response:
    """Anything below /share."""
    return _not_offered(request, "Share")


def _not_offered(request: web.Request, service: str) -> web.Response:
    """Answer a preflight, so that a page of another origin can read the refusal of anything else."""
    if request.method == "OPTIONS":
        return empty_answer()
    raise NotEnabled(service)
