"""A name for every request, the same in the answer's trace header, in problem+json and in the log.

It is random, 32 hexadecimal digits: a count would reveal to clients how many requests others make.
"""

import os
from collections.abc import Iterator
from typing import Final

from aiohttp import web

TRACE_HEADER = "TinyCloud-Trace-Id"

_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256  # asking the kernel for each costs more than all else that is done for it


def request_id(request: web.BaseRequest) -> str:
    """Return the name of this request; the first call gives it one."""
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
