"""GET /openapi.json: every route of the node, as OpenAPI 3.1 describes it; the same bytes from every node of a version.

`make pages` writes the document from the route table and the table of refusals. Nothing in it depends on this node, and
it is served whatever state the node is in.
"""

from importlib.resources import files
from typing import Final

from aiohttp import web
from blake3 import blake3

from ...services import SERVICES
from ..messages.answers import bytes_answer
from ..messages.clients import client_address
from ..messages.partial import matches_weakly

_DOCUMENT: Final = files(__package__).joinpath("openapi.json").read_bytes()
_ETAG: Final = f'"blake3-{blake3(_DOCUMENT).hexdigest()}"'
_HEADERS: Final = {"ETag": _ETAG, "Cache-Control": "public, max-age=300"}


async def get_description(request: web.Request) -> web.Response:
    """Answer the description of the routes."""
    services = request.app[SERVICES]
    services.public_rates.take(client_address(request, services.config.http), now=services.clock.now())
    if matches_weakly(request.headers.get("If-None-Match"), _ETAG):
        return bytes_answer(b"", headers=_HEADERS, status=304)
    return bytes_answer(_DOCUMENT, headers={**_HEADERS, "Content-Type": "application/json"})
