"""Answers whose whole body is in memory."""

from collections.abc import Mapping

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from .common_head import CommonHead
from .request_ids import TRACE_HEADER, new_request_id, request_id

CONTENT_TYPE = "content-type"
JSON_HEADERS = {"Content-Type": "application/json"}

encode_json = msgspec.json.Encoder().encode

CLOSED_TO_PAGES = web.RequestKey("closed_to_pages", bool)
"""Set if pages of other origins must not read the answer, whatever `http.cors` says."""


def is_typed(headers: Mapping[str, str]) -> bool:
    """Return whether the headers include `Content-Type`."""
    return any(name.lower() == CONTENT_TYPE for name in headers)


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
        if self._status != 200 or not _takes_bytes(request):
            return None
        own = common.own_lines(self.given)
        if own is None:
            return None
        self._keep_alive = True  # aiohttp reads this after the answer to keep the connection
        # In a request without notes nothing reads the id later, so a new id is not stored.
        trace_id = request_id(request) if len(request) > 0 else new_request_id()
        head = (
            f"HTTP/1.1 200 OK\r\n{own}Content-Length: {len(self.whole)}\r\n{common.lines()}"
            f"{TRACE_HEADER}: {trace_id}\r\n\r\n"
        )
        return head.encode("ascii") + self.whole


def _takes_bytes(request: web.BaseRequest) -> bool:
    """Return whether a request can be answered without aiohttp."""
    if request.version != HttpVersion11 or request.method == "HEAD" or not request.keep_alive:
        return False
    # The common headers would let pages of other origins read the answer.
    return len(request) == 0 or CLOSED_TO_PAGES not in request


class PageAnswer(WholeAnswer):
    """A response with a file of the web console.

    Its headers override the common headers (CN1).
    """


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON response (H3)."""
    all_headers = JSON_HEADERS if headers is None else {**headers, **JSON_HEADERS}
    return WholeAnswer(encode_json(value), all_headers, status)


def text_answer(
    text: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a plain text response (H1)."""
    return web.Response(status=status, text=text, headers=headers)


def empty_answer(status: int = 200) -> web.Response:
    """Return a response without a body or content type (H3)."""
    return WholeAnswer(b"", {}, status)
