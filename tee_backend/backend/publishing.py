"""HTTP routes for a backend's evidence and for new grants (AT50 to AT54).

    GET  /.well-known/sealspace/backend?nonce=    the backend's statement, and a fresh quote that
                                                  binds it to the nonce
    GET  /.well-known/sealspace/backend           the backend's DID, manifest and code, without a
                                                  quote
    POST /.well-known/sealspace/backend/grants    a portable delegation to this backend's DID, or a
                                                  bundle of them; 204 once accepted

An application adds the routes beside its own, in aiohttp (`mount`) or in any ASGI server (`asgi`).
Both call `answer`. The server has to provide TLS and to limit request heads and connections. It
must not decompress bodies (aiohttp: `AppRunner(app, auto_decompress=False)`), because a compressed
megabyte costs a second of work. Each request to the first route costs the platform some 40 ms, so
quotes are made one at a time, the number of waiting requests is limited, and further ones get 503.

Example:
    surface = BackendSurface(source, did=backend.did, manifest=manifest, on_grant=backend.accept)
    surface.mount(app)                  # aiohttp
    application = surface.asgi(app)     # Starlette, FastAPI, Django, …

Source: ASGI specification, versions 2.0 to 3.0, HTTP and lifespan.
"""

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import field
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from capabilities.capability_errors import CapabilityError, InvalidJson
from capabilities.frozen import frozen
from capabilities.limits import counted_address
from capabilities.principals import Principal
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import JsonObject, parse_json
from capabilities.tokens import parse_delegation, verify_delegation
from encryption_network.policy import REGISTERS
from sealspace.documents.published import (
    DESCRIPTION_TYPE,
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

from ..attestation.attestation_errors import QuoteRefused
from ..attestation.event_log_claims import verify_event_log
from ..attestation.quote import parse_quote
from ..attestation.report_data import published_binding
from ..backend_errors import KeepingError
from ..evidence.evidence_errors import EvidenceSourceError
from ..evidence.source import EvidenceSource, Quoted
from .grant_door import GRANTS_OF_A_CLIENT_PER_MINUTE, DoorClosed, GrantDoor

MOST_WAITING = 16
"""Requests for evidence that may wait for a quote; further ones get 503."""
BODY_S = 10.0
"""Seconds in which a grant has to arrive. A client that stalls halfway keeps its half in memory."""

_MAX_QUERY_CHARS = 1024  # cut before parsing; a nonce has 43 characters
_log = logging.getLogger(__name__)

# Messages of ASGI are dictionaries whose values depend on their type.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[Message, Receive, Send], Awaitable[None]]


@frozen(kw_only=True)
class SurfaceRequest:
    """An HTTP request received through aiohttp or ASGI.

    Attributes:
        method: HTTP method in capitals.
        path: path below the point where the surface is mounted.
        query: query string as sent, percent-encoded.
        headers: headers as sent, names in lower case; see `header`.
        address: address of the client's connection; None if the server does not know it.
        body: the body's chunks; raises ClientGone if the client disconnects.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    address: str | None
    body: AsyncIterator[bytes] = field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the first header with this name, or None.

        Case is ignored.
        """
        for header_name, value in self.headers:
            if header_name == name.lower():
                return value
        return None


@frozen(kw_only=True)
class SurfaceAnswer:
    """An HTTP response sent through aiohttp or ASGI.

    For HEAD requests the server omits the body.

    Attributes:
        status: HTTP status.
        headers: names in lower case, without content-length.
        body: the whole body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


class ClientGone(Exception):
    """The client disconnected before the request was complete."""


class OnGrant(Protocol):
    """A callback that accepts new grants for a backend.

    `Backend.accept` is such a callback.
    """

    def __call__(self, *portables: PortableDelegation) -> Awaitable[object]:
        """Accept all of the given grants or none of them.

        A result of type bytes is JSON for the client. Raises SealspaceError if a grant is unusable.
        The error's text is sent to the client.
        """


ClientOf = Callable[[SurfaceRequest], str | None]
"""Returns the sender of a grant, by which grants are counted; None: an unknown sender, who has only
the limits of all together."""


class BackendSurface:
    """The HTTP routes for a backend's evidence and for new grants.

    Args:
        source: makes quotes; see `tee_backend.evidence`.
        did: the backend's DID; its key stays inside the trust domain.
        manifest: an app manifest. Owners are asked for the secrets that it lists under `secrets`.
        compose: text of the compose file whose hash is in the event log; None publishes none.
        on_grant: called with the grants of each request, all of which are for this DID. None: the
            backend receives grants another way, and the route answers 404.
        client_of: returns the client by which grants are counted. Default: the address of the
            connection, except for loopback, where a proxy connects. An application behind another
            proxy passes its own function.
        signers: returns the DIDs that signed the backend's live grants (`Backend.signers`); each
            has a share of its own. Default: all signers are new.
    Raises:
        ValueError: owners would not accept the DID, manifest or compose file (a mistake of the
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
        signers: Callable[[], Collection[Principal]] = tuple,
    ) -> None:
        self._source = source
        try:
            members = parse_json(msgspec.json.encode(manifest), max_bytes=MAX_STATEMENT_BYTES)
            self._statement = statement_json(did, members, compose)
            self._parsed = parse_statement(self._statement)
        except (TypeError, InvalidJson) as exc:
            raise ValueError(f"the manifest is not a JSON object: {exc}") from exc
        except BackendAnswerInvalid as exc:
            raise ValueError(exc.message) from exc
        self._description = {"type": DESCRIPTION_TYPE, "did": did, "manifest": members}
        self._on_grant = on_grant
        self._quoting = asyncio.Lock()
        self._waiting = 0
        self._door = GrantDoor(signers)
        self._client_of = client_of or (lambda request: counted_address(request.address))

    # --- the two kinds of servers -----------------------------------------------------------------

    def mount(self, app: web.Application) -> None:
        """Add the backend's routes to an aiohttp application.

        Other paths are not affected.
        """

        async def handle(request: web.Request) -> web.Response:
            surface_request = SurfaceRequest(
                method=request.method,
                path=EVIDENCE_PATH + request.match_info["rest"],
                query=request.rel_url.raw_query_string,
                headers=[(name.lower(), value) for name, value in request.headers.items()],
                address=request.remote,
                body=_pieces_of(request),
            )
            try:
                response = await self.answer(surface_request)
            except ClientGone:
                # aiohttp expects a response anyway; without one it would log a traceback for each
                # such client.
                response = _problem(400, "body-incomplete", "the body is incomplete")
            return web.Response(
                status=response.status, headers=response.headers, body=response.body or None
            )

        app.router.add_route("*", EVIDENCE_PATH + "{rest:(?:/.*)?}", handle)

    def asgi(self, inner: AsgiApplication | None = None) -> AsgiApplication:
        """Return an ASGI application that serves the backend's routes.

        Args:
            inner: the program's own application. It gets all other requests, and the lifespan
                events. None: other paths get 404.
        """

        async def application(scope: Message, receive: Receive, send: Send) -> None:
            path = scope.get("path", "").removeprefix(scope.get("root_path", "").rstrip("/"))
            is_ours = f"{path}/".startswith(f"{EVIDENCE_PATH}/")
            if inner is not None and not (scope["type"] == "http" and is_ours):
                await inner(scope, receive, send)
            elif scope["type"] == "http":
                await self._answer_asgi(scope, path, receive, send)
            elif scope["type"] == "lifespan":
                # There is no inner application, so the events are only confirmed.
                while True:
                    message = await receive()
                    await send({"type": f"{message['type']}.complete"})
                    if message["type"] == "lifespan.shutdown":
                        return
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})

        return application

    async def _answer_asgi(self, scope: Message, path: str, receive: Receive, send: Send) -> None:
        """Answer one HTTP request through ASGI."""
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
        headers = dict(answer.headers)
        if answer.status != 204:
            headers["content-length"] = str(len(answer.body))
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        body = b"" if request.method == "HEAD" else answer.body
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    # --- responses --------------------------------------------------------------------------------

    async def answer(self, request: SurfaceRequest) -> SurfaceAnswer:
        """Handle an HTTP request and return the response.

        Args:
            request: untrusted.
        Returns:
            200 with evidence, 204 for accepted grants, or a problem document with status 400 to
            503.
        Raises:
            ClientGone: the client disconnected while its body was read.
        """
        methods: tuple[str, ...]
        if request.path == EVIDENCE_PATH:
            methods = ("GET", "HEAD")
            handle = self._evidence
        elif request.path == GRANTS_PATH and self._on_grant is not None:
            methods = ("POST",)
            handle = self._take_grant
        else:
            return _problem(404, "not-found", f"the backend's evidence is at {EVIDENCE_PATH}")
        if request.method not in methods:
            allowed = ", ".join(methods)
            return _problem(405, "method-not-allowed", f"use {allowed}", allow=allowed)
        return await handle(request)

    async def _evidence(self, request: SurfaceRequest) -> SurfaceAnswer:
        """Return the backend's evidence with a new quote.

        The quote is bound to the nonce in the request. Without a nonce, return the backend's
        description; the quote from which it names the code is not sent.
        """
        pairs = parse_qsl(request.query[:_MAX_QUERY_CHARS], keep_blank_values=True)
        text = next((value for name, value in pairs if name == "nonce"), None)
        # A description needs a quote too, for the code. Its nonce does not matter: it is not sent.
        nonce = bytes(NONCE_BYTES) if text is None else decode_url(text)
        if nonce is None or len(nonce) != NONCE_BYTES:
            return _problem(
                400, "nonce-malformed", f"?nonce= has to be {NONCE_BYTES} bytes in base64url"
            )
        if self._waiting >= MOST_WAITING:
            return _problem(503, "quotes-busy", "too many requests wait for a quote; try again")
        self._waiting += 1
        # the quote is bound to the nonce and to all that is published (AT51)
        report_data = published_binding(nonce, self._parsed.did, self._parsed.sha256).report_data
        try:
            # Some servers cancel the request of a client that disconnects, while its thread goes
            # on. Without the shield, clients that connect and leave would start any number of
            # quotes in parallel.
            quoted = await asyncio.shield(self._make_quote(report_data))
            if text is None:
                body = msgspec.json.encode(self._description | {"policy": _policy_of(quoted)})
            else:
                body = encode_published(
                    nonce, self._statement, quote=quoted.quote, event_log=quoted.log_entries
                )
        except (EvidenceSourceError, QuoteRefused) as exc:
            return _no_quote(exc)
        return SurfaceAnswer(
            status=200,
            headers={"content-type": "application/json", "cache-control": "no-store"},
            body=body,
        )

    async def _make_quote(self, report_data: bytes) -> Quoted:
        """Make a quote for a waiting request.

        Quotes are made one at a time.
        """
        try:
            async with self._quoting:
                # In a thread: a quote is read from a file system or a socket, which blocks.
                return await asyncio.to_thread(self._source.quote, report_data)
        finally:
            self._waiting -= 1

    async def _take_grant(self, request: SurfaceRequest) -> SurfaceAnswer:
        """Read the grants in a request, within the limits of their client (AT57, AT63)."""
        # AT57: a compressed body is refused even if the server would decompress it, because a small
        # body could become large.
        if request.header("content-encoding") not in (None, "identity"):
            return _problem(
                400, InvalidPortableDelegation.code, "a grant has to be sent uncompressed"
            )
        client = self._client_of(request)
        try:
            with self._door.arriving(client):
                body = await _read_bounded_body(request)
            if isinstance(body, SurfaceAnswer):
                return body
            self._door.admit_body(client, len(body), now=asyncio.get_running_loop().time())
            return await self._pass_on(body, client)
        except DoorClosed as closed:
            retry = {"retry-after": str(closed.wait_s)}
            return _problem(closed.status, closed.code, closed.detail, **retry)

    async def _pass_on(self, body: bytes, client: str | None) -> SurfaceAnswer:
        """Verify the signatures of delivered grants, and pass the grants to the callback (AT63).

        Raises:
            DoorClosed: the grants are over a limit of their client or signer, or of all.
        """
        assert self._on_grant is not None  # without a callback, the route answers 404
        try:
            portables = decode_bundle(body)
            # Only the token has authority: its audience counts, not the unsigned member beside it.
            is_ours = all(
                read_grant(portable.header).delegate == self._parsed.did for portable in portables
            )
        except InvalidPortableDelegation as exc:
            return _problem(400, exc.code, exc.message)
        if not is_ours:
            return _problem(403, "grant-for-another", f"this backend is {self._parsed.did}")
        if len(portables) > GRANTS_OF_A_CLIENT_PER_MINUTE:
            return _problem(
                413, "grant-too-large", f"at most {GRANTS_OF_A_CLIENT_PER_MINUTE} grants at once"
            )
        signers = set[Principal]()
        for portable in portables:
            try:
                signers.add(verify_delegation(parse_delegation(portable.header)).delegator)
            except CapabilityError:
                return _problem(
                    409,
                    InvalidPortableDelegation.code,
                    "the signature of a grant is not valid; next: ask its owner to grant again",
                )
            await asyncio.sleep(0)  # other requests are served between two signatures
        # Each grant is counted, not each request: each costs requests at the node.
        self._door.admit_grants(
            client, signers, len(portables), now=asyncio.get_running_loop().time()
        )
        try:
            with self._door.place(client):
                answer = await self._on_grant(*portables)
        except KeepingError as exc:  # its text names paths of this machine: logged, not sent
            _log.error("a grant cannot be stored: %s", exc)
            return _problem(503, exc.code, "the backend cannot store grants now")
        except EvidenceSourceError as exc:
            return _no_quote(exc)
        except SealspaceError as exc:
            return _problem(409, exc.code, exc.message)
        if isinstance(answer, bytes):
            return SurfaceAnswer(
                status=200, headers={"content-type": "application/json"}, body=answer
            )
        return SurfaceAnswer(status=204)


