"""Ids of requests, by which clients and operators find them in the log."""

import os
from collections.abc import Iterator

from aiohttp import web

TRACE_HEADER = "TinyCloud-Trace-Id"

_REQUEST_ID = web.RequestKey("request_id", str)
_ID_BYTES = 16
_ID_DIGITS = 2 * _ID_BYTES
_IDS_AT_ONCE = 256  # one system call for each id would be its main cost


def _random_ids() -> Iterator[str]:
    """Yield random ids of 32 hexadecimal digits, without end."""
    while True:
        digits = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        for start in range(0, len(digits), _ID_DIGITS):
            yield digits[start : start + _ID_DIGITS]


new_request_id = _random_ids().__next__
"""Return an id that no request has yet."""


def request_id(request: web.BaseRequest) -> str:
    """Return the id of a request.

    The first call assigns the id. The trace header, problem documents and the log use the same id:
    32 random hexadecimal digits. A counter would tell clients how many requests others make.
    """
    # In an empty request, `get` would raise an exception inside, which costs more than `len`.
    known = request.get(_REQUEST_ID) if len(request) else None
    if known is None:
        known = request[_REQUEST_ID] = new_request_id()
    return known
