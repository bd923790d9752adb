"""The header lines of answers that the node sends without the framework."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import web

from .request_ids import TRACE_HEADER

_MEMOISED_LINES = 4096
_MEMOISED_CHARS = 256


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
            # Only short lines are kept, so that the size of the cache is limited.
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


COMMON_HEAD = web.AppKey("common_head", CommonHead)
