"""The listener of an address that serves metrics to Prometheus, for a node and a runner.

A thread answers `GET /metrics`, so metrics are available while the rest of the process is busy.
Requests and answers have limits of time and size, and each connection is closed afterwards. The
thread waits for all its clients at once, so a client that sends or reads nothing delays no other.

`Host` has to be an IP address, `localhost`, or the host named in the settings (`host_names`).

Example:
    scraping = Scraping(bound, "127.0.0.1", text)
    scraping.start()
"""

import re
import selectors
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
MOST_CLIENTS = 32
"""Clients that are served at the same time. One more closes the connection of another one."""

_ACCEPT_RETRY_S = 0.5
_REQUEST = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>[^ \r\n]+)"
    rb" HTTP/1\.[01]\r\n(?P<headers>([!#-'*+.0-9A-Z^-z|~-]+:[^\r\n]*\r\n)*)\r\n"
)
_HOST = re.compile(rb"^host:(.*)\r$", re.MULTILINE | re.IGNORECASE)
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")


@dataclass(eq=False, repr=False)
class _Client:
    """A client whose request or answer is not complete.

    Attributes:
        connection: its socket, which does not block.
        ends_at: when it is disconnected, in seconds of the monotonic clock.
        head: the part of its request that arrived.
        unsent: the part of its answer that was not sent; None: the request is not complete.
    """

    connection: socket.socket
    ends_at: float
    head: bytes = b""
    unsent: memoryview | None = None


@dataclass(eq=False, repr=False)
class Scraping:
    """A thread that answers Prometheus scrapes on a bound socket."""

    bound: socket.socket
    host: str
    text: Callable[[], bytes]
    deadline_s: float = DEADLINE_S
    on_error: Callable[[Exception], object] = bool  # reports nothing
    _stopped: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread | None = field(init=False, default=None)
    _selector: selectors.BaseSelector = field(init=False, default_factory=selectors.DefaultSelector)
    _clients: list[_Client] = field(init=False, default_factory=list)  # the oldest first

    def start(self) -> None:
        """Listen on the socket and start the thread."""
        self.bound.listen()
        self.bound.setblocking(False)
        self._selector.register(self.bound, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering scrapes.

        A scrape in progress may be cut off.
        """
        self._stopped.set()
        if self._thread is None:
            self._close()
            return
        with suppress(OSError):
            self.bound.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closes the socket

    def _serve(self) -> None:
        """Answer clients until `stop` is called."""
        while not self._stopped.is_set():
            for ready, _ in self._selector.select(self._wait_s()):
                if ready.data is None:
                    self._accept()
                elif ready.data in self._clients:  # not closed for another one just now
                    self._advance(ready.data)
            now = time.monotonic()
            for client in [*self._clients]:
                if client.ends_at <= now:  # it is too slow
                    self._drop(client)
        self._close()

    def _close(self) -> None:
        """Close all sockets."""
        for client in [*self._clients]:
            self._drop(client)
        self._selector.close()
        self.bound.close()

    def _wait_s(self) -> float | None:
        """Return the seconds until a client is too slow; None without clients."""
        if not self._clients:
            return None
        first_end = min(client.ends_at for client in self._clients)
        return max(first_end - time.monotonic(), 0.0)

    def _accept(self) -> None:
        """Accept a client. Where they are too many, another one is disconnected."""
        try:
            connection, _ = self.bound.accept()
        except BlockingIOError:  # the client has disconnected
            return
        except OSError:
            # `stop` has shut the socket down; then this wait ends at once. Or descriptors or memory
            # ran out; then the pause prevents a busy loop.
            self._stopped.wait(_ACCEPT_RETRY_S)
            return
        connection.setblocking(False)
        client = _Client(connection, ends_at=time.monotonic() + self.deadline_s)
        # silent clients cannot use up the descriptors of the process, nor close out a scrape
        if len(self._clients) >= MOST_CLIENTS:
            self._drop(self._least_advanced())
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _least_advanced(self) -> _Client:
        """Return the oldest client without a complete request, or else the oldest one."""
        for client in self._clients:
            if client.unsent is None:
                return client
        return self._clients[0]

    def _advance(self, client: _Client) -> None:
        """Read a part of a request, or send a part of an answer."""
        try:
            if client.unsent is None:
                self._read(client)
            else:
                sent = client.connection.send(client.unsent)
                client.unsent = client.unsent[sent:]
            if client.unsent is not None and not client.unsent:
                self._drop(client)
        except BlockingIOError:
            pass
        except OSError:  # the client disconnected, or its request is not valid
            self._drop(client)
        except Exception as error:  # one failed scrape must not end the thread
            self._drop(client)
            self.on_error(error)

    def _read(self, client: _Client) -> None:
        """Read a part of a request; prepare the answer when it is complete.

        Raises:
            OSError: the head is malformed, too long or incomplete.
        """
        piece = client.connection.recv(MAX_HEAD_BYTES - len(client.head))
        client.head += piece
        is_complete = b"\r\n\r\n" in client.head
        is_too_long = len(client.head) >= MAX_HEAD_BYTES and not is_complete
        if not piece or is_too_long:
            raise ConnectionError("the request head is too long or incomplete")
        if not is_complete:
            return
        if _BARE_LINE_END.search(client.head) is not None:
            raise ConnectionError("a line of the request head does not end with CRLF")
        status = _status_of(client.head, self.host)
        body = self.text() if status == HTTPStatus.OK else b""
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        client.unsent = memoryview(head.encode() + body)
        client.ends_at = time.monotonic() + self.deadline_s
        self._selector.modify(client.connection, selectors.EVENT_WRITE, client)

    def _drop(self, client: _Client) -> None:
        """Close the connection of a client."""
        self._clients.remove(client)
        self._selector.unregister(client.connection)
        client.connection.close()


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
