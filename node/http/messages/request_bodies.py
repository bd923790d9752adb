"""Reading request bodies inside their bounds (H4, H5)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec
from aiohttp import StreamReader, web

from .problems import NotFound, NotReadable, TooLarge, TooSlow, WrongShape

IDLE_BODY_S: Final = 60.0

Shape = TypeVar("Shape")


def require_json_type(request: web.Request) -> None:
    """Refuse a request whose content type is not `application/json`; parameters are allowed (H4).

    Raises:
        NotFound: as if there were no such route.
    """
    declared = request.headers.get("Content-Type", "")
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise NotFound


async def limited_body(request: web.Request, *, max_bytes: int) -> bytes:
    """Read a whole body of at most `max_bytes`.

    Raises:
        TooLarge: it is longer; nothing beyond the bound is kept.
    """
    return b"".join([piece async for piece in body_pieces(request, max_bytes=max_bytes)])


async def body_pieces(request: web.Request, *, max_bytes: int, idle_s: float = IDLE_BODY_S) -> AsyncIterator[bytes]:
    """Yield a body of at most `max_bytes` as it arrives; the client sends no faster than it is read.

    Raises:
        TooLarge: it is longer, before more than `max_bytes` were yielded.
        NotReadable: its framing is broken.
        TooSlow: nothing arrives for `idle_s`.
        ConnectionError: the client is gone.
    """
    if (request.content_length or 0) > max_bytes:
        raise TooLarge
    if not request.can_read_body:
        return
    size_bytes = 0
    while piece := await _next_piece(request.content, idle_s):
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise TooLarge
        yield piece


def body_at_hand(request: web.Request, *, max_bytes: int) -> bytes | None:
    """Return a body that has arrived whole, as small ones mostly have; None: read it by `body_pieces`.

    Raises:
        TooLarge: it is longer than `max_bytes`.
    """
    if (request.content_length or 0) > max_bytes:
        raise TooLarge
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    body = content.read_nowait()
    if len(body) > max_bytes:
        raise TooLarge
    return body


async def _next_piece(content: StreamReader, idle_s: float) -> bytes:
    """Return what has arrived, or arrives next; nothing at the end."""
    try:
        if content.is_eof():  # all of it is here: a small body costs no timer
            return await content.readany()
        async with asyncio.timeout(idle_s):
            return await content.readany()
    except TimeoutError:
        raise TooSlow from None
    except web.RequestPayloadError:
        raise NotReadable from None


async def json_body(request: web.Request, shape: type[Shape], *, max_bytes: int) -> Shape:
    """Read a JSON body as `shape`; members that the shape does not name are ignored (H4).

    The route has already been matched by content type: the route table does that for JSON routes.

    Raises:
        TooLarge, TooSlow: see `body_pieces`.
        NotReadable, WrongShape: no JSON; JSON of another shape.
    """
    body = await limited_body(request, max_bytes=max_bytes)
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise (WrongShape if _is_json(body) else NotReadable) from None


def _is_json(body: bytes) -> bool:
    """Distinguish another shape from no JSON at all: the reader stops at the first wrong type, before the end."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
