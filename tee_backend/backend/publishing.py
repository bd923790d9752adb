"""A backend's own HTTP surface: evidence for any client with a nonce, and a route for grants (AT50
to AT54).

    GET  /.well-known/sealspace/backend?nonce=    what this backend is, bound to the nonce by a fresh quote
    POST /.well-known/sealspace/backend/grants    a portable delegation to this backend's DID, or a bundle of them; 204
                                                  when it is taken up

An application mounts it beside its own routes, in aiohttp (`mount`) or in any server of ASGI
(`asgi`); both answer the same, by `answer`. The server has to provide TLS, bounds heads and
connections, and must not decompress bodies (aiohttp: `AppRunner(app, auto_decompress=False)`): a
megabyte of them is a second of work. Each request to the first route costs the platform some 40 ms,
so quotes are made one at a time and few may wait: beyond that it answers 503.

Example:
    surface = BackendSurface(source, did=backend.did, manifest=manifest, on_grant=backend.accept)
    surface.mount(app)                  # aiohttp
    application = surface.asgi(app)     # Starlette, FastAPI, Django, …

Source: ASGI specification, versions 2.0 to 3.0, HTTP and lifespan.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.limits import Rates, counted_address
from capabilities.principals import Principal
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import parse_json
from sealspace.documents.published import (
    EVIDENCE_PATH,
    GRANTS_PATH,
    MAX_GRANT_BYTES,
    MAX_STATEMENT_BYTES,
    NONCE_BYTES,
    encode_published,
    parse_statement,
    statement_json,
)
from sealspace.errors import BackendAnswerInvalid, InvalidPortableDelegation, SealspaceError
from sealspace.session import read_grant
from sealspace.wire.portable import PortableDelegation, decode_bundle

from ..attestation.report_data import published_binding
from ..backend_errors import KeepingError
from ..evidence.evidence_errors import EvidenceSourceError
from ..evidence.source import EvidenceSource, Quoted

GRANTS_PER_MINUTE: Final = 60
"""Grants to this backend that are passed on. Any client may send them, and each costs the
backend requests at its node, which counts by address: a flood on this route must not stop what
was granted."""
GRANTS_OF_A_CLIENT_PER_MINUTE: Final = 12
"""Of these from one address, so that one flood leaves capacity for others."""
MOST_CLIENTS: Final = 4096


class GrantRates(Rates[str | None]):
    """How many grants a backend accepts per minute: in all, and from one client (AT54).

    The bucket of all grants has no name. Of more than MOST_CLIENTS buckets the one that was used
    least recently is forgotten; so many take more than an hour at the rate in all, so it is full
    again by then.
    """

    def __init__(self) -> None:
        super().__init__(MOST_CLIENTS)

    def let_through(self, client: str | None, *, now: float, grants: int = 1) -> bool:
        """Take some grants from both buckets, where both have as many.

        Args:
            client: address of the sender; None: not counted by itself.
            now: seconds of any clock that does not step back.
            grants: how many; of more than GRANTS_OF_A_CLIENT_PER_MINUTE, a client's bucket never
                has as many.
        """
        buckets = {client: GRANTS_OF_A_CLIENT_PER_MINUTE, None: GRANTS_PER_MINUTE}
        for bucket, most in buckets.items():
            if self.spent(bucket, per_s=most / 60, now=now) + grants > most:
                return False
        for bucket, most in buckets.items():
            self.add(bucket, grants, per_s=most / 60, now=now)
        return True


MOST_WAITING: Final = 16
"""Requests for evidence that may wait for a quote; beyond that they are answered 503."""
BODY_S: Final = 10.0
"""Seconds in which a grant has to arrive: a client that sends half of one occupies memory
meanwhile."""
MOST_GRANTS_UNDER_WAY: Final = 4
"""Requests with grants that are being taken up; beyond that they are answered 503."""

_MAX_QUERY_CHARS: Final = 1024
_log = logging.getLogger(__name__)

# Messages of ASGI are dictionaries whose values depend on their type.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceRequest:
    """A request, whatever server it came through.

    Attributes:
        method: in capitals.
        path: below the place where the surface is mounted.
        query: as it was sent, percent-encoded.
        headers: as they were sent, names in lower case; see `header`.
        address: of the client's connection; None where the server does not know.
        body: what arrives, piece by piece; raises ClientGone where the client leaves.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    address: str | None
    body: AsyncIterator[bytes] = field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the first header of this name, in whatever case it is written; None: there is
        none."""
        return next((value for given, value in self.headers if given == name.lower()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceAnswer:
    """An answer; for HEAD the server leaves the body out.

    Attributes:
        status: HTTP status.
        headers: names in lower case, without the length.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


class ClientGone(Exception):
    """The client left before its request was whole; there is nobody to answer."""


class OnGrant(Protocol):
    """Takes up grants that belong together, as `Backend.accept` does."""

    def __call__(self, *portables: PortableDelegation) -> Awaitable[object]:
        """Take up all or none; raises SealspaceError where they cannot be used; its text is sent
        back."""
        ...