def _policy_of(quoted: Quoted) -> JsonObject:
    """Return the policy that admits exactly the code in this backend's quote (AT62).

    It equals the policy that an owner gets from the verified quote. Raises QuoteRefused if owners
    would refuse the event log.
    """
    report = parse_quote(quoted.quote).report
    registers = {name: getattr(report, name).hex() for name in REGISTERS}
    if quoted.event_log is None:
        return {"measurements": [registers]}
    claims = verify_event_log(quoted.event_log, report)
    del registers["rtmr3"]  # it differs on every instance; the compose hash takes its place
    return {
        "measurements": [registers],
        "composeHashes": [claims.compose_hash.hex()],
        "appIds": [claims.app_id.hex()],
        "keyProviders": [claims.key_provider.text],
    }


async def _read_bounded_body(request: SurfaceRequest) -> bytes | SurfaceAnswer:
    """Read the body of a request, or return a refusal if it is too long or too slow (AT57)."""
    too_large = _problem(413, "grant-too-large", f"a grant has at most {MAX_GRANT_BYTES} bytes")
    stated = request.header("content-length") or ""
    # The digits are counted first, because int() raises ValueError for very long numbers.
    if stated.isdecimal() and (len(stated) > 12 or int(stated) > MAX_GRANT_BYTES):
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.body:
                body += chunk
                if len(body) > MAX_GRANT_BYTES:
                    return too_large
    except TimeoutError:
        return _problem(408, "grant-too-slow", f"a grant has to arrive within {BODY_S:g} s")
    return bytes(body)


async def _pieces_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body of an aiohttp request in chunks."""
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (web.RequestPayloadError, ConnectionError) as exc:
        raise ClientGone from exc


async def _body_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body of an ASGI request in chunks."""
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        yield message.get("body", b"")
        is_more = message.get("more_body", False)


def _no_quote(error: EvidenceSourceError | QuoteRefused) -> SurfaceAnswer:
    return _problem(503, error.code, "the platform makes no usable quotes at the moment")


def _problem(status: int, code: str, detail: str, **headers: str) -> SurfaceAnswer:
    body = msgspec.json.encode({"status": status, "code": code, "detail": detail})
    if status == 503:
        headers.setdefault("retry-after", "2")
    return SurfaceAnswer(
        status=status, headers={"content-type": "application/problem+json", **headers}, body=body
    )
