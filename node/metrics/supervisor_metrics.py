"""The supervisor's metrics, and the listener that serves all metrics.

A thread of the supervisor answers `GET /metrics` on an address of its own. It does not depend on
the workers, so metrics are available while workers hang or have ended. Scrapes are answered one at
a time, with a time limit and a size limit for the request, and each connection is closed
afterwards.

A web page must not read metrics through a name that resolves to this address (DNS rebinding).
Therefore `Host` has to be an IP address, `localhost`, or the host named in the settings.
"""

import os
import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from tempfile import mkdtemp

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from capabilities.limits import parsed_address
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import bind_socket, url_of

from ..config.tree import Config
from ..logs import describe, log_event, log_warning
from .series import SUPERVISOR, ProcessMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
# In memory, so that metrics cost no disk writes and a full disk does not kill a process that writes
# to a mapped file.
MEMORY = "/dev/shm"  # noqa: S108  # the folder in it is new, and has mode 0700
MAX_HEAD_BYTES = 8192
DEADLINE_S = 2.0
_REQUEST = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>[^ \r\n]+)"
    rb" HTTP/1\.[01]\r\n(?P<headers>([!#-'*+.0-9A-Z^-z|~-]+:[^\r\n]*\r\n)*)\r\n"
)
_HOST = re.compile(rb"^host:(.*)\r$", re.MULTILINE | re.IGNORECASE)
_NAME = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")


class SupervisorMetrics(ProcessMetrics):
    """The metrics of the supervisor process, and the HTTP endpoint for all metrics."""

    def __init__(self, config: Config, processes: Sequence[str]) -> None:
        """Bind the metrics address, and create a private folder for the metric files."""
        host, port = config.metrics.address
        self._bound = bind_socket(host, port, hint="set metrics.listen to another address or port")
        self._scraping = Scraping(self._bound, host, self.text)
        parent = MEMORY if os.access(MEMORY, os.W_OK) else None  # None: the usual temporary folder
        try:
            self.folder = mkdtemp(prefix="sealspace-metrics-", dir=parent)
        except OSError as error:
            self._scraping.stop()
            raise ConfigurationError(
                f"cannot make a folder for metrics: {error.strerror}",
                hint="set TMPDIR to a writable folder",
            ) from None
        super().__init__(self.folder, SUPERVISOR, processes=(SUPERVISOR, *processes))
        self._data = config.data
        if not config.is_shared:
            self.cells["sealspace_store_limit_bytes",].set(config.store.max_bytes)

    def start(self) -> None:
        """Start answering scrapes."""
        self._scraping.start()
        log_event("metrics-listening", url=f"{url_of(self._bound)}{PATH}")

    def stop(self) -> None:
        """Stop answering scrapes, and remove the folder of metric files."""
        self._scraping.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ended(self, process: str) -> None:
        """Reset an ended process's gauges, and increment its restart counter."""
        mark_process_dead(process, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        self.cells["sealspace_process_restarts_total", process].inc()

    def text(self) -> bytes:
        """Return the current metrics of all processes in Prometheus text format."""
        self.sample()
        with suppress(OSError):  # the data folder does not exist before the first start
            self.cells["sealspace_disk_free_bytes",].set(shutil.disk_usage(self._data).free)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        for _ in range(20):
            # A starting process may have created a file without its first bytes: try again.
            with suppress(struct.error):
                return generate_latest(registry)
            time.sleep(0.05)
        return generate_latest(registry)  # the last try, whose error counts


@dataclass(eq=False, repr=False)
class Scraping:
    """A thread that answers Prometheus scrapes on a bound socket."""

    bound: socket.socket
    host: str
    text: Callable[[], bytes]
    deadline_s: float = DEADLINE_S
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
                    status = _status_of(_read_head(client, self.deadline_s), self.host.lower())
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
                log_warning("scrape-failed", **describe(error))


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
    # DNS rebinding: a page's own name may resolve to this address, so no other name is allowed.
    named = _NAME.fullmatch(hosts[0].decode("latin-1").strip())
    name = "" if named is None else (named["ipv6"] or named["name"]).lower()
    if name not in ("localhost", host) and parsed_address(name) is None:
        return HTTPStatus.FORBIDDEN
    path, _, _query = request["path"].partition(b"?")
    if path != PATH.encode():
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK
