"""One row of the route table, and the binding of a handler to its surface.

A handler reads the typed request, calls one use case, maps the result. Errors it lets through become an answer here:
on the `wire` surface the texts and pages of the wire protocol, on `own` problem+json (wire 7.1).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web

from ...cohort import Cohort
from ...counts import Operation, RequestCounter
from .answers import CLOSED_TO_PAGES
from .problems import error_answer
from .refusals import code_of
from .request_bodies import require_json_type
from .unauthenticated import UnauthenticatedGuard

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Surface = Literal["wire", "own"]

OPERATION: Final[web.RequestKey[Operation]] = web.RequestKey("operation", str)  # type: ignore[arg-type]  # one of them
"""What a request asks for, where its token and not its route determines it; unused where nothing is counted."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path.

    Attributes:
        method: HTTP method; GET answers HEAD too.
        path: aiohttp's path pattern, without a trailing `/`.
        handler: what answers.
        surface: which form errors take.
        json: match only requests that declare JSON; others find no route (H4).
        cors: pages of other origins may call it where `http.cors` is on.
        operation: what is requested, as it is counted; None: the handler sets it by `OPERATION`.
    """

    method: str
    path: str
    handler: Handler
    surface: Surface = "wire"
    json: bool = False
    cors: bool = True
    operation: Operation | None = "other"


def bind(
    route: Route, cohort: Cohort, guard: UnauthenticatedGuard | None = None, tally: RequestCounter | None = None
) -> Handler:
    """Return the handler of a route with its errors turned into answers.

    Args:
        route: what to bind.
        cohort: lets requests that came together proceed together.
        guard: counts what unauthenticated clients cost; None: nothing is counted.
        tally: counts answers; None: nothing is counted.
    """
    handler, own, json, operation = route.handler, route.surface == "own", route.json, route.operation
    is_closed = not route.cors

    async def answer(request: web.Request) -> web.StreamResponse:
        began_ns = 0 if tally is None else time.perf_counter_ns()
        if is_closed:
            request[CLOSED_TO_PAGES] = True
        await cohort.yield_to_cohort()
        try:
            if guard is not None:
                guard.admit(request)
            if json:
                require_json_type(request)
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # the one place where an error becomes an answer
            response = error_answer(request, error, own=own)
            if guard is not None:
                guard.note(request, error, response.status)
            if tally is not None:
                tally.refused(error, code_of(error))
        if tally is not None:
            tally.answered(operation or request.pop(OPERATION, "other"), response.status, began_ns)
        return response

    return answer
