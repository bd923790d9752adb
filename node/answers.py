"""Answers that routes give: text, JSON, bytes without a type, nothing.

Example:
    return json_answer({"revoked": True, "cid": echo})
    raise WireText(404, "Space not found")
"""

from collections.abc import Mapping

import msgspec
from aiohttp import web

_ENCODE = msgspec.json.Encoder().encode
_JSON = {"Content-Type": "application/json"}

# Of answers that a browser may open as a page: values are their owners' pages, not the node's, and get no origin.
SANDBOX = {"Content-Security-Policy": "sandbox allow-downloads allow-forms allow-popups allow-scripts"}


class WireText(Exception):
    """Ends a request with this text as the whole body, `text/plain; charset=utf-8` (H1).

    Attributes:
        status: HTTP status.
        text: the body; never holds a token or a secret.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers


class UntypedResponse(web.Response):
    """An answer with a body but, on purpose, no content type: a value that was stored without one (J7)."""


class UntypedStream(web.StreamResponse):
    """The same, sent piece by piece."""


def json_answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a value as JSON (H3).

    Args:
        value: anything that msgspec encodes: structs, dataclasses, dicts, lists and scalars.
        status: HTTP status.
        headers: more headers.
    """
    return web.Response(status=status, body=_ENCODE(value), headers=_JSON if headers is None else {**headers, **_JSON})


def text_answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return text as the whole body, `text/plain; charset=utf-8` (H1)."""
    return web.Response(status=status, text=text, headers=headers)


def bytes_answer(body: bytes, *, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """Return bytes with the headers given and no content type unless they name one (J7)."""
    if any(name.lower() == "content-type" for name in headers):
        return web.Response(status=status, body=body, headers=headers)
    return UntypedResponse(status=status, body=body, headers=headers)


def empty_answer(status: int = 200) -> web.Response:
    """Return an answer without body or content type (H3)."""
    return web.Response(status=status)
