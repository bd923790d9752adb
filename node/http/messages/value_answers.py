"""Answers with stored values.

A small value is sent in one write. A large one is streamed from its file, 256 KiB at a time and as
fast as the client reads. The last piece is sent only if the whole value matches its digest, so a
client never takes a damaged file for a complete value.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from serving.listener import in_large_pieces
from spaces.values.object_store import PIECE_BYTES, OpenedBody, Piece
from spaces.values.value_heads import Head

from ...logs import log_failure
from ...operations.values.kv_batch import BatchFound
from ...services import Services
from .http_answers import JSON_HEADERS, WholeAnswer, encode_json, is_typed
from .request_ids import request_id

_MIN_WRITE_BYTES = 64 * 1024
_WHOLE = slice(None)


class UntypedStream(web.StreamResponse):
    """A streamed response without a content type (J7).

    It sends a value that was stored without a content type.
    """


async def value_answer(
    request: web.Request,
    body: bytes | OpenedBody,
    headers: Mapping[str, str],
    *,
    status: int = 200,
    part: slice = _WHOLE,
) -> web.StreamResponse:
    """Respond with a stored value.

    `body` is closed afterwards. No content type is added (J7).

    Args:
        request: The request. The answer to a HEAD has no body.
        body: See `Values.open_body`.
        headers: Headers of the answer.
        status: HTTP status.
        part: The bytes to send; all by default.

    Raises:
        RecordDamaged, StoreUnavailable: Before the answer has begun.
        ConnectionError: After it has begun; the connection is closed.
    """
    if isinstance(body, bytes):
        return WholeAnswer(body[part], headers, status)
    async with body:
        sent = range(body.size_bytes)[part]
        pieces = body.pieces(sent.start, sent.stop)
        # For a HEAD nothing is read, whatever the size: `stream_answer` sends only the headers.
        if len(sent) <= PIECE_BYTES and request.method != "HEAD":
            return WholeAnswer(await _joined(pieces), headers, status)
        return await stream_answer(request, pieces, headers, size_bytes=len(sent), status=status)


async def batch_read_answer(
    request: web.Request, services: Services, batch: BatchFound
) -> web.StreamResponse:
    """Send several values, or only their metadata, in one JSON response (wire §4.4.7).

    The body is `{"results":[…]}`, with base64-encoded values.

    Values of more than 256 KiB in total are read one after another while they are sent, so memory
    never contains all of them. A file that is removed in between stays readable for an hour.
    """
    values_bytes = 0
    if batch.bodies:  # the request asks for the values themselves
        values_bytes = sum([head.size_bytes for _, head in batch.items if head is not None])
    pieces = _batch_pieces(services, batch)
    if values_bytes > PIECE_BYTES:
        return await stream_answer(request, _merged(pieces), JSON_HEADERS)
    return WholeAnswer(await _joined(pieces), JSON_HEADERS)


async def stream_answer(
    request: web.Request,
    pieces: AsyncIterator[Piece],
    headers: Mapping[str, str],
    *,
    size_bytes: int | None = None,
    status: int = 200,
) -> web.StreamResponse:
    """Send a response in pieces, as fast as the client reads them."""
    response_class = web.StreamResponse if is_typed(headers) else UntypedStream
    answer = response_class(status=status, headers=headers)
    answer.content_length = size_bytes
    await answer.prepare(request)
    if request.method == "HEAD":
        await answer.write_eof()
        return answer
    try:
        with in_large_pieces(request.transport):
            async for piece in pieces:
                await answer.write(piece)
    except ConnectionError:  # the client has disconnected, which is no failure of the node
        raise
    except Exception as error:
        log_failure(request_id(request), request.method, error)
        # The status is sent already. Only an aborted connection shows that the body is incomplete.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionError("the response was truncated") from error
    await answer.write_eof()
    return answer


async def _joined(pieces: AsyncIterator[Piece]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _merged(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small chunks into chunks of at least 64 KiB.

    The last chunk may be smaller.
    """
    buffer: list[bytes] = []
    buffered_bytes = 0
    async for piece in pieces:
        buffer.append(piece)
        buffered_bytes += len(piece)
        if buffered_bytes >= _MIN_WRITE_BYTES:
            yield b"".join(buffer)
            buffer = []
            buffered_bytes = 0
    yield b"".join(buffer)


async def _batch_pieces(services: Services, batch: BatchFound) -> AsyncIterator[bytes]:
    separator = b'{"results":['  # of the first item; the others come after a comma
    for path, head in batch.items:
        key = encode_json(path)
        if head is None:
            error = {"code": "KV_NOT_FOUND", "message": f"Key not found: {path}"}
            yield b'%b{"key":%b,"ok":false,"error":%b}' % (separator, key, encode_json(error))
        else:
            yield b'%b{"key":%b,"ok":true' % (separator, key)
            if batch.bodies:
                yield b',"dataBase64":"'
                async for piece in _base64_pieces(await services.values.open_body(head)):
                    yield piece
                yield b'"'
            yield b',"headers":%b}' % encode_json(_item_headers(head, bodies=batch.bodies))
        separator = b","
    yield b"]}"


async def _base64_pieces(body: bytes | OpenedBody) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield b64encode(body)
        return
    async with body:
        unencoded = b""
        async for piece in body.pieces():
            unencoded += piece
            # Only a multiple of three bytes is encoded without padding, which may be at the end.
            whole_bytes = len(unencoded) - len(unencoded) % 3
            yield b64encode(unencoded[:whole_bytes])
            unencoded = unencoded[whole_bytes:]
        yield b64encode(unencoded)


def _item_headers(head: Head, *, bodies: bool) -> dict[str, str]:
    """Return the headers of one value in a batch response.

    `content-length` is included if `bodies` is set, otherwise the time of the last change.

    Bytes that are not UTF-8 are replaced, since JSON cannot contain them.
    """
    shown = {"etag": head.etag_header}
    if bodies:
        shown["content-length"] = str(head.size_bytes)
    else:
        shown |= head.last_modified
    for name, value in head.metadata.items():
        if not value.isascii():
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        shown[name] = value
    return dict(sorted(shown.items()))
