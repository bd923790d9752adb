"""Definitions of HTTP routes, and their adapter to aiohttp.

A handler reads the typed request, calls one operation and returns its result. Errors become answers
here: texts and problems of the wire protocol on the surface `wire`, problem+json on `own` (wire
7.1). `/openapi.json` is generated from the tokens, bodies, answers and refusals of each route.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Set
from functools import partial
from typing import Literal, get_type_hints

from aiohttp import web

from capabilities.frozen_struct import FrozenStruct
from spaces.grants.decoding import (
    MAX_DECODED_BYTES,
    MAX_REVOKED_BYTES,
    UNPACED_BYTES,
    Decoded,
    begin_request,
)

from ...cohort import Cohort
from ...counts import Operation
from ...rates import counted_as
from ...refusal import Refusal
from ...services import Services
from .error_answers import AnsweredRoute
from .http_answers import CLOSED_TO_PAGES, WholeAnswer, json_answer
from .http_requests import client_address, require_json_type
from .problems import error_answer
from .refusals import code_of
from .request_log import RequestLog

_REFUSED = frozenset((401, 403))
# Valid tokens that everybody can make, or can repeat.
_COUNTED_CODES = frozenset(
    (
        "space-not-found",
        "network-not-found",
        "network-unknown",
        "duplicate-invocation",
        "replay-unknown",
    )
)


Handler = Callable[[web.Request], Awaitable[object]]
"""A function that answers a request. A result that is not a response is sent as JSON."""
Surface = Literal["wire", "own", "sms"]
Authority = Literal["none", "delegation", "revocation", "invocation", "node invocation", "operator"]
"""The token a request needs. A `node invocation` has this node's DID as audience (wire 7.1)."""

OPERATION: web.RequestKey[Operation] = web.RequestKey("operation", str)  # type: ignore[arg-type]  # one of them
"""Set if the token, not the route, determines the operation. Used for metrics and logs only."""


WAITED_NS: web.RequestKey[int] = web.RequestKey("waited_ns", int)
"""Nanoseconds for which a request waited for a change on purpose. Set if it did."""


class RequestBody(FrozenStruct):
    """The type and the size limit of a request body."""

    max_bytes: int | None
    shape: object = None


class ResponseShape(FrozenStruct):
    """The status, headers and body type of a response."""

    shape: object
    status: int = 200
    headers: tuple[str, ...] = ()
    media: str | None = None


class Route(FrozenStruct):
    """The definition of an HTTP route.

    Attributes:
        method: HTTP method; GET also answers HEAD.
        path: aiohttp's path pattern, without a trailing `/`.
        handler: Function that answers.
        surface: Form of errors: that of the wire protocol, ours, or that of iExec's clients.
        cors: Whether pages of other origins may call it if `http.cors` is on.
        operation: Name for counting; None if the handler sets it by `OPERATION`.
        place: Key of the refusal table for codes that are answered differently here. A handler may
            set another.
        authority: Token that a request needs.
        query: Query parameters that are read.
        headers: Header fields that are read, besides those of the token and the body.
        takes: Body; None if none is read. A body with a shape has to be declared as JSON; otherwise
            the route is not found (H4).
        answer: Body of a 200 answer; None for the handler's return type, see `answers`.
        gives: Other answers that are not refusals.
        refuses: Codes of refusals, besides those implied by surface, authority and body.
        is_credential: Whether the path itself grants access, so that logs contain only its hash.
    """

    method: str
    path: str
    handler: Handler
    surface: Surface = "wire"
    cors: bool = True
    operation: Operation | None = "other"
    place: AnsweredRoute | None = None
    authority: Authority = "none"
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    takes: RequestBody | None = None
    answer: object = None
    gives: tuple[ResponseShape, ...] = ()
    refuses: Set[str] = frozenset()
    is_credential: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the HTTP methods that the route answers."""
        if self.method == "GET":
            return ("GET", "HEAD")
        return (self.method,)

    @property
    def json(self) -> bool:
        """Return whether the route accepts only JSON requests (H4)."""
        return self.takes is not None and self.takes.shape is not None

    @property
    def answers(self) -> tuple[ResponseShape, ...]:
        """Return the possible non-error responses of the route.

        A handler that returns a response object, or any of several results, says nothing about the
        body. Such a route lists all of its responses in `gives`.
        """
        shape = self.answer or get_type_hints(self.handler)["return"]
        is_response = isinstance(shape, type) and issubclass(shape, web.StreamResponse)
        if is_response or shape is object:
            return self.gives
        return (ResponseShape(shape), *self.gives)

    @property
    def template(self) -> str:
        """Return the URL path with its placeholders.

        The regular expressions of the placeholders are left out.

        API descriptions and logs show this path.
        """
        return re.sub(r":[^{}]*\}", "}", self.path)


def bind(
    route: Route, cohort: Cohort, services: Services | None = None, log: RequestLog | None = None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Wrap a route handler as an aiohttp handler.

    Each client address has a token bucket (`limits.unauthenticated_per_minute`). Each refused token
    takes one from it, and so does the first row stored for a signer without rows. With an empty
    bucket the answer is 429 before a token is read. Granted requests take nothing, so neither a
    busy client with authority nor others behind its address are limited. Requests without a token
    cost no signature check and are not counted.

    A second bucket has one token for each 64 KiB of stored delegations that requests decoded. With
    an empty one, a request that would decode more than 64 KiB is refused, and no other.
    """
    return _BoundRoute(route, cohort=cohort, services=services, log=log).answer


