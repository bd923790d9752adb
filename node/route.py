"""One row of the route table, and the binding of a handler to its surface.

A handler reads the typed request, calls one use case, maps the result. Errors it lets through become an answer here:
on the `wire` surface the texts and pages of the wire protocol, on `own` problem+json (wire 7.1).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from .bodies import require_json_type
from .problems import error_answer
from .strangers import StrangerGuard

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Surface = Literal["wire", "own"]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path.

    Attributes:
        method: HTTP method; GET answers HEAD too.
        path: aiohttp's path pattern, without a trailing `/`.
        handler: what answers.
        surface: which form errors take.
        json: match only requests that declare JSON; others find no route (H4).
        counted: every request counts against its client (`strangers`), not only a refused one.
    """

    method: str
    path: str
    handler: Handler
    surface: Surface = "wire"
    json: bool = False
    counted: bool = False


def bind(route: Route, guard: StrangerGuard | None = None) -> Handler:
    """Return the handler of a route with its errors turned into answers.

    Args:
        route: what to bind.
        guard: counts what strangers cost; None: nobody is counted.
    """
    handler, own, json = route.handler, route.surface == "own", route.json

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            if guard is not None:
                guard.admit(request, each=route.counted)
            if json:
                require_json_type(request)
            return await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # the one place where an error becomes an answer
            response = error_answer(request, error, own=own)
            if guard is not None:
                guard.note(request, error, response.status)
            return response

    return answer
