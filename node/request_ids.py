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
    known = request.get(_KEY)
    if known is None:
        known = request[_KEY] = f"{_PROCESS}{next(_count):016x}"
    return known
