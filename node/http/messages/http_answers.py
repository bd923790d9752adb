"""Answers that routes give: text, JSON, values, ranges of values, nothing.

A value is sent in one piece when it is small, and streamed out of its file when it is not: 256 KiB
at a time, and no faster than the client takes it. The last piece is sent only when the whole has
its digest: a damaged file ends the connection and is never taken for a value.
"""

import os
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from spaces.values.object_store import PIECE_BYTES, OpenedBody, Piece
from spaces.values.value_heads import Head
from tee_backend.listener import in_large_pieces

from ...logs import log_failure
from ...operations.values.kv_batch import BatchFound
from ...services import Services

OPAQUE: Final = "application/octet-stream"
CONTENT_TYPE: Final = "content-type"

_TEXTS: Final = frozenset({"application/json", "text/csv", "text/markdown", "text/plain"})
_OTHERS: Final = frozenset(
    {
        OPAQUE,
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
        "video/ogg",
        "video/webm",
    }
)
# Of texts only this parameter: in other encodings a browser may read markup where none was written.
_ENCODINGS: Final = frozenset({"charset=utf-8", 'charset="utf-8"', "charset=us-ascii"})


def shown_type(stored: str | None) -> str:
    """Return the content type under which a value is shown to a browser that opens its address.

    A value of `/public` and `/signed` is whatever its owner stored, and its address has the node's
    origin. A type that a browser runs (HTML, SVG and every other XML, PDF, scripts, style sheets),
    that replaces what is shown part by part (`multipart/x-mixed-replace`), or that is not known
    here is answered as bytes. On `/invoke` nothing is changed: a browser does not open that
    address, and clients parse what they stored.
    """
    if stored is None or not stored.isascii():
        return OPAQUE
    name, separator, parameter = stored.lower().partition(";")
    name = name.strip(" \t")
    is_allowed = name in _TEXTS or (name in _OTHERS and not separator)
    if is_allowed and (not separator or parameter.strip(" \t") in _ENCODINGS):
        return stored
    return OPAQUE


_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parse_range(header: str | None, *, size_bytes: int) -> range | None:
    """Return the bytes of a value that are requested (RFC 9110 §14); None: all of them; an empty
    range: none is there.

    One range is served. A header that is malformed, or asks for several ranges, is ignored.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = [int(digits) if digits else None for digits in match.groups()]
    if first is None:
        if not last:  # no number at all, or the last 0 bytes
            return None
        return range(size_bytes)[-last:]
    if last is None:
        return range(size_bytes)[first:]
    return range(size_bytes)[first : last + 1] if first <= last else None


TRACE_HEADER = "TinyCloud-Trace-Id"

_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256  # asking the kernel for each costs more than all else that is done for it


def request_id(request: web.BaseRequest) -> str:
    """Return the name of this request, the same in trace header, problem and log; the first call
    gives it one.

    It is random, 32 hexadecimal digits: a count would reveal to clients how many requests others
    make.
    """
    known = request.get(_KEY) if len(request) else None  # asking in vain costs an exception
    if known is None:
        known = request[_KEY] = next(_ids)
    return known


def last_id(request: web.BaseRequest) -> str:
    """Return the name of a request that is being answered: it is not needed again."""
    return request_id(request) if len(request) else next(_ids)


def _random_ids() -> Iterator[str]:
    while True:
        digits = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        for start in range(0, len(digits), 2 * _ID_BYTES):
            yield digits[start : start + 2 * _ID_BYTES]


_ids: Final = _random_ids()


_ENCODE = msgspec.json.Encoder().encode
_JSON = {"Content-Type": "application/json"}
_MEMOISED_LINES: Final = 4096
_MEMOISED_CHARS: Final = 256

# For answers that a browser may open as a page: values are their owners' pages, not the node's, and
# get no origin.
SANDBOX = {
    "Content-Security-Policy": "sandbox allow-downloads allow-forms allow-popups allow-scripts"
}

CLOSED_TO_PAGES: Final = web.RequestKey("closed_to_pages", bool)
"""Set where no page of another origin may read the answer, whatever `http.cors` says."""


class CommonHead:
    """The header lines of every answer, laid out once a second, and the memory of those that only
    some have."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Take the headers that are the same on every answer."""
        own = (TRACE_HEADER, "Date", "Connection", "Content-Length", "Transfer-Encoding")
        self._names = frozenset(name.lower() for name in (*headers, *own))
        self._fixed = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        self._lines, self._second = "", -1
        self._remembered = lru_cache(maxsize=_MEMOISED_LINES)(self._own_line)

    def lines(self) -> str:
        """Return the lines as they are now, each with its end."""
        now_s = int(time.time())
        if now_s != self._second:
            self._lines, self._second = (
                f"Date: {formatdate(now_s, usegmt=True)}\r\n{self._fixed}",
                now_s,
            )
        return self._lines

    def own_lines(self, headers: Mapping[str, str]) -> str | None:
        """Return the lines of headers that one answer has, each with its end.

        None: one of them is in every answer too, or the framework decides on it, or it is not
        printable ASCII.
        """
        lines = ""
        for name, value in headers.items():
            is_short = len(name) + len(value) <= _MEMOISED_CHARS
            line = self._remembered(name, value) if is_short else self._own_line(name, value)
            if line is None:
                return None
            lines += line
        return lines

    def _own_line(self, name: str, value: str) -> str | None:
        line = f"{name}: {value}"
        # nothing in it ends a line
        if name.lower() in self._names or not (line.isascii() and line.isprintable()):
            return None
        return f"{line}\r\n"


