"""Answers that hold values: in one piece when they are small, streamed out of their file when they are not.

A body in a file is read 256 KiB at a time, and no faster than the client takes it. The last piece is sent only when the
whole has its digest: a damaged file ends the connection and is never taken for a value.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from spaces.values.object_folder import PIECE_BYTES
from spaces.values.object_store import OpenedBody, Piece
from spaces.values.value_heads import Head
from tee_backend.listener import in_large_pieces

from ...logs import log_failure
from ...operations.values.kv_batch import Found
from ...services import Services
from .answers import UntypedStream, bytes_answer
from .request_ids import request_id

_ENCODE: Final = msgspec.json.Encoder().encode
_LEAST_WRITE_BYTES: Final = 64 * 1024
_JSON: Final = {"Content-Type": "application/json"}


async def value_answer(
    request: web.Request,
    body: bytes | OpenedBody,
    headers: Mapping[str, str],
    *,
    status: int = 200,
    part: range | None = None,
) -> web.StreamResponse:
    """Answer with a body, which is closed afterwards, and no content type unless the headers name one (J7).

    Args:
        request: what is answered; of a HEAD the body is left out.
        body: see `Values.open_body`.
        headers: of the answer.
        status: HTTP status.
        part: the bytes to be sent; None: all of them.
    Raises:
        RecordDamaged, StoreUnavailable: before the answer has begun.
        ConnectionError: afterwards; the connection is closed.
    """
    if isinstance(body, bytes):
        return bytes_answer(body if part is None else body[part.start : part.stop], headers=headers, status=status)
    async with body:
        wanted = range(body.size_bytes) if part is None else part
        pieces = body.pieces(wanted.start, wanted.stop)
        if len(wanted) <= PIECE_BYTES and request.method != "HEAD":
            return bytes_answer(await _joined(pieces), headers=headers, status=status)
        return await stream_answer(request, pieces, headers, size_bytes=len(wanted), status=status)


async def batch_read_answer(
    request: web.Request, services: Services, found: Sequence[Found], *, bodies: bool
) -> web.StreamResponse:
    """Answer a batch read with `{"results":[…]}`, values in base64 (wire §4.4.7).

    Values are read while they are sent, one after another, so that none is held whole; a file that is unlinked
    meanwhile is kept for an hour.

    Args:
        request: what is answered.
        found: what is stored under the paths, in order.
        bodies: whether the values are requested, or their metadata alone.
    Raises:
        As `value_answer`.
    """
    heads = [item.head for item in found if item.head is not None] if bodies else []
    if sum([head.size_bytes for head in heads]) > PIECE_BYTES:
        return await stream_answer(request, _gathered(_batch_pieces(services, found)), _JSON)
    if None in [head.body for head in heads]:
        return bytes_answer(await _joined(_batch_pieces(services, found)), headers=_JSON)
    items = [_item(item, bodies=bodies) for item in found]
    return bytes_answer(b'{"results":[%b]}' % b",".join(items), headers=_JSON)


async def stream_answer(
    request: web.Request,
    pieces: AsyncIterator[Piece],
    headers: Mapping[str, str],
    *,
    size_bytes: int | None = None,
    status: int = 200,
) -> web.StreamResponse:
    """Send an answer piece by piece, as fast as the client takes it.

    Args:
        request: what is answered; of a HEAD the body is left out.
        pieces: the body.
        headers: of the answer; no content type is made up.
        size_bytes: of the body; None: not known beforehand.
        status: HTTP status.
    Raises:
        ConnectionError: the client is gone, or `pieces` failed: what was sent must not be taken for the whole.
    """
    is_typed = any(name.lower() == "content-type" for name in headers)
    answer = (web.StreamResponse if is_typed else UntypedStream)(status=status, headers=headers)
    answer.content_length = size_bytes
    await answer.prepare(request)
    if request.method == "HEAD":
        await answer.write_eof()
        return answer
    try:
        with in_large_pieces(request.transport):
            async for piece in pieces:
                await answer.write(piece)
    except ConnectionError:
        raise
    except Exception as error:
        log_failure(request_id(request), request.method, error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionError("an answer ended early") from error
    await answer.write_eof()
    return answer


async def _joined(pieces: AsyncIterator[Piece]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in fewer pieces."""
    held: list[bytes] = []
    held_bytes = 0
    async for piece in pieces:
        held.append(piece)
        held_bytes += len(piece)
        if held_bytes >= _LEAST_WRITE_BYTES:
            yield b"".join(held)
            held, held_bytes = [], 0
    yield b"".join(held)


async def _batch_pieces(services: Services, found: Sequence[Found]) -> AsyncIterator[bytes]:
    yield b'{"results":['
    for at, item in enumerate(found):
        if at:
            yield b","
        head = item.head
        if head is None or head.body is not None:
            yield _item(item, bodies=True)
            continue
        yield b'{"key":%b,"ok":true,"dataBase64":"' % _ENCODE(item.path)
        async for piece in _base64_pieces(await services.values.open_body(head)):
            yield piece
        yield b'","headers":%b}' % _ENCODE(_item_headers(head, bodies=True))
    yield b"]}"


def _item(item: Found, *, bodies: bool) -> bytes:
    """Lay out an item of which no shown part is stored in a file."""
    key, head = _ENCODE(item.path), item.head
    if head is None:
        error = {"code": "KV_NOT_FOUND", "message": f"Key not found: {item.path}"}
        return b'{"key":%b,"ok":false,"error":%b}' % (key, _ENCODE(error))
    data = b',"dataBase64":"%b"' % b64encode(head.body or b"") if bodies else b""
    return b'{"key":%b,"ok":true%b,"headers":%b}' % (key, data, _ENCODE(_item_headers(head, bodies=bodies)))


async def _base64_pieces(body: bytes | OpenedBody) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield b64encode(body)
        return
    async with body:
        held = b""
        async for piece in body.pieces():
            held += piece
            whole = len(held) - len(held) % 3
            yield b64encode(held[:whole])
            held = held[whole:]
        yield b64encode(held)


def _item_headers(head: Head, *, bodies: bool) -> dict[str, str]:
    """The headers of a value as a batch read shows them: sorted, with the size where there is a value.

    JSON holds a value whose bytes are not UTF-8 with these replaced.
    """
    shown = {"etag": head.etag_header}
    if bodies:
        shown["content-length"] = str(head.size_bytes)
    for name, value in head.metadata.items():
        is_text = value.isascii()
        shown[name] = value if is_text else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return dict(sorted(shown.items()))