ClientOf = Callable[[SurfaceRequest], str | None]
"""Returns the sender of a grant, by which grants are counted; None: not counted by itself."""


class BackendSurface:
    """Publishes what a backend is.

    Args:
        source: makes quotes; see `tee_backend.evidence`.
        did: the backend's; its key stays inside the trust domain.
        manifest: an app manifest; what it lists under `secrets` is what owners are asked for.
        compose: text of the compose file that the event log names; None shows none.
        on_grant: called with the grants of each request, all of which name this DID; None: grants
            arrive another way.
        client_of: returns the client by which grants are counted. By default the address of the
            connection, except for loopback, where a proxy is; an application behind another proxy
            that names its clients passes its own.
    Raises:
        ValueError: DID, manifest or compose file are not what owners accept (a mistake of the
            calling code).
    """

    def __init__(
        self,
        source: EvidenceSource,
        *,
        did: str,
        manifest: Mapping[str, object],
        compose: str | None = None,
        on_grant: OnGrant | None = None,
        client_of: ClientOf | None = None,
    ) -> None:
        self._source = source
        try:
            members = parse_json(msgspec.json.encode(manifest), max_bytes=MAX_STATEMENT_BYTES)
            self._statement = statement_json(did, members, compose)
            parsed = parse_statement(self._statement)
        except (TypeError, InvalidJson) as exc:
            raise ValueError(f"the manifest is no JSON object: {exc}") from exc
        except BackendAnswerInvalid as exc:
            raise ValueError(exc.message) from exc
        self._did: Principal = parsed.did
        self._statement_sha256 = parsed.sha256
        self._on_grant = on_grant
        self._quoting = asyncio.Lock()
        self._waiting = self._grants_under_way = 0
        self._rates = GrantRates()
        self._client_of = client_of or (lambda request: counted_address(request.address))

    # --- the two kinds of servers -----------------------------------------------------------------

    def mount(self, app: web.Application) -> None:
        """Add the routes to an aiohttp application; other paths stay the application's."""

        async def handle(request: web.Request) -> web.Response:
            asked = SurfaceRequest(
                method=request.method,
                path=EVIDENCE_PATH + request.match_info["rest"],
                query=request.rel_url.raw_query_string,
                headers=[(name.lower(), value) for name, value in request.headers.items()],
                address=request.remote,
                body=_pieces_of(request),
            )
            try:
                answer = await self.answer(asked)
            except ClientGone:
                # aiohttp needs an answer all the same, and would log a traceback for each such
                # client
                answer = _problem(400, "body-incomplete", "the body broke off")
            return web.Response(
                status=answer.status, headers=answer.headers, body=answer.body or None
            )

        app.router.add_route("*", EVIDENCE_PATH + "{rest:(?:/.*)?}", handle)

    def asgi(self, inner: AsgiApplication | None = None) -> AsgiApplication:
        """Return an ASGI application that answers what is the surface's.

        Args:
            inner: the program's own application, which gets everything else, its lifespan included;
                None: there is none, other paths are 404.
        """

        async def application(scope: Message, receive: Receive, send: Send) -> None:
            path = scope.get("path", "").removeprefix(scope.get("root_path", "").rstrip("/"))
            is_ours = path == EVIDENCE_PATH or path.startswith(EVIDENCE_PATH + "/")
            if inner is not None and not (scope["type"] == "http" and is_ours):
                await inner(scope, receive, send)
            elif scope["type"] == "http":
                await self._answer_asgi(scope, path, receive, send)
            elif scope["type"] == "lifespan":
                await _live(receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})

        return application

    async def _answer_asgi(self, scope: Message, path: str, receive: Receive, send: Send) -> None:
        address = scope.get("client")
        request = SurfaceRequest(
            method=scope["method"],
            path=path,
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=[
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in scope["headers"]
            ],
            address=None if address is None else address[0],
            body=_body_of(receive),
        )
        try:
            answer = await self.answer(request)
        except ClientGone:
            return
        headers = {**answer.headers, "content-length": str(len(answer.body))}
        if answer.status == 204:
            del headers["content-length"]
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send(
            {"type": "http.response.body", "body": b"" if request.method == "HEAD" else answer.body}
        )

    # --- what is answered -------------------------------------------------------------------------

    async def answer(self, request: SurfaceRequest) -> SurfaceAnswer:
        """Answer a request; the same for every kind of server.

        Raises:
            ClientGone: raised by the body; there is nobody to answer.
        """
        if request.path == EVIDENCE_PATH:
            allowed, answer = ["GET", "HEAD"], self._evidence
        elif request.path == GRANTS_PATH and self._on_grant is not None:
            allowed, answer = ["POST"], partial(self._take_grant, on_grant=self._on_grant)
        else:
            return _problem(404, "not-found", f"{EVIDENCE_PATH} says what this backend is")
        if request.method not in allowed:
            methods = ", ".join(allowed)
            return _problem(405, "method-not-allowed", f"ask with {methods}", allow=methods)
        return await answer(request)

    async def _evidence(self, request: SurfaceRequest) -> SurfaceAnswer:
        """Answer a nonce with a quote over it."""
        nonce = decode_url(_nonce_of(request.query))
        if nonce is None or len(nonce) != NONCE_BYTES:
            return _problem(
                400, "nonce-malformed", f"ask with ?nonce=, {NONCE_BYTES} random bytes in base64url"
            )
        if self._waiting >= MOST_WAITING:
            return _problem(503, "quotes-busy", "others wait for quotes; ask again in a moment")
        self._waiting += 1
        bound = published_binding(nonce, self._did, self._statement_sha256).report_data  # AT51
        try:
            # Some servers cancel a request whose client left, and its thread goes on: without the
            # shield, clients that ask and leave would have quotes made side by side, without a
            # bound.
            quoted = await asyncio.shield(self._quote(bound))
        except EvidenceSourceError as exc:
            return _no_quote(exc)
        body = encode_published(
            nonce, self._statement, quote=quoted.quote, event_log=quoted.log_entries
        )
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        return SurfaceAnswer(status=200, headers=headers, body=body)

    async def _quote(self, report_data: bytes) -> Quoted:
        """Make a quote when it is this one's turn, and free its place among those that wait."""
        try:
            async with self._quoting:
                # A quote comes out of a file system or a socket, neither of which belongs on the
                # event loop.
                return await asyncio.to_thread(self._source.quote, report_data)
        finally:
            self._waiting -= 1

    async def _take_grant(self, request: SurfaceRequest, on_grant: OnGrant) -> SurfaceAnswer:
        """Hand the grants of a request to the application (AT54)."""
        # AT57: whatever the server makes of it
        if request.header("content-encoding") not in (None, "identity"):
            return _problem(
                400, InvalidPortableDelegation.code, "a grant is sent without compression"
            )
        try:
            async with asyncio.timeout(BODY_S):  # AT57
                body = await _bounded_body(request)
        except TimeoutError:
            return _problem(408, "grant-too-slow", f"a grant arrives within {BODY_S:g} s")
        if body is None:
            return _problem(413, "grant-too-large", f"a grant has at most {MAX_GRANT_BYTES} bytes")
        try:
            portables = decode_bundle(body)
            # The token alone has authority, so its audience is read there.
            is_ours = all(read_grant(one.header).delegate == self._did for one in portables)
        except InvalidPortableDelegation as exc:
            return _problem(400, exc.code, exc.message)
        if not is_ours:
            return _problem(403, "grant-for-another", f"grant to {self._did}")
        if len(portables) > GRANTS_OF_A_CLIENT_PER_MINUTE:
            return _problem(
                413, "grant-too-large", f"at most {GRANTS_OF_A_CLIENT_PER_MINUTE} grants at once"
            )
        # Each grant is counted, not each request: each costs requests at the node (AT54).
        client, now, count = (
            self._client_of(request),
            asyncio.get_running_loop().time(),
            len(portables),
        )
        if self._grants_under_way >= MOST_GRANTS_UNDER_WAY or not self._rates.let_through(
            client, now=now, grants=count
        ):
            return _problem(503, "grants-busy", "others hand in grants; send it again in a moment")
        self._grants_under_way += 1
        try:
            await on_grant(*portables)
        except KeepingError as exc:  # it names places of this machine
            _log.error("a grant cannot be kept: %s", exc)
            return _problem(503, exc.code, "the backend cannot keep grants now")
        except EvidenceSourceError as exc:
            return _no_quote(exc)
        except SealspaceError as exc:
            return _problem(409, exc.code, exc.message)
        finally:
            self._grants_under_way -= 1
        return SurfaceAnswer(status=204)