def is_typed(headers: Mapping[str, str]) -> bool:
    """Whether some headers name a content type."""
    return any(name.lower() == CONTENT_TYPE for name in headers)


COMMON_HEAD: web.AppKey[CommonHead] = web.AppKey("common_head", CommonHead)


class WholeAnswer(web.Response):
    """An answer that is held whole, without a content type unless its headers name one (J7).

    Nearly every answer, a 200 on a kept HTTP/1.1 connection, is sent as one `piece` of bytes: the
    framework merges, checks and writes headers one by one, which costs more than to judge a chain.
    Everything else (HEAD, HTTP/1.0, a connection to be closed, another status, a header that is not
    printable ASCII) is left to the framework.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        """Take what is to be sent; the framework's part is made in `prepare`, where it is needed at
        all."""
        self._status = status
        self.whole = body
        self.given = headers

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Hand the answer to the framework."""
        super().__init__(status=self._status, body=self.whole, headers=self.given)
        return await super().prepare(request)

    def piece(self, request: web.BaseRequest, common: CommonHead) -> bytes | None:
        """Return status line, headers and body as they are sent; None where the framework has to
        lay them out.

        A caller that takes the piece sends it, and does not call `prepare`.
        """
        if self._status != 200 or request.version != HttpVersion11 or request.method == "HEAD":
            return None
        # the common head lets pages read the answer
        if len(request) and CLOSED_TO_PAGES in request:
            return None
        own = common.own_lines(self.given)
        if own is None or not request.keep_alive:
            return None
        self._keep_alive = True
        head = (
            f"HTTP/1.1 200 OK\r\n{own}Content-Length: {len(self.whole)}\r\n{common.lines()}"
            f"{TRACE_HEADER}: {last_id(request)}\r\n\r\n"
        )
        return head.encode("ascii") + self.whole


class PageAnswer(WholeAnswer):
    """A file of a page of the node's own: its headers win over those that every answer has
    (CN1)."""


class UntypedStream(web.StreamResponse):
    """An answer sent piece by piece, on purpose without a content type: a value that was stored
    without one (J7)."""


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a value as JSON (H3).

    Args:
        value: anything that msgspec encodes: structs, dataclasses, dicts, lists and scalars.
        status: HTTP status.
        headers: more headers.
    """
    return WholeAnswer(_ENCODE(value), _JSON if headers is None else {**headers, **_JSON}, status)


def text_answer(
    text: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return text as the whole body, `text/plain; charset=utf-8` (H1)."""
    return web.Response(status=status, text=text, headers=headers)