class _BoundRoute:
    """A route and everything else that is needed to answer its requests."""

    def __init__(
        self, route: Route, *, cohort: Cohort, services: Services | None, log: RequestLog | None
    ) -> None:
        """Read once what is the same for every request."""
        self._cohort = cohort
        self._services = services
        self._counter = None if services is None else services.counter
        self._handler = route.handler
        self._path = route.path
        self._operation = route.operation
        self._is_revocation = route.operation == "revoke"
        self._needs_json = route.json
        self._is_closed = not route.cors
        self._refused = partial(
            error_answer,
            own=route.surface == "own",
            place=route.place,
            sms=route.surface == "sms",
        )
        self._note = None
        if log is not None:
            # A path is logged in plain text only if a real route matched: a catch-all row matches
            # anything.
            is_shown = not route.is_credential and route.method not in ("*", "OPTIONS")
            self._note = partial(log.answered, template=route.template, is_path_shown=is_shown)
        self._is_measured = self._counter is not None or self._note is not None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with the handler's result, or with the answer for its error."""
        began_ns = time.perf_counter_ns() if self._is_measured else 0
        code = None
        if self._is_closed:
            request[CLOSED_TO_PAGES] = True
        decoded = _Decoded(request, self._services)
        if self._is_revocation:  # D34: never refused for what was decoded before
            decoded.most_bytes = MAX_REVOKED_BYTES
            decoded.is_admitted = True
        begin_request(decoded)
        await self._cohort.yield_to_cohort()
        try:
            self._check(request)
            result = await self._handler(request)
            # Most results are a WholeAnswer, and its check is the cheaper one.
            if isinstance(result, (WholeAnswer, web.StreamResponse)):
                response = result
            else:
                response = json_answer(result)
        except (asyncio.CancelledError, ConnectionError):
            # The client has disconnected, the answer was cut off, or the node is shutting down.
            decoded.charge()
            if self._note is not None:
                self._note(request, response=None, began_ns=began_ns)
            raise
        except Exception as error:  # the only place where errors become answers
            code = code_of(error)
            response = self._refused(request, error)
            _count_refusal(request, self._services, error, code, response.status)
        if decoded.size_bytes:
            decoded.charge()
        if self._is_measured:
            self._record(request, response, began_ns=began_ns, code=code)
        return response

    def _check(self, request: web.Request) -> None:
        """Refuse a request that the handler must not see."""
        services = self._services
        if services is not None and not services.unauthenticated_rates.are_all_full:
            # Most of the time no client was charged, so that none can be over its rate.
            _require_rate(request, services)
        if self._needs_json:
            require_json_type(request)
        if "%" in request.raw_path:  # the target with its query, which is at hand
            _refuse_percent_encoding(self._path, request.rel_url.raw_path)

    def _record(
        self,
        request: web.Request,
        response: web.StreamResponse,
        *,
        began_ns: int,
        code: str | None,
    ) -> None:
        """Count an answer, and log it."""
        operation = self._operation or request.pop(OPERATION, "other")
        began_ns += request.pop(WAITED_NS, 0)  # a wait does not make a request slow
        if self._counter is not None:
            self._counter.answered(operation, response.status, began_ns)
        if self._note is not None:
            self._note(
                request, response=response, began_ns=began_ns, operation=operation, code=code
            )


class _Decoded(Decoded):
    """What a request has decoded, for which its client is charged (D34)."""

    __slots__ = ("charged_bytes", "request", "services")

    def __init__(self, request: web.Request, services: Services | None) -> None:
        """Begin at zero. Written out, because every request needs one."""
        self.most_bytes = MAX_DECODED_BYTES
        self.size_bytes = 0
        self.is_admitted = False
        self.charged_bytes = 0
        self.request = request
        self.services = services

    def client(self) -> str:
        """Return the client's address, as it is counted for rates."""
        if self.services is None:
            return ""
        return counted_as(client_address(self.request, self.services.config.http) or "")

    def admit(self) -> None:
        """Refuse to decode much for a client for which much was decoded lately."""
        if self.services is not None:
            client = client_address(self.request, self.services.config.http)
            self.services.decoding_rates.require(client, now=self.services.now())

    def charge(self) -> None:
        """Charge the client for what it was not charged for yet, if it was much."""
        units = (self.size_bytes - self.charged_bytes) // UNPACED_BYTES
        self.charged_bytes += units * UNPACED_BYTES
        if units and self.services is not None:
            client = client_address(self.request, self.services.config.http)
            now = self.services.now()
            self.services.decoding_rates.charge(client, now=now, count=units)


def _require_rate(request: web.Request, services: Services) -> None:
    if "Authorization" not in request.headers:
        return
    client = client_address(request, services.config.http)
    rates = services.unauthenticated_rates
    if not rates.is_new(client):  # most clients were never charged
        rates.require(client, now=services.now())


def _count_refusal(
    request: web.Request, services: Services | None, error: Exception, code: str, status: int
) -> None:
    if services is None:
        return
    # Charge for refused tokens, for valid ones that need no right here, and for every refused push:
    # whoever has seen it can repeat it (SM5).
    if "Authorization" in request.headers and (
        status in _REFUSED or code in _COUNTED_CODES or code.startswith("sms-")
    ):
        client = client_address(request, services.config.http)
        services.unauthenticated_rates.charge(client, now=services.now())
    if services.counter is not None:
        services.counter.refused(error, code)


def _refuse_percent_encoding(path: str, sent: str) -> None:
    """Refuse a request path with percent-encoding outside the route's placeholders."""
    # The framework decodes a path before it is matched, except for `%2F`. So the sent path has the
    # same segments as the pattern, except that a pattern's last segment may be `.*`, which matches
    # several. These are not compared: `zip` ends with the pattern.
    for expected, segment in zip(path.split("/"), sent.split("/"), strict=False):
        is_placeholder = "{" in expected
        # A proxy that guards `/admin` may not recognise `/%61dmin` (H10).
        if not is_placeholder and segment != expected:
            raise Refusal("not-found")
