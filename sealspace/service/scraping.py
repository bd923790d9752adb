"""The listener of an address that serves metrics to Prometheus, for a node and a runner.

A thread answers `GET /metrics`, so metrics are available while the rest of the process is busy.
Scrapes are answered one at a time, with a time limit and a size limit for the request, and each
connection is closed afterwards.

`Host` has to be an IP address, `localhost`, or the host named in the settings (`host_names`).

Example:
    scraping = Scraping(bound, "127.0.0.1", text)
    scraping.start()
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from .host_names import names_no_web_page

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
MAX_HEAD_BYTES = 8192
DEADLINE_S = 2.0
_REQUEST = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>[^ \r\n]+)"
    rb" HTTP/1\.[01]\r\n(?P<headers>([!#-'*+.0-9A-Z^-z|~-]+:[^\r\n]*\r\n)*)\r\n"
)
_HOST = re.compile(rb"^host:(.*)\r$", re.MULTILINE | re.IGNORECASE)
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")


@dataclass(eq=False, repr=False)
class Scraping:
    """A thread that answers Prometheus scrapes on a bound socket."""

    bound: socket.socket
    host: str
    text: Callable[[], bytes]
    deadline_s: float = DEADLINE_S
    on_error: Callable[[Exception], object] = bool  # reports nothing
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Listen on the socket and start the thread."""
        self.bound.listen()
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop answering scrapes.

        A scrape in progress may be cut off.
        """
        self.stopped.set()
        with suppress(OSError):
            self.bound.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(); close() would not
        self.bound.close()

    def _serve(self) -> None:
        """Answer one client after the other, until `stop` is called."""
        while not self.stopped.is_set():
            try:
                client, _ = self.bound.accept()
            except OSError:
                # `stop` has closed the socket; then this wait ends at once. Or descriptors or
                # memory ran out; then the pause prevents a busy loop.
                self.stopped.wait(self.deadline_s)
                continue
            try:
                with client:
                    status = _status_of(_read_head(client, self.deadline_s), self.host)
                    body = self.text() if status == HTTPStatus.OK else b""
                    head = (
                        f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {CONTENT_TYPE}\r\n"
                        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    )
                    client.settimeout(self.deadline_s)
                    client.sendall(head.encode() + body)
            except OSError:  # the client disconnected or is too slow
                pass
            except Exception as error:  # one failed scrape must not end the thread
                self.on_error(error)


def _read_head(client: socket.socket, within_s: float) -> bytes:
    """Read the head of an HTTP request.

    Raises:
        OSError: the head is malformed, too long or too slow.
    """
    deadline = time.monotonic() + within_s
    head = b""
    while b"\r\n\r\n" not in head:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("reading the request head timed out")
        client.settimeout(left_s)
        piece = client.recv(MAX_HEAD_BYTES - len(head))
        if not piece:  # the client has sent its last byte, or as many bytes as a head may have
            raise ConnectionError("the request head is too long or incomplete")
        head += piece
    if _BARE_LINE_END.search(head) is not None:
        raise ConnectionError("a line of the request head does not end with CRLF")
    return head


def _status_of(head: bytes, host: str) -> HTTPStatus:
    """Return the HTTP status for a request.

    Only `GET /metrics` with an allowed host returns 200.
    """
    request = _REQUEST.match(head)
    if request is None:
        return HTTPStatus.BAD_REQUEST
    hosts = _HOST.findall(request["headers"])
    if len(hosts) != 1:
        return HTTPStatus.BAD_REQUEST
    if request["method"] != b"GET":
        return HTTPStatus.NOT_IMPLEMENTED
    if not names_no_web_page(hosts[0].decode("latin-1"), own=host):
        return HTTPStatus.FORBIDDEN
    path, _, _query = request["path"].partition(b"?")
    if path != PATH.encode():
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK
