"""A name for every request, the same in the answer's trace header, in problem+json and in the log.

It is not a secret: eight random bytes of the process, then a count, as 32 hexadecimal digits.
"""

import itertools
import secrets

from aiohttp import web

TRACE_HEADER = "TinyCloud-Trace-Id"

_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
_PROCESS = secrets.token_hex(8)
_count = itertools.count(1)


def request_id(request: web.BaseRequest) -> str:
    """Return the name of this request; the first call gives it one."""
    known = request.get(_KEY) if len(request) else None  # asking in vain costs an exception
    if known is None:
        known = request[_KEY] = _new_id()
    return known


def last_id(request: web.BaseRequest) -> str:
    """Return the name of a request that is being answered: nobody will ask for it again."""
    return request_id(request) if len(request) else _new_id()


def _new_id() -> str:
    return _PROCESS + next(_count).to_bytes(8, "big").hex()
