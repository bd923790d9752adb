"""An optional log with one line per HTTP request.

The operator enables the log by `log.requests`.

Lines are for counting and for finding a request again. They must not enable a reader to repeat a
request: they contain no token, key, value, query, header or body. The route is logged by its
template. Its path and the client's address are keyed hashes, or plain text in mode `plain`. A path
that matched no route, or that is a credential, is always a hash.

The key of the hashes is derived from the root secret. Equal paths have equal hashes on every worker
and machine and across restarts, but a reader without that secret cannot test guesses.
"""

import time
from contextlib import suppress
from dataclasses import field

from aiohttp import web
from blake3 import blake3

from capabilities.frozen import frozen
from capabilities.limits import parsed_address
from encryption_network.keyring import REQUEST_LOG as KEY_CONTEXT
from encryption_network.keyring import Keyring

from ...config.tree import Config
from ...counts import Operation
from ...logs import log_event
from ...rates import counted_as
from ...services import SERVICES
from .http_answers import WholeAnswer
from .http_requests import client_address
from .request_ids import request_id

_HASH_BYTES = 12
_MAX_PATH_CHARS = 1024  # any client may send a target of up to 65,534 bytes
# Any other method is text chosen by the caller, and is not logged.
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
)


@frozen
class RequestLog:
    """The request log of one worker process.

    A log line that cannot be written does not fail the request.

    Attributes:
        key: Key of the hashes, 32 bytes.
        is_plain: Whether paths and addresses are logged in plain text.
    """

    key: bytes = field(repr=False)
    is_plain: bool

    def answered(
        self,
        request: web.Request,
        *,
        template: str,
        response: web.StreamResponse | None,
        began_ns: int,
        operation: Operation = "other",
        code: str | None = None,
        is_path_shown: bool = False,
    ) -> None:
        """Log a request that matched a route."""
        took_ns = time.perf_counter_ns() - began_ns
        path = request.rel_url.raw_path
        with suppress(Exception):  # a failed log line must not fail an answered request
            if self.is_plain and is_path_shown:
                logged_path = path[:_MAX_PATH_CHARS]
            else:
                logged_path = self._hashed(path)
            log_event(
                "request",
                request_id=request_id(request),
                method=request.method if request.method in _METHODS else "other",
                route=template,
                path=logged_path,
                operation=operation,
                status=None if response is None else response.status,
                code=code,
                duration_ms=round(took_ns / 1e6, 3),
                request_bytes=request.content.total_bytes,
                response_bytes=None if response is None else _body_bytes(request, response),
                client=self._client(client_address(request, request.app[SERVICES].config.http)),
            )

    def unrouted(self, status: int, peer: str | None) -> None:
        """Log a request that was refused before a route handler ran."""
        with suppress(Exception):
            log_event("request", route=None, status=status, client=self._client(peer))

    def _client(self, client: str | None) -> str | None:
        """Return the client's address as it appears in the log.

        This is the IP address in `plain` mode, otherwise a keyed hash of it.
        """
        if client is None:
            return None
        name = counted_as(client)
        # A proxy's header may contain any text; only an address is logged in plain text.
        if self.is_plain and parsed_address(client):
            return name
        return self._hashed(name)

    def _hashed(self, text: str) -> str:
        return blake3(text.encode("utf-8", "surrogatepass"), key=self.key).hexdigest(_HASH_BYTES)


REQUEST_LOG = web.AppKey("request_log", RequestLog)


def request_log(config: Config, keyring: Keyring) -> RequestLog | None:
    """Return the request log, or None if the log is disabled."""
    if config.log.requests == "off":
        return None
    return RequestLog(keyring.derive(KEY_CONTEXT), is_plain=config.log.requests == "plain")


def _body_bytes(request: web.Request, response: web.StreamResponse) -> int:
    if request.method == "HEAD":
        return 0
    if isinstance(response, WholeAnswer):
        return len(response.whole)
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes) else 0
    return response.body_length if response.content_length is None else response.content_length
