"""The supervisor's part: the folder of numbers, and the listener for scrapes.

`GET /metrics` on an address of its own, answered by a thread of the supervisor. It depends on no worker: the numbers
are available while workers hang or have ended. One scrape is answered at a time, within a deadline and for a head of
bounded size, and its connection is closed.

A page in a browser cannot read it through a name that resolves to this address (DNS rebinding): the `Host` has to
be an address, `localhost`, or the host that the settings name.
"""

import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer
from tempfile import mkdtemp
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from sealspace.cli.errors import ConfigurationError
from sealspace.cli.listening_socket import bind_socket, url_of
from tee_backend.rates import parsed_address

from ..config.tree import Config
from ..logs import describe, log_event, log_warning
from .series import DISK_FREE_BYTES, RESTARTS, STORE_LIMIT_BYTES, SUPERVISOR, ProcessMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATH: Final = "/metrics"
MAX_HEAD_BYTES: Final = 8192
DEADLINE_S: Final = 2.0
_VERSIONS: Final = ("HTTP/1.0", "HTTP/1.1")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")
_BARE_LINE_END: Final = re.compile(rb"(?<!\r)\n")


class SupervisorMetrics(ProcessMetrics):
    """The numbers of a node, and the listener that serves them."""

    def __init__(self, config: Config, processes: Sequence[str]) -> None:
        """Bind the address, and make a new folder that only this user can open.

        Args:
            config: settings; `metrics.listen` is set.
            processes: names of the processes that the supervisor starts.

        Raises:
            ConfigurationError: the address is not available, or no folder can be made.
        """
        host, port = config.metrics.address
        self._bound = bind_socket(host, port, hint="choose another metrics.listen")
        self._scraping = Scraping(self._bound, host, self.text)
        try:
            self.folder = mkdtemp(prefix="sealspace-metrics-")
        except OSError as error:
            self._scraping.stop()
            raise ConfigurationError(
                f"cannot make a folder for metrics: {error.strerror}", hint="set TMPDIR to a folder that can be written"
            ) from None
        super().__init__(self.folder, SUPERVISOR, processes=(SUPERVISOR, *processes))
        self._data = config.data
        if config.store.url is None:
            self.cells[STORE_LIMIT_BYTES,].set(config.store.max_bytes)

    def start(self) -> None:
        """Start to answer scrapes."""
        self._scraping.start()
        log_event("metrics-listening", url=f"{url_of(self._bound)}{PATH}")

    def stop(self) -> None:
        """Stop answering scrapes, and remove the folder."""
        self._scraping.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ended(self, process: str) -> None:
        """Clear the gauges of a process that has ended and count its restart."""
        mark_process_dead(process, self.folder)  # type: ignore[no-untyped-call]
        self.cells[RESTARTS, process].inc()

    def text(self) -> bytes:
        """Return all current numbers as text."""
        self.sample()
        with suppress(OSError):  # the folder does not exist yet
            disk = os.statvfs(self._data)
            self.cells[DISK_FREE_BYTES,].set(disk.f_bavail * disk.f_frsize)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class Scraping(TCPServer):
    """Answers scrapes while it is running."""

    def __init__(
        self, bound: socket.socket, host: str, text: Callable[[], bytes], *, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare.

        Args:
            bound: a bound socket; this object closes it.
            host: the host that it was bound to.
            text: returns the text to serve.
            deadline_s: time limit for a request's head, and the same again for the answer.
        """
        super().__init__(bound.getsockname(), _Scrape, bind_and_activate=False)
        self.socket.close()  # TCPServer makes its own
        self.socket = bound
        self.host = host.lower()
        self.text = text
        self.deadline_s = deadline_s
        self._stopped = threading.Event()

    def start(self) -> None:
        """Listen."""
        self.server_activate()
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop answering; a scrape in progress may end without an answer."""
        self._stopped.set()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone does not
        self.server_close()

    def _serve(self) -> None:
        # Not `serve_forever`, which wakes up twice a second.
        while not self._stopped.is_set():
            with suppress(OSError, ValueError):  # the socket was closed
                self.handle_request()

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection; wait a little if no descriptors or no memory are available."""
        try:
            return super().get_request()
        except OSError:
            self._stopped.wait(self.deadline_s)
            raise

    def handle_error(self, request: object, client_address: object) -> None:
        """Continue after a scrape that failed: the next one may succeed."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):  # an OSError: the client disconnected, or is too slow
            log_warning("scrape-failed", **describe(error))


class _Scrape(BaseHTTPRequestHandler):
    """One connection, with one request."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # for a line without a version, which is refused with a whole answer
    server: Scraping

    def setup(self) -> None:
        super().setup()
        # The standard library limits neither the size of a head nor the time for it, so the head is read beforehand.
        self.rfile.close()
        self.rfile = BytesIO(_head_of(self.connection, self.server.deadline_s))
        self.connection.settimeout(self.server.deadline_s)

    def do_GET(self) -> None:
        """Answer with the numbers, or with a refusal."""
        hosts = self.headers.get_all("Host", [])
        is_whole = not self.headers.defects and not self.headers.get_payload()  # else lines were skipped
        if self.request_version not in _VERSIONS:
            self.request_version = self.default_request_version  # with another one the answer would have no head
            self.send_error(400)
        elif len(self.requestline.split(" ")) != 3 or not is_whole or len(hosts) != 1:
            self.send_error(400)
        elif not _leads_here(hosts[0], self.server.host):
            self.send_error(403)
        elif self.path.partition("?")[0] != PATH:
            self.send_error(404)
        else:
            self._answer(200, self.server.text())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send a refusal without the standard library's page, which repeats parts of the request."""
        self._answer(code, b"")

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing to standard error, which is reserved for the log."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _head_of(taken: socket.socket, within_s: float) -> bytes:
    """Read the head of a request; an OSError if it takes too long, is too long, or has no end."""
    deadline = time.monotonic() + within_s
    head = b""
    while b"\r\n\r\n" not in head:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise TimeoutError("the head takes too long")
        taken.settimeout(left_s)
        if not (piece := taken.recv(MAX_HEAD_BYTES - len(head))):
            raise ConnectionError("the head is too long or has no end")
        head += piece
    if _BARE_LINE_END.search(head) is not None:
        raise ConnectionError("a line of the head has no whole end")
    return head


def _leads_here(named: str, host: str) -> bool:
    """Whether a `Host` cannot be a name that another party's name server resolves to this address."""
    match = _HOST.fullmatch(named.strip())
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    return name in ("localhost", host) or parsed_address(name) is not None
