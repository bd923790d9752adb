"""Which pages of other origins may call a runner through their visitors' browsers (RN235).

Example:
    allow_browsers(app, origins=["https://app.example"])
"""

from collections.abc import (
    Collection,
)

from aiohttp import web

from sealspace.apps.api_keys import KEY_HEADER
from sealspace.apps.run_calls import SIGN_IN_HEADER
from sealspace.documents.published import GRANTS_PATH

LIMIT_HEADER = "X-Compute-Limit"

_METHODS = {
    "/info": "GET",
    "/keys": "GET, POST",
    "/keys/{nonce}": "DELETE",
    "/secrets/generate": "POST",
    GRANTS_PATH: "POST",  # a grant is signed by its owner, for this runner's DID
    # Only for pages of the origins that the operator names (RN235).
    "/call/{owner}/{project}": "POST",
    "/calls/{id}": "GET",
    "/payment-keys/balance": "GET",
    "/payment-keys/usage": "GET",
}
"""The routes that browsers let pages of other origins call, with their methods."""
_PREFLIGHT = {
    "Access-Control-Allow-Headers": (
        f"Authorization, Content-Type, {SIGN_IN_HEADER}, {KEY_HEADER}, {LIMIT_HEADER}"
    ),
    "Access-Control-Max-Age": "600",
}
API_PATHS = "/call/", "/calls/", "/payment-keys/", "/attestations/", "/public/"


def allow_browsers(app: web.Application, *, origins: Collection[str]) -> None:
    """Let pages call the routes of a runner, those with API keys only from `origins`."""
    for path in _METHODS:
        if origins or not path.startswith(API_PATHS):
            app.router.add_options(path, _preflight)

    async def allow_pages(request: web.Request, response: web.StreamResponse) -> None:
        path = _route_path(request)
        allowed = "*"
        if path.startswith(API_PATHS):
            response.headers["Vary"] = "Origin"
            allowed = request.headers.get("Origin", "")
            # a page of an origin that the operator did not name cannot read the answer (RN235)
            if allowed not in origins:
                return
        if path in _METHODS:
            # Refusals have this header too, so that a page can show them.
            response.headers["Access-Control-Allow-Origin"] = allowed

    app.on_response_prepare.append(allow_pages)


async def _preflight(request: web.Request) -> web.Response:
    """Respond to a browser's CORS preflight request."""
    methods = {"Access-Control-Allow-Methods": _METHODS[_route_path(request)]}
    return web.Response(status=204, headers=_PREFLIGHT | methods)


def _route_path(request: web.Request) -> str:
    """Return the path pattern of a request's route.

    The route of grants has the pattern of a whole folder, so it is told by the request's own path.
    """
    if request.path == GRANTS_PATH:
        return GRANTS_PATH
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical
