"""A streaming parser of `multipart/form-data` (RFC 7578, RFC 2046, wire §4.4.6).

It is our own because clients parse the texts of its refusals, and because it is stricter than
libraries: no preamble, no folded or malformed headers, and limits on everything in memory. A part
is read piece by piece and is never in memory as a whole.

    --boundary CRLF (header CRLF)* CRLF bytes CRLF --boundary CRLF … CRLF --boundary--

Bytes after the last boundary are not read.
"""

import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from capabilities.frozen_struct import FrozenStruct

from ...refusal import Refusal

# A part's name is a path that also fits into a token's header line, here percent-encoded once more.
MAX_PART_HEADER_BYTES = 512 * 1024
MAX_PART_HEADER_LINES = 32
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = re.compile(rf"(?P<name>{_WORD}):[ \t]*(?P<value>[^\x00-\x08\x0a-\x1f\x7f]*)")
_PARAMETER = re.compile(
    rf';[ \t]*(?P<name>{_WORD})=("(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>{_WORD}))[ \t]*'
)
_ESCAPE = re.compile(r"\\(.)")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"


class MultipartPart(FrozenStruct):
    """One part of a multipart form."""

    name: str
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


def boundary_of(content_type: str) -> bytes:
    """Return the boundary parameter of a multipart content type."""
    boundary = _parameters(content_type).get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise Refusal("bad-option", "multipart boundary is missing or malformed")
    return boundary.encode("ascii")


def part_path(name: str) -> str:
    """Decode the name of a form part into a path.

    The name is percent-decoded once.
    """
    encoded_path = unquote_to_bytes(name.encode("utf-8", "surrogateescape"))
    try:
        return encoded_path.decode("utf-8")
    except UnicodeDecodeError as error:
        where = (
            f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
        )
        if error.reason == "unexpected end of data":
            where = f"incomplete utf-8 byte sequence from index {error.start}"
        raise Refusal(
            "bad-option", f"Multipart KV part name is not valid percent-encoded UTF-8: {where}"
        ) from None


async def multipart_parts(
    pieces: AsyncIterator[bytes], boundary: bytes
) -> AsyncIterator[MultipartPart]:
    """Yield the parts of a multipart body."""
    source = _Source(pieces, b"--" + boundary)
    if await source.take(len(source.delimiter)) != source.delimiter:
        raise _incomplete()
    # Each delimiter is followed by CRLF and a part, the last one by `--`.
    while (follows := await source.take(2)) == _CRLF:
        headers = _headers(await source.head())
        disposition = headers.pop("content-disposition", "")
        name = _parameters(disposition).get("name")
        if disposition.partition(";")[0].strip().lower() != "form-data" or name is None:
            raise Refusal("bad-option", "Multipart KV part is missing a field name")
        part = MultipartPart(name=name, headers=headers, pieces=source.part(name))
        yield part
        async for _ in part.pieces:  # skip what the caller did not read
            pass
    if follows != b"--":
        raise _incomplete()


class _Source(Struct):
    """A buffered stream of body chunks."""

    pieces: AsyncIterator[bytes]
    delimiter: bytes
    buffer: bytearray = bytearray()

    async def more(self) -> bool:
        """Read the next chunk of the body into the buffer.

        Return False at the end of the body.
        """
        async for piece in self.pieces:
            if piece:
                self.buffer += piece
                return True
        return False

    async def take(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes, or fewer at the end of the body."""
        while len(self.buffer) < size_bytes and await self.more():
            pass
        taken = bytes(self.buffer[:size_bytes])
        del self.buffer[:size_bytes]
        return taken

    async def head(self) -> bytes:
        """Return the header lines of a form part."""
        self.buffer[:0] = _CRLF  # so that an empty header block also ends with CRLF CRLF
        searched_bytes = 0
        while True:
            # The first bytes of the end may be among those that were searched already.
            end = self.buffer.find(_HEAD_END, max(searched_bytes - len(_HEAD_END), 0))
            if end >= 0:
                break
            searched_bytes = len(self.buffer)
            if searched_bytes > MAX_PART_HEADER_BYTES:
                raise Refusal(
                    "bad-option",
                    f"multipart headers of one part exceed {MAX_PART_HEADER_BYTES} bytes",
                )
            if not await self.more():
                raise _incomplete()
        block = await self.take(end + len(_HEAD_END))
        return block[len(_CRLF) : -len(_HEAD_END)]

    async def part(self, name: str) -> AsyncIterator[bytes]:
        """Yield the content of one form part in chunks."""
        end = _CRLF + self.delimiter
        while True:
            content_end = self.buffer.find(end)
            if content_end >= 0:
                break
            # The buffer may end with the first bytes of the delimiter, which stay in it.
            content_bytes = max(len(self.buffer) - len(end) + 1, 0)
            piece = await self.take(content_bytes)
            if piece:
                yield piece
            if not await self.more():
                raise Refusal("bad-option", f'field "{name}" received with incomplete data')
        piece = await self.take(content_end)
        await self.take(len(end))
        if piece:
            yield piece


def _incomplete() -> Refusal:
    return Refusal("bad-option", "incomplete multipart stream")


def _headers(head: bytes) -> dict[str, str]:
    """Parse the header lines of a part; the names in the result are in lower case."""
    # Bytes that are not UTF-8 become lone surrogates, as in the header lines of the request itself.
    lines = head.decode("utf-8", "surrogateescape").split("\r\n") if head else []
    if len(lines) > MAX_PART_HEADER_LINES:
        raise Refusal("bad-option", f"multipart part has more than {MAX_PART_HEADER_LINES} headers")
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise Refusal("bad-option", "multipart part has a malformed header")
        headers[match["name"].lower()] = match["value"].rstrip(" \t")
    return headers


def _parameters(value: str) -> dict[str, str]:
    """Return the parameters of a header value.

    The result is empty if any of them is malformed or repeated.
    """
    start = value.find(";")  # -1 if there are no parameters
    parameters: dict[str, str] = {}
    while 0 <= start < len(value):
        match = _PARAMETER.match(value, start)
        if match is None:
            return {}
        name = match["name"].lower()
        if name in parameters:
            return {}
        parameter = match["word"]
        if parameter is None:
            parameter = _ESCAPE.sub(r"\1", match["quoted"])
        parameters[name] = parameter
        start = match.end()
    return parameters
