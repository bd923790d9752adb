"""Parsing of HTTP requests.

This covers the token (E1), the client address (Q12), query parameters and the body (H4, H5).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from capabilities.limits import forwarded_client, is_in_networks
from capabilities.strict_json import bounded_decoder

from ...config.tree import Http
from ...rates import Rates
from ...refusal import Refusal
from ...services import SERVICES


def whole_number(request: web.Request, name: str, *, default: int) -> int:
    """Parse a number from a query parameter.

    The result is `default` unless the parameter has 1 to 9 digits.
    """
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else default


def token_of(request: web.Request) -> str:
    """Return the value of the first `Authorization` header (E1).

    The value is not changed or checked.

    Raises:
        Refusal: `unauthenticated`, if there is no such header.
    """
    token = request.headers.get("Authorization")
    if token is None:
        raise Refusal("unauthenticated")
    return token


def client_address(request: web.Request, http: Http) -> str | None:
    """Return the client's address, or None for a connection over a Unix socket.

    Forwarded headers count only if the peer is one of `http.trusted_proxies` (Q12). The client is
    then the last address in `X-Forwarded-For` that is not a trusted proxy. A proxy that sends no
    such header may send `X-Real-IP`.

    Does not check:
        That the client has this address: a trusted proxy can send any address.
    """
    proxies = http.trusted_proxies
    if not proxies:  # no header counts, so none is looked up
        return request.remote
    return forwarded_client(
        request.remote,
        request.headers.getall("X-Forwarded-For", ()),
        request.headers.get("X-Real-IP", ""),
        proxies=proxies,
    )


def check_rate_limit(request: web.Request, rates: Rates) -> None:
    """Refuse a request that exceeds the client's rate limit.

    Each call counts one request.
    """
    services = request.app[SERVICES]
    rates.take(client_address(request, services.config.http), now=services.now())


def is_proxy(address: str | None, http: Http) -> bool:
    """Return whether an address belongs to a trusted proxy."""
    return is_in_networks(address, http.trusted_proxies)


IDLE_BODY_S = 60.0
_NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Shape = TypeVar("Shape")


def require_json_type(request: web.Request) -> None:
    """Refuse a request whose content type is not `application/json` (H4).

    Parameters of the content type are allowed.

    Raises:
        Refusal: `not-found`, as if there were no such route.
    """
    media = request.headers.get("Content-Type", "").partition(";")[0]
    if media.strip().lower() != "application/json":
        raise Refusal("not-found")


async def limited_body(request: web.Request, *, max_bytes: int) -> bytes:
    """Read a request body of at most `max_bytes`.

    A longer body is refused.
    """
    # A small body has usually arrived with the headers, and needs no timer.
    body = body_at_hand(request, max_bytes=max_bytes, too_large="too-large")
    if body is None:
        body = b"".join([piece async for piece in body_pieces(request, max_bytes=max_bytes)])
    return body


async def body_pieces(
    request: web.Request,
    *,
    max_bytes: int,
    idle_s: float = IDLE_BODY_S,
    too_large: str = "too-large",
) -> AsyncIterator[bytes]:
    """Yield the pieces of a request body as they arrive.

    Args:
        request: The request.
        max_bytes: Limit of the body.
        idle_s: Longest wait for the next piece, in seconds.
        too_large: Refusal code for a longer body.

    Raises:
        Refusal: The body is too large, too slow, or not readable.
    """
    # Refuse a body by its declared length, before any of it is read. A chunked body declares none,
    # so its bytes are counted below.
    if (request.content_length or 0) > max_bytes:
        raise Refusal(too_large, max_bytes)
    if not request.can_read_body:
        return
    size_bytes = 0
    content = request.content
    while True:
        # Once everything has arrived, reading never waits, and a timer would be wasted.
        limit_s = None if content.is_eof() else idle_s
        try:
            async with asyncio.timeout(limit_s):
                piece = await content.readany()
        except TimeoutError:
            raise Refusal("too-slow") from None
        except web.RequestPayloadError:
            raise Refusal("not-readable") from None
        if not piece:
            return
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise Refusal(too_large, max_bytes)
        yield piece


def body_at_hand(request: web.Request, *, max_bytes: int, too_large: str) -> bytes | None:
    """Return the request body if it has arrived completely, otherwise None.

    Raises:
        Refusal: The body is too large, with the code `too_large`.
    """
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    body = content.read_nowait()
    if len(body) > max_bytes:
        raise Refusal(too_large, max_bytes)
    return body


_DECODERS: dict[type, "msgspec.json.Decoder[Any]"] = {}  # by shape; the routes have few
_ANYTHING = bounded_decoder(Any)


async def json_body(request: web.Request, shape: type[Shape], *, max_bytes: int) -> Shape:
    """Decode a JSON request body as a given type.

    Unknown members are ignored (H4).

    The content type has already been checked: the route table does that for JSON routes.

    Raises:
        Refusal: `too-large` or `too-slow`, see `body_pieces`; `not-readable`, if the body is not
            JSON; `wrong-shape`, if it is JSON of another shape.
    """
    body = await limited_body(request, max_bytes=max_bytes)
    decoder = _DECODERS.get(shape)
    if decoder is None:
        decoder = _DECODERS[shape] = bounded_decoder(shape)
    try:
        decoded: Shape = decoder.decode(body)
    except _NOT_READ:
        # The typed decoder stops at the first wrong type, so the rest may not even be JSON.
        code = "wrong-shape"
        try:
            _ANYTHING.decode(body)
        except _NOT_READ:
            code = "not-readable"
        raise Refusal(code) from None
    return decoded