def empty_answer(status: int = 200) -> web.Response:
    """Return an answer without body or content type (H3)."""
    return WholeAnswer(b"", {}, status)


_LEAST_WRITE_BYTES: Final = 64 * 1024
_WHOLE: Final = slice(None)


async def value_answer(
    request: web.Request,
    body: bytes | OpenedBody,
    headers: Mapping[str, str],
    *,
    status: int = 200,
    part: slice = _WHOLE,
) -> web.StreamResponse:
    """Answer with a body, which is closed afterwards, and no content type unless the headers name
    one (J7).

    Args:
        request: what is answered; of a HEAD the body is left out.
        body: see `Values.open_body`.
        headers: of the answer.
        status: HTTP status.
        part: the bytes to be sent, all by default.
    Raises:
        RecordDamaged, StoreUnavailable: before the answer has begun.
        ConnectionError: afterwards; the connection is closed.
    """
    if isinstance(body, bytes):
        return WholeAnswer(body[part], headers, status)
    async with body:
        wanted = range(body.size_bytes)[part]
        pieces = body.pieces(wanted.start, wanted.stop)
        if len(wanted) <= PIECE_BYTES and request.method != "HEAD":
            return WholeAnswer(await _joined(pieces), headers, status)
        return await stream_answer(request, pieces, headers, size_bytes=len(wanted), status=status)


async def batch_read_answer(
    request: web.Request, services: Services, found: BatchFound
) -> web.StreamResponse:
    """Answer a batch read with `{"results":[…]}`, values in base64 (wire §4.4.7).

    Values are read while they are sent, one after another, so that none is held whole; a file that
    is unlinked meanwhile is kept for an hour.
    """
    pieces = _batch_pieces(services, found)
    if (
        found.bodies
        and sum([head.size_bytes for _, head in found.items if head is not None]) > PIECE_BYTES
    ):
        return await stream_answer(request, _gathered(pieces), _JSON)
    return WholeAnswer(await _joined(pieces), _JSON)


async def stream_answer(
    request: web.Request,
    pieces: AsyncIterator[Piece],
    headers: Mapping[str, str],
    *,
    size_bytes: int | None = None,
    status: int = 200,
) -> web.StreamResponse:
    """Send an answer piece by piece, as fast as the client takes it."""
    answer = (web.StreamResponse if is_typed(headers) else UntypedStream)(
        status=status, headers=headers
    )
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


async def _batch_pieces(services: Services, found: BatchFound) -> AsyncIterator[bytes]:
    start = b'{"results":['
    for path, head in found.items:
        key = _ENCODE(path)
        if head is None:
            error = {"code": "KV_NOT_FOUND", "message": f"Key not found: {path}"}
            yield b'%b{"key":%b,"ok":false,"error":%b}' % (start, key, _ENCODE(error))
        else:
            yield b'%b{"key":%b,"ok":true' % (start, key)
            if found.bodies:
                yield b',"dataBase64":"'
                async for piece in _base64_pieces(await services.values.open_body(head)):
                    yield piece
                yield b'"'
            yield b',"headers":%b}' % _ENCODE(_item_headers(head, bodies=found.bodies))
        start = b","
    yield b"]}"


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
    """The headers of a value as a batch read shows them: sorted, with the size where there is a
    value.

    JSON holds a value whose bytes are not UTF-8 with these replaced.
    """
    shown = {"etag": head.etag_header}
    if bodies:
        shown["content-length"] = str(head.size_bytes)
    for name, value in head.metadata.items():
        is_text = value.isascii()
        shown[name] = (
            value
            if is_text
            else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
    return dict(sorted(shown.items()))
