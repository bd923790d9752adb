"""A backend's own HTTP surface: evidence for any client with a nonce, and a route for grants (AT50 to AT54).

    GET  /.well-known/sealspace/backend?nonce=    what this backend is, bound to the nonce by a fresh quote
    POST /.well-known/sealspace/backend/grants    a portable delegation to this backend's DID; 204 when it is taken up

An application mounts it beside its own routes. Its server has to provide TLS and must not decompress bodies
(`AppRunner(app, auto_decompress=False)`): a megabyte of them is a second of work. Each request to the first route costs
the platform some 40 ms, so quotes are made one at a time and few may wait: beyond that it answers 503.

Example:
    surface = BackendSurface(source, did=backend.did, manifest=manifest, on_grant=take_up)
    surface.mount(app)
"""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import msgspec
from aiohttp import web

from capabilities.principals import Principal, same_principal
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json
from sealspace.errors import BackendAnswerInvalid, InvalidPortableDelegation, SealspaceError
from sealspace.portable import PortableDelegation, decode_portable
from sealspace.published import (
    EVIDENCE_PATH,
    GRANTS_PATH,
    MAX_GRANT_BYTES,
    NONCE_BYTES,
    encode_published,
    parse_statement,
    statement_json,
)
from sealspace.session import read_grant
from tee_backend.attestation.report_data import published_report_data
from tee_backend.evidence.errors import EvidenceSourceError
from tee_backend.evidence.source import EvidenceSource, take_quote
from tee_backend.grant_rates import GrantRates

MOST_WAITING: Final = 16
"""Requests for evidence that may wait for a quote; beyond that they are answered 503."""
BODY_S: Final = 10.0
"""Seconds in which a grant has to arrive: a client that sends half of one occupies memory meanwhile."""
MOST_GRANTS_UNDER_WAY: Final = 4
"""Grants that are being taken up; beyond that they are answered 503."""

ClientOf = Callable[[web.Request], str | None]
"""Returns the sender of a grant, by which grants are counted; None: not counted by itself."""
OnGrant = Callable[[PortableDelegation], Awaitable[None]]
"""Takes up a grant to this backend; raises SealspaceError where it cannot be used; its text is sent back."""


class BackendSurface:
    """Publishes what a backend is.

    Args:
        source: makes quotes; see `tee_backend.evidence`.
        did: the backend's; its key stays inside the trust domain.
        manifest: an app manifest; what it lists under `secrets` is what owners are asked for.
        compose: text of the compose file that the event log names; None shows none.
        on_grant: called with each grant that arrives and names this DID; None: grants arrive another way.
        client_of: returns the client by which grants are counted. By default the address of the connection, except for
            loopback, where a proxy is; an application behind another proxy that names its clients passes its own.
    Raises:
        ValueError: DID, manifest or compose file are not what owners accept (a mistake of the calling code).
    """

    def __init__(
        self,
        source: EvidenceSource,
        *,
        did: str,
        manifest: dict[str, Json],
        compose: str | None = None,
        on_grant: OnGrant | None = None,
        client_of: ClientOf | None = None,
    ) -> None:
        self._source = source
        self._statement = statement_json(did, manifest, compose)
        try:
            parsed = parse_statement(self._statement)
        except BackendAnswerInvalid as exc:
            raise ValueError(exc.message) from exc
        self._did: Principal = parsed.did
        self._statement_sha256 = parsed.sha256
        self._on_grant = on_grant
        self._quoting = asyncio.Lock()
        self._waiting = self._grants_under_way = 0
        self._rates = GrantRates()
        self._client_of = client_of or _address_of

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_get(EVIDENCE_PATH, self._get_evidence)
        if self._on_grant is not None:
            app.router.add_post(GRANTS_PATH, self._post_grant)

    async def _get_evidence(self, request: web.Request) -> web.Response:
        """Answer a nonce with a quote over it."""
        nonce = decode_url(request.query.get("nonce"))
        if nonce is None or len(nonce) != NONCE_BYTES:
            return _problem(400, "nonce-malformed", f"ask with ?nonce=, {NONCE_BYTES} random bytes in base64url")
        if self._waiting >= MOST_WAITING:
            return _problem(503, "quotes-busy", "others wait for quotes; ask again in a moment")
        self._waiting += 1
        try:
            async with self._quoting:
                bound = published_report_data(nonce, self._did, self._statement_sha256)  # AT51
                # A quote comes out of a file system or a socket, neither of which belongs on the event loop.
                quoted = await asyncio.to_thread(take_quote, self._source, bound)
        except EvidenceSourceError as exc:
            return _problem(503, exc.code, "the platform gives no quote now")
        finally:
            self._waiting -= 1
        log = None if quoted.event_log is None else quoted.event_log.to_json()
        body = encode_published(nonce, self._statement, quote=quoted.quote, event_log=log)
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _post_grant(self, request: web.Request) -> web.Response:
        """Hand a grant to the application (AT54)."""
        assert self._on_grant is not None  # the route is there only then
        try:
            async with asyncio.timeout(BODY_S):
                body = await _bounded_body(request)
        except TimeoutError:
            return _problem(408, "grant-too-slow", f"a grant arrives within {BODY_S:g} s")
        if body is None:
            return _problem(413, "grant-too-large", f"a grant has at most {MAX_GRANT_BYTES} bytes")
        try:
            portable = decode_portable(body)
            # The token alone has authority, so its audience is read there.
            is_ours = same_principal(read_grant(portable.header).delegate, self._did)
        except InvalidPortableDelegation as exc:
            return _problem(400, exc.code, str(exc))
        if not is_ours:
            return _problem(403, "grant-for-another", f"grant to {self._did}")
        client, now = self._client_of(request), asyncio.get_running_loop().time()
        if self._grants_under_way >= MOST_GRANTS_UNDER_WAY or not self._rates.let_through(client, now=now):
            return _problem(503, "grants-busy", "others hand in grants; send it again in a moment")
        self._grants_under_way += 1
        try:
            await self._on_grant(portable)
        except SealspaceError as exc:
            return _problem(409, exc.code, str(exc))
        finally:
            self._grants_under_way -= 1
        return web.Response(status=204)


def _address_of(request: web.Request) -> str | None:
    """Return the address of a client, of IPv6 the network: one client may have all of a network."""
    try:
        address = ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    return str(address if isinstance(address, IPv4Address) else ip_network((address, 64), strict=False))


async def _bounded_body(request: web.Request) -> bytes | None:
    """Read a body; None as soon as it is longer than a grant."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_GRANT_BYTES:
            return None
    return bytes(body)


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = msgspec.json.encode({"status": status, "code": code, "detail": detail})
    headers = {"Retry-After": "2"} if status == 503 else {}
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)
