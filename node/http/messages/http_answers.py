"""Construction of HTTP responses.

A small value is sent in one write. A large one is streamed from its file, 256 KiB at a time and as
fast as the client reads. The last piece is sent only if the whole value matches its digest, so a
client never takes a damaged file for a complete value.
"""

import os
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from spaces.values.object_store import PIECE_BYTES, OpenedBody, Piece
from spaces.values.value_heads import Head
from tee_backend.listener import in_large_pieces

from ...logs import log_failure
from ...operations.values.kv_batch import BatchFound
from ...services import Services

OPAQUE = "application/octet-stream"
CONTENT_TYPE = "content-type"

_TEXTS = frozenset({"application/json", "text/csv", "text/markdown", "text/plain"})
_OTHERS = frozenset(
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
# The only parameter allowed on text types: in another encoding, a browser may find markup in text
# that contains none.
_ENCODINGS = frozenset({"charset=utf-8", 'charset="utf-8"', "charset=us-ascii"})


def shown_type(stored: str | None) -> str:
    """Return a content type that is safe to open in a browser.

    Values of `/public` and `/signed` come from their owners but are served from the node's origin.
    Types that a browser executes (HTML, SVG and other XML, PDF, scripts, style sheets), that
    replace the page (`multipart/x-mixed-replace`), or that are unknown here are served as bytes.
    `/invoke` does not use this function: a browser does not open it, and clients parse what they
    stored.
    """
    if stored is None or not stored.isascii():
        return OPAQUE
    name, separator, parameter = stored.lower().partition(";")
    name = name.strip(" \t")
    is_allowed = name in _TEXTS or (name in _OTHERS and not separator)
    if is_allowed and (not separator or parameter.strip(" \t") in _ENCODINGS):
        return stored
    return OPAQUE


_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parse_range(header: str | None, *, size_bytes: int) -> range | None:
    """Parse the byte range in a `Range` header (RFC 9110 §14).

    None means the whole value. An empty range means that the request cannot be satisfied. Only a
    single range is served; a header that is malformed or asks for several ranges is ignored.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first_digits, last_digits = match.groups()
    whole = range(size_bytes)
    if not first_digits:
        suffix_bytes = int(last_digits or "0")
        if suffix_bytes == 0:  # no number at all, or the last 0 bytes
            return None
        return whole[-suffix_bytes:]
    first = int(first_digits)
    if not last_digits:
        return whole[first:]
    last = int(last_digits)
    if first > last:
        return None
    return whole[first : last + 1]


TRACE_HEADER = "TinyCloud-Trace-Id"

_KEY = web.RequestKey("request_id", str)
_ID_BYTES = 16
_ID_DIGITS = 2 * _ID_BYTES
_IDS_AT_ONCE = 256  # one system call for each id would be its main cost


def _random_ids() -> Iterator[str]:
    """Yield random ids of 32 hexadecimal digits, without end."""
    while True:
        digits = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        for start in range(0, len(digits), _ID_DIGITS):
            yield digits[start : start + _ID_DIGITS]


_ids = _random_ids()


def request_id(request: web.BaseRequest) -> str:
    """Return the id of a request.

    The first call assigns the id. The trace header, problem documents and the log use the same id:
    32 random hexadecimal digits. A counter would tell clients how many requests others make.
    """
    known = request.get(_KEY) if len(request) else None  # a miss costs an exception inside get()
    if known is None:
        known = request[_KEY] = next(_ids)
    return known


_ENCODE = msgspec.json.Encoder().encode
_JSON = {"Content-Type": "application/json"}
_MEMOISED_LINES = 4096
_MEMOISED_CHARS = 256

# For answers that a browser may open as a page. Without the node's origin, a page that an owner
# stored cannot act as the node.
SANDBOX = {
    "Content-Security-Policy": "sandbox allow-downloads allow-forms allow-popups allow-scripts"
}

CLOSED_TO_PAGES = web.RequestKey("closed_to_pages", bool)
"""Set if pages of other origins must not read the answer, whatever `http.cors` says."""


class CommonHead:
    """A formatter of HTTP response headers, with a cache."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Store the headers that every response has."""
        self._names = frozenset(
            name.lower()
            for name in (
                *headers,
                TRACE_HEADER,
                "Date",
                "Connection",
                "Content-Length",
                "Transfer-Encoding",
            )
        )
        self._fixed = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        self._lines = ""
        self._second = -1
        self._remembered = lru_cache(maxsize=_MEMOISED_LINES)(self._own_line)

    def lines(self) -> str:
        """Return the common header lines with the current `Date`.

        Each line ends in CRLF.
        """
        now_s = int(time.time())
        if now_s != self._second:
            self._lines = f"Date: {formatdate(now_s, usegmt=True)}\r\n{self._fixed}"
            self._second = now_s
        return self._lines

    def own_lines(self, headers: Mapping[str, str]) -> str | None:
        """Return the header lines specific to one response.

        Each line ends in CRLF.

        None means that a header is common to all responses, is set by the framework, or is not
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
        # Header injection: a line end in a value must not start another header.
        if name.lower() in self._names or not (line.isascii() and line.isprintable()):
            return None
        return f"{line}\r\n"


def is_typed(headers: Mapping[str, str]) -> bool:
    """Return whether the headers include `Content-Type`."""
    return any(name.lower() == CONTENT_TYPE for name in headers)


COMMON_HEAD = web.AppKey("common_head", CommonHead)


class WholeAnswer(web.Response):
    """A response whose whole body is in memory.

    It has no content type unless its headers set one (J7).

    Nearly every answer is a 200 on a persistent HTTP/1.1 connection and is sent as one `piece` of
    bytes. The framework would merge, check and write headers one by one, which takes longer than
    checking a delegation chain. All other answers are left to the framework.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        """Store the status, headers and body.

        `prepare` initialises the aiohttp base class.
        """
        self._status = status
        self.whole = body
        self.given = headers

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Initialise the aiohttp base class, and send the response headers."""
        super().__init__(status=self._status, body=self.whole, headers=self.given)
        return await super().prepare(request)

    def piece(self, request: web.BaseRequest, common: CommonHead) -> bytes | None:
        """Return the response as bytes, or None if aiohttp has to send the response.

        A caller that gets the bytes sends them and does not call `prepare`.
        """
        if self._status != 200 or request.version != HttpVersion11 or request.method == "HEAD":
            return None
        # The common headers would let pages of other origins read the answer.
        if len(request) and CLOSED_TO_PAGES in request:
            return None
        own = common.own_lines(self.given)
        if own is None or not request.keep_alive:
            return None
        self._keep_alive = True
        # Nothing reads the id later, so a new id is not stored if nothing else is.
        trace_id = request_id(request) if len(request) else next(_ids)
        head = (
            f"HTTP/1.1 200 OK\r\n{own}Content-Length: {len(self.whole)}\r\n{common.lines()}"
            f"{TRACE_HEADER}: {trace_id}\r\n\r\n"
        )
        return head.encode("ascii") + self.whole


class PageAnswer(WholeAnswer):
    """A response with a file of the web console.

    Its headers override the common headers (CN1).
    """


class UntypedStream(web.StreamResponse):
    """A streamed response without a content type (J7).

    It sends a value that was stored without a content type.
    """


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON response (H3)."""
    return WholeAnswer(_ENCODE(value), _JSON if headers is None else {**headers, **_JSON}, status)


def text_answer(
    text: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a plain text response (H1)."""
    return web.Response(status=status, text=text, headers=headers)


def empty_answer(status: int = 200) -> web.Response:
    """Return a response without a body or content type (H3)."""
    return WholeAnswer(b"", {}, status)


_MIN_WRITE_BYTES = 64 * 1024
_WHOLE = slice(None)


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
        wanted = range(body.size_bytes)[part]
        pieces = body.pieces(wanted.start, wanted.stop)
        if len(wanted) <= PIECE_BYTES and request.method != "HEAD":
            return WholeAnswer(await _joined(pieces), headers, status)
        return await stream_answer(request, pieces, headers, size_bytes=len(wanted), status=status)


async def batch_read_answer(
    request: web.Request, services: Services, found: BatchFound
) -> web.StreamResponse:
    """Send several values in one JSON response (wire §4.4.7).

    The body is `{"results":[…]}`, with base64-encoded values.

    Values are read one after another while they are sent, so memory never contains all of them. A
    file that is removed in between stays readable for an hour.
    """
    pieces = _batch_pieces(services, found)
    found_bytes = sum([head.size_bytes for _, head in found.items if head is not None])
    if found.bodies and found_bytes > PIECE_BYTES:
        return await stream_answer(request, _merged(pieces), _JSON)
    return WholeAnswer(await _joined(pieces), _JSON)


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
    except ConnectionError:
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
    buffer = list[bytes]()
    buffered_bytes = 0
    async for piece in pieces:
        buffer.append(piece)
        buffered_bytes += len(piece)
        if buffered_bytes >= _MIN_WRITE_BYTES:
            yield b"".join(buffer)
            buffer, buffered_bytes = [], 0
    yield b"".join(buffer)


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
        rest = b""
        async for piece in body.pieces():
            rest += piece
            whole = len(rest) - len(rest) % 3  # only a multiple of three bytes has no padding
            yield b64encode(rest[:whole])
            rest = rest[whole:]
        yield b64encode(rest)


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
