"""The web application: the route table, bound to one node's services, and the headers that every
answer carries.

There is no middleware: a route's errors become answers where the route is bound (`route.bind`), and
the headers of every answer, streamed ones too, are set when it is prepared. A path without a
placeholder is looked up, not resolved (`fixed_paths`): the busiest routes are such paths.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from ..cohort import COHORT
from ..config.checks import serves_console
from ..config.tree import Http
from ..operations.readiness import PROBE, ReadinessProbe
from ..services import SERVICES, Services
from .messages.http_answers import (
    CLOSED_TO_PAGES,
    COMMON_HEAD,
    TRACE_HEADER,
    CommonHead,
    PageAnswer,
    UntypedStream,
    WholeAnswer,
    is_typed,
    request_id,
)
from .messages.problems import status_answer
from .messages.request_log import REQUEST_LOG, request_log
from .messages.route import bind
from .routes.console import CONSOLE, load_console
from .routes.route_table import SERVED

SERVER_NAME = "sealspace"

_Server: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# H6. `Server` is our own: the framework's would disclose its version.
FIXED_HEADERS = {
    "Server": SERVER_NAME,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "interest-cohort=()",
}

# H6, wire 5.2: on every answer but the operator's, over what a route set. A page has no identity
# here: no cookie, address or certificate of its viewer entitles to anything, and it sends a token
# only if it has one.
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, PUT, GET, OPTIONS, DELETE",
    "Access-Control-Expose-Headers": "*, Authorization",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Allow-Credentials": "true",
}


def build_app(services: Services) -> web.Application:
    """Return the application that serves every route of the table with these services.

    The framework bounds no bodies: each route states its own bound (H5).
    """
    app = web.Application(client_max_size=0)
    app[SERVICES] = services
    app[PROBE] = ReadinessProbe()
    if serves_console(services.config.http):
        app[CONSOLE] = load_console(services.config.http.console_runner)
    log = request_log(services.config, services.keyring)
    if log is not None:
        app[REQUEST_LOG] = log
    for route in SERVED:
        handler = bind(route, services.cohort, services, log)
        # A line feed in what `.*` stands for is a character like any other: without a route the
        # framework would answer.
        path = route.path.replace(":.*}", ":(?s:.*)}")
        paths = [path] if path != route.path else [path, f"{path}/"]  # H4
        for path in paths:
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                app.router.add_route(method, path, handler, expect_handler=meet_expectation)
    app[COHORT] = services.cohort
    app[COMMON_HEAD] = CommonHead(common_headers(services.config.http))
    app.on_response_prepare.append(set_headers(services.config.http))
    return app


def fixed_paths(app: web.Application, otherwise: _Server) -> _Server:
    """Return what answers a request: by the exact text of its method and target, where a route has
    that text.

    A request that needs resolving (a query, a spelling with escapes, a placeholder, an expectation)
    is left to the framework, and so is every method that a path does not have.
    """
    every = {
        (route.method, route.resource.canonical): (_match_of(app, route), route.handler)
        for route in app.router.routes()
        if route.resource is not None
    }
    fallback = every.get(("*", "/{path}"))
    fixed = {asked: found for asked, found in every.items() if "{" not in asked[1]}

    def answer(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        found = fixed.get((request.method, request.raw_path))
        if found is None and not request.rel_url.raw_path.startswith("/"):
            found = fallback  # `*`, or an authority alone: the router has no row for it
        if found is None or "Expect" in request.headers:
            return otherwise(request)
        assert isinstance(request, web.Request)  # the application's factory makes them
        # what resolving would have set; nothing in it belongs to one request
        request._match_info, handler = found
        return handler(request)

    return answer


def _match_of(app: web.Application, route: web.AbstractRoute) -> web.UrlMappingMatchInfo:
    match = web.UrlMappingMatchInfo({}, route)
    match.add_app(app)
    match.freeze()
    return match


async def meet_expectation(request: web.Request) -> web.StreamResponse | None:
    """Ask a client that waits with its body to continue; refuse every other expectation without
    repeating it."""
    expected = request.headers.get("Expect", "").lower()
    if expected != "100-continue":
        if (log := request.app.get(REQUEST_LOG)) is not None:
            log.unrouted(417, request.remote)
        return status_answer(request, 417)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


def common_headers(http: Http) -> dict[str, str]:
    """Return the headers that are the same on every answer."""
    return {**FIXED_HEADERS, **(CORS_HEADERS if http.cors else {})}


def set_headers(http: Http) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what sets the headers of every answer that the framework prepares, streamed ones
    too."""
    headers = common_headers(http)

    async def set_on(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(FIXED_HEADERS if CLOSED_TO_PAGES in request else headers)
        response.headers[TRACE_HEADER] = request_id(request)
        if isinstance(response, PageAnswer):
            response.headers.update(response.given)
        if isinstance(response, UntypedStream) or (
            isinstance(response, WholeAnswer) and not is_typed(response.given)
        ):
            response.headers.popall("Content-Type", None)

    return set_on
