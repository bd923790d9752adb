"""One row of the route table, and the binding of a handler to its surface.

A handler reads the typed request, calls one use case, maps the result. Errors it lets through
become an answer here: texts and problems of the wire protocol on the surface `wire`, problem+json
on `own` (wire 7.1). What a row states of tokens, bodies, answers and refusals is what
`/openapi.json` says of the route.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Set
from functools import partial
from typing import Final, Literal, get_type_hints

from aiohttp import web
from msgspec import Struct

from ...cohort import Cohort
from ...counts import Operation
from ...refusal import Refusal
from ...services import Services
from .http_answers import CLOSED_TO_PAGES, WholeAnswer, json_answer
from .http_requests import client_address, require_json_type
from .problems import error_answer
from .refusals import Place, code_of
from .request_log import RequestLog

_REFUSED = frozenset((401, 403))


Handler = Callable[[web.Request], Awaitable[object]]
"""Answers a request; what is no response already is sent as JSON."""
Surface = Literal["wire", "own"]
Authority = Literal["none", "delegation", "revocation", "invocation", "node invocation", "operator"]
"""What a request bears: `node invocation` is one whose audience is this node's DID (wire 7.1)."""

OPERATION: Final[web.RequestKey[Operation]] = web.RequestKey("operation", str)  # type: ignore[arg-type]  # one of them
"""What a request asks for, where its token and not its route determines it; unused where nothing is
counted."""


class RequestBody(Struct, frozen=True):
    """The body of a request."""

    max_bytes: int | None
    shape: object = None


class ResponseShape(Struct, frozen=True):
    """One answer that is no refusal."""

    shape: object
    status: int = 200
    headers: tuple[str, ...] = ()
    media: str | None = None


class Route(Struct, frozen=True):
    """One method on one path.

    Attributes:
        method: HTTP method; GET answers HEAD too.
        path: aiohttp's path pattern, without a trailing `/`.
        handler: what answers.
        surface: which form errors take.
        cors: pages of other origins may call it where `http.cors` is on.
        operation: what is requested, as it is counted; None: the handler sets it by `OPERATION`.
        place: under which name the table of refusals answers some codes differently; a handler may
            set another.
        authority: what a request has to bear.
        query: members of the query that are read.
        headers: header fields that are read, beside those of the token and the body.
        takes: the body; None: none is read. One with a shape has to be declared as JSON; else no
            route is found (H4).
        answer: the shape of the body of an answer with status 200; None: what the handler returns,
            see `answers`.
        gives: other answers that are no refusals.
        refuses: codes of refusals, beside those that follow from surface, authority and body.
        is_credential: the path itself opens something, so a log has no more than its hash.
    """

    method: str
    path: str
    handler: Handler
    surface: Surface = "wire"
    cors: bool = True
    operation: Operation | None = "other"
    place: Place | None = None
    authority: Authority = "none"
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    takes: RequestBody | None = None
    answer: object = None
    gives: tuple[ResponseShape, ...] = ()
    refuses: Set[str] = frozenset()
    is_credential: bool = False

    @property
    def json(self) -> bool:
        """Whether only requests that declare JSON match (H4)."""
        return self.takes is not None and self.takes.shape is not None

    @property
    def answers(self) -> tuple[ResponseShape, ...]:
        """Every answer that is no refusal; a handler that makes its response itself states them in
        `gives`."""
        shape = self.answer or get_type_hints(self.handler)["return"]
        is_made = shape is object or (
            isinstance(shape, type) and issubclass(shape, web.StreamResponse)
        )
        return self.gives if is_made else (ResponseShape(shape), *self.gives)

    @property
    def template(self) -> str:
        """The path as it is described and logged: names of placeholders without their patterns."""
        return re.sub(r":[^{}]*\}", "}", self.path)


def bind(
    route: Route,
    cohort: Cohort,
    services: Services | None = None,
    log: RequestLog | None = None,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of a route with its results and its errors turned into answers.

    Each client address has a token bucket (`limits.unauthenticated_per_minute`): each refused token
    takes one, and so does the first row that is stored for a signer who has none here yet. With an
    empty bucket the answer is 429 before a token is read. Granted requests take nothing, so a busy
    client with authority is not limited, nor are others behind its address. Requests without a
    token cost no signature and are not counted.
    """
    counter = None if services is None else services.counter
    handler, own, json, operation = (
        route.handler,
        route.surface == "own",
        route.json,
        route.operation,
    )
    is_closed, place, is_measured = (
        not route.cors,
        route.place,
        counter is not None or log is not None,
    )
    # It opens nothing, and a row says what is in it.
    is_shown = not route.is_credential and route.method not in ("*", "OPTIONS")
    note = (
        None
        if log is None
        else partial(log.answered, template=route.template, is_path_shown=is_shown)
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        began_ns = time.perf_counter_ns() if is_measured else 0
        code = None
        if is_closed:
            request[CLOSED_TO_PAGES] = True
        await cohort.yield_to_cohort()
        try:
            if services is not None and "Authorization" in request.headers:
                _require_rate(request, services)
            if json:
                require_json_type(request)
            if "%" in request.rel_url.raw_path:
                _require_as_written(route.path, request.rel_url.raw_path)
            result = await handler(request)
            # Most results are of the first type, which is the cheaper to recognise.
            response = (
                result
                if isinstance(result, (WholeAnswer, web.StreamResponse))
                else json_answer(result)
            )
        except (asyncio.CancelledError, ConnectionError):
            if note is not None:
                note(request, response=None, began_ns=began_ns)
            raise
        except Exception as error:  # the one place where an error becomes an answer
            code = code_of(error)
            response = error_answer(request, error, own=own, place=place)
            _count_refusal(request, services, error, code, response.status)
        if is_measured:
            asked = operation or request.pop(OPERATION, "other")
            if counter is not None:
                counter.answered(asked, response.status, began_ns)
            if note is not None:
                note(request, response=response, began_ns=began_ns, operation=asked, code=code)
        return response

    return answer


def _require_rate(request: web.Request, services: Services) -> None:
    client, rates = client_address(request, services.config.http), services.unauthenticated_rates
    if not rates.is_new(client):  # nearly every client has cost nothing so far
        rates.require(client, now=services.clock.now())


def _count_refusal(
    request: web.Request, services: Services | None, error: Exception, code: str, status: int
) -> None:
    if services is None:
        return
    # A token that was refused, or that was good for a space that does not exist.
    if "Authorization" in request.headers and (status in _REFUSED or code == "space-not-found"):
        client = client_address(request, services.config.http)
        services.unauthenticated_rates.charge(client, now=services.clock.now())
    if services.counter is not None:
        services.counter.refused(error, code)


def _require_as_written(path: str, sent: str) -> None:
    """Refuse an escaped spelling of a fixed part of a path, in which the framework finds the route
    too."""
    # The framework decodes no `%2F`, so both have the same segments. A pattern with `.*` is the
    # last one.
    for expected, segment in zip(path.split("/"), sent.split("/"), strict=False):
        # H10: a proxy that guards `/admin` may read it otherwise
        if expected != segment and "{" not in expected:
            raise Refusal("not-found")
