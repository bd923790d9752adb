"""Routes of a runner that pages of any origin may call, the console's among them (RN154).

`Access-Control-Allow-Origin: *`, and no credentials: each of these requests carries a signature of its own, or none and
is answered alike for everybody. No cookie, certificate or address of a visitor gives authority here, so a page that a
visitor opens can do nothing that a program elsewhere could not. `POST /call` is not among them: its API key has no
audience and no body, whoever sees it spends its owner's money, and a page shows it to each of its visitors.

Example:
    open_to_pages(app)  # when all other routes may still be added
"""

from typing import Final

from aiohttp import web

from sealspace.published import GRANTS_PATH
from sealspace.run_calls import SIGN_IN_HEADER

_METHODS: Final = {
    "/info": "GET",
    "/keys": "GET, POST",
    "/keys/{nonce}": "DELETE",
    "/secrets/generate": "POST",
    GRANTS_PATH: "POST",  # a grant is signed by its owner, for this runner's DID
}
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT: Final = _ANY_ORIGIN | {
    "Access-Control-Allow-Headers": f"Authorization, Content-Type, {SIGN_IN_HEADER}",
    "Access-Control-Max-Age": "600",
}


def open_to_pages(app: web.Application) -> None:
    """Let pages of any origin call these routes of an application, and no others."""
    for path in _METHODS:
        app.router.add_options(path, _preflight)
    app.on_response_prepare.append(_open)


async def _preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends; nothing is read, verified or counted."""
    return web.Response(status=204, headers={**_PREFLIGHT, "Access-Control-Allow-Methods": _METHODS[_place(request)]})


async def _open(request: web.Request, response: web.StreamResponse) -> None:
    if _place(request) in _METHODS:  # a refusal too: a page that cannot read one cannot say it
        response.headers.update(_ANY_ORIGIN)


def _place(request: web.Request) -> str:
    """Return the path of the route that answers; the one of grants answers for several."""
    resource = request.match_info.route.resource
    return GRANTS_PATH if request.path == GRANTS_PATH else "" if resource is None else resource.canonical
