"""Answers that routes give: text, JSON, bytes without a type, nothing."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from .request_ids import TRACE_HEADER, last_id

_ENCODE = msgspec.json.Encoder().encode
_JSON = {"Content-Type": "application/json"}
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_MEMOISED_LINES: Final = 4096
_MEMOISED_CHARS: Final = 256

# For answers that a browser may open as a page: values are their owners' pages, not the node's, and get no origin.
SANDBOX = {"Content-Security-Policy": "sandbox allow-downloads allow-forms allow-popups allow-scripts"}

CLOSED_TO_PAGES: Final = web.RequestKey("closed_to_pages", bool)
"""Set where no page of another origin may read the answer, whatever `http.cors` says."""


class CommonHead:
    """The header lines of every answer, laid out once a second, and the memory of those that only some have."""

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
            self._lines, self._second = f"Date: {formatdate(now_s, usegmt=True)}\r\n{self._fixed}", now_s
        return self._lines

    def own_lines(self, headers: Mapping[str, str]) -> str | None:
        """Return the lines of headers that one answer has, each with its end.

        None: one of them is in every answer too, or the framework decides on it, or it is not printable ASCII.
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
        if name.lower() in self._names or not (line.isascii() and line.isprintable()):  # nothing in it ends a line
            return None
        return f"{line}\r\n"


COMMON_HEAD: web.AppKey[CommonHead] = web.AppKey("common_head", CommonHead)


class WholeAnswer(web.Response):
    """An answer that is held whole, without a content type unless its headers name one (J7).

    Nearly every answer, a 200 on a kept HTTP/1.1 connection, is sent as one `piece` of bytes: the framework merges,
    checks and writes headers one by one, which costs more than to judge a chain. Everything else (HEAD, HTTP/1.0, a
    connection to be closed, another status, a header that is not printable ASCII) is left to the framework.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        """Take what is to be sent; the framework's part is made in `prepare`, where it is needed at all."""
        self._status = status
        self._whole = body
        self._given = headers

    @property
    def size_bytes(self) -> int:
        """Length of the body, before the framework's part is made too."""
        return len(self._whole)

    @property
    def is_untyped(self) -> bool:
        """Whether nothing names a content type."""
        return not any(name.lower() == "content-type" for name in self._given)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Hand the answer to the framework."""
        super().__init__(status=self._status, body=self._whole, headers=self._given)
        return await super().prepare(request)

    def piece(self, request: web.BaseRequest, common: CommonHead) -> bytes | None:
        """Return status line, headers and body as they are sent; None where the framework has to lay them out.

        A caller that takes the piece sends it, and does not call `prepare`.
        """
        if self._status != 200 or request.version != HttpVersion11 or request.method == "HEAD":
            return None
        if len(request) and CLOSED_TO_PAGES in request:  # the common head lets pages read the answer
            return None
        own = common.own_lines(self._given)
        if own is None or not request.keep_alive:
            return None
        self._keep_alive = True
        head = (
            f"HTTP/1.1 200 OK\r\n{own}Content-Length: {len(self._whole)}\r\n{common.lines()}"
            f"{TRACE_HEADER}: {last_id(request)}\r\n\r\n"
        )
        return head.encode("ascii") + self._whole


class PageAnswer(WholeAnswer):
    """A file of a page of the node's own: its headers win over those that every answer has (CN1)."""

    @property
    def own_headers(self) -> Mapping[str, str]:
        """Headers that are set last."""
        return self._given


class UntypedStream(web.StreamResponse):
    """An answer sent piece by piece, on purpose without a content type: a value that was stored without one (J7)."""


def json_answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a value as JSON (H3).

    Args:
        value: anything that msgspec encodes: structs, dataclasses, dicts, lists and scalars.
        status: HTTP status.
        headers: more headers.
    """
    return WholeAnswer(_ENCODE(value), _JSON if headers is None else {**headers, **_JSON}, status)


def text_answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return text as the whole body, `text/plain; charset=utf-8` (H1)."""
    return web.Response(status=status, text=text, headers=headers)


def bytes_answer(body: bytes, *, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """Return bytes with the headers given and no content type unless they name one (J7)."""
    return WholeAnswer(body, headers, status)


def empty_answer(status: int = 200) -> web.Response:
    """Return an answer without body or content type (H3)."""
    return WholeAnswer(b"", _NO_HEADERS, status)
