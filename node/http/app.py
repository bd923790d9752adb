"""The aiohttp application of a node.

The application binds the route table to a node's services.

There is no middleware. Errors become answers where a route is bound (`route.bind`), and the headers
of every answer, streamed ones included, are set when it is prepared. Paths without placeholders,
which are the busiest, bypass the router (`fixed_paths`).
"""

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from ..cohort import COHORT
from ..config.checks import serves_console
from ..config.tree import Http
from ..operations.readiness import PROBE, ReadinessProbe
from ..services import SERVICES, Services
from .messages.common_head import COMMON_HEAD, CommonHead
from .messages.http_answers import CLOSED_TO_PAGES, PageAnswer, WholeAnswer, is_typed
from .messages.problems import status_answer
from .messages.request_ids import TRACE_HEADER, request_id
from .messages.request_log import REQUEST_LOG, request_log
from .messages.route import Route, bind
from .messages.value_answers import UntypedStream
from .routes.console import CONSOLE, load_console
from .routes.route_table import SERVED

SERVER_NAME = "sealspace"

_Server = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# `Server` is set here because the framework's value would disclose its version (H6).
FIXED_HEADERS = {
    "Server": SERVER_NAME,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "interest-cohort=()",
}

# On every answer except the operator's, overriding what a route set (H6, wire 5.2). Open CORS is
# safe because a browser adds no authority by itself: there are no cookies, and the addresses and
# certificates of clients give no rights. A page can only use a token that it has.
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, PUT, GET, OPTIONS, DELETE",
    "Access-Control-Expose-Headers": "*, Authorization",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Allow-Credentials": "true",
}


async def _end_waits(app: web.Application) -> None:
    """Answer the calls that wait for a change, before the listener waits for its requests."""
    app[SERVICES].waits.close()


async def _close_databases(app: web.Application) -> None:
    databases = app[SERVICES].databases
    assert databases is not None  # `build_app` adds this function only if there are databases
    databases.close()


def build_app(services: Services, routes: Iterable[Route] = SERVED) -> web.Application:
    """Return an aiohttp application with all routes of the node, or with those of a service."""
    app = web.Application(client_max_size=0)  # no limit: each route has its own (H5)
    app[SERVICES] = services
    app[PROBE] = ReadinessProbe()
    # A service's application shares the node's databases, and must not close them.
    if services.databases is not None and routes is SERVED:
        app.on_cleanup.append(_close_databases)
    if routes is SERVED:
        app.on_shutdown.append(_end_waits)
    if serves_console(services.config.http):
        app[CONSOLE] = load_console(services.config.http.console_runner)
    log = request_log(services.config, services.keyring)
    if log is not None:
        app[REQUEST_LOG] = log
    for route in routes:
        handler = bind(route, services.cohort, services, log)
        # `.*` has to match line feeds too. Otherwise such a path has no route, and the framework
        # answers it with a page of its own.
        path = route.path.replace(":.*}", ":(?s:.*)}")
        paths = [path]
        if ":.*}" not in route.path:  # `.*` matches a slash at the end, which is ignored (H4)
            paths.append(f"{path}/")
        for path in paths:
            for method in route.methods:
                app.router.add_route(method, path, handler, expect_handler=meet_expectation)
    app[COHORT] = services.cohort
    app[COMMON_HEAD] = CommonHead(common_headers(services.config.http))
    app.on_response_prepare.append(set_headers(services.config.http))
    return app


def fixed_paths(app: web.Application, otherwise: _Server) -> _Server:
    """Return a request handler that bypasses aiohttp's router for fixed paths.

    A fixed path is one without placeholders. Its route is looked up in a dictionary by the method
    and the target, exactly as the client sent them. A request that is not found there is left to
    `otherwise`, which resolves it: the target has a query or an escaped spelling, the route has a
    placeholder, or the path does not have the method. A request with an `Expect` header is left to
    `otherwise`, too, which meets the expectation.
    """
    route_by_key = {
        (route.method, route.resource.canonical): (_match_of(app, route), route.handler)
        for route in app.router.routes()
        if route.resource is not None
    }
    # The route at the end of the table, which refuses every method and path.
    fallback = route_by_key.get(("*", "/{path}"))
    fixed = {
        (method, path): route for (method, path), route in route_by_key.items() if "{" not in path
    }

    def answer(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        # `raw_path` is the whole target with its query, so a request with a query is not found.
        route = fixed.get((request.method, request.raw_path))
        if route is None and not request.rel_url.raw_path.startswith("/"):
            # The target is `*` or an authority. The router cannot resolve such targets.
            route = fallback
        if route is None or "Expect" in request.headers:
            return otherwise(request)
        assert isinstance(request, web.Request)  # the application's factory makes them
        # The router would have set a match, too. This one has no parameters, so that it contains
        # nothing of a single request, and all requests for the route share it.
        request._match_info, handler = route
        return handler(request)

    return answer


def _match_of(app: web.Application, route: web.AbstractRoute) -> web.UrlMappingMatchInfo:
    """Return what the router would find for a path without parameters."""
    match = web.UrlMappingMatchInfo({}, route)
    match.add_app(app)
    match.freeze()
    return match


async def meet_expectation(request: web.Request) -> web.StreamResponse | None:
    """Answer the `Expect` header of a request.

    `100-continue` is answered with 100, and any other value with 417.
    """
    if request.headers.get("Expect", "").lower() != "100-continue":
        log = request.app.get(REQUEST_LOG)
        if log is not None:
            log.unrouted(417, request.remote)
        # The framework's own refusal would repeat the header's text.
        return status_answer(request, 417)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The writer has counted these bytes as the beginning of the answer, which follows only now.
    request.writer.output_size = 0
    return None


def common_headers(http: Http) -> dict[str, str]:
    """Return the headers that all responses have.

    The CORS headers are included if the settings enable them.
    """
    headers = dict(FIXED_HEADERS)
    if http.cors:
        headers |= CORS_HEADERS
    return headers


def set_headers(http: Http) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return an aiohttp callback that adds common headers to each response."""
    headers = common_headers(http)

    async def set_on(request: web.Request, response: web.StreamResponse) -> None:
        if CLOSED_TO_PAGES in request:
            response.headers.update(FIXED_HEADERS)
        else:
            response.headers.update(headers)
        response.headers[TRACE_HEADER] = request_id(request)
        if isinstance(response, PageAnswer):  # its own headers take precedence (CN1)
            response.headers.update(response.given)
        # aiohttp has added a content type to a response without one (J7).
        if isinstance(response, UntypedStream) or (
            isinstance(response, WholeAnswer) and not is_typed(response.given)
        ):
            response.headers.popall("Content-Type", None)

    return set_on