def _nonce_of(query: str) -> str | None:
    try:
        pairs = parse_qsl(query[:_MAX_QUERY_CHARS], keep_blank_values=True)
    except ValueError:
        return None
    return next((value for name, value in pairs if name == "nonce"), None)


async def _bounded_body(request: SurfaceRequest) -> bytes | None:
    """Read a body; None as soon as it is longer than a grant, or says that it will be."""
    stated = request.header("content-length") or ""
    if stated.isdecimal() and (len(stated) > 12 or int(stated) > MAX_GRANT_BYTES):
        return None
    body = bytearray()
    async for chunk in request.body:
        body += chunk
        if len(body) > MAX_GRANT_BYTES:
            return None
    return bytes(body)


async def _pieces_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the pieces of a request's body as aiohttp delivers them."""
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (web.RequestPayloadError, ConnectionError) as exc:
        raise ClientGone from exc


async def _body_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the pieces of a request's body as an ASGI server delivers them."""
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        yield message.get("body", b"")
        is_more = message.get("more_body", False)


async def _live(receive: Receive, send: Send) -> None:
    """Follow a server's start and stop where no application of the program's does."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _no_quote(error: EvidenceSourceError) -> SurfaceAnswer:
    return _problem(503, error.code, "the platform gives no quote now")


def _problem(status: int, code: str, detail: str, **headers: str) -> SurfaceAnswer:
    body = msgspec.json.encode({"status": status, "code": code, "detail": detail})
    if status == 503:
        headers["retry-after"] = "2"
    return SurfaceAnswer(
        status=status, headers={"content-type": "application/problem+json", **headers}, body=body
    )
