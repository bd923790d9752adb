"""The supervisor's part: the folder of numbers, and the listener for scrapes.

`GET /metrics` on an address of its own, answered by a thread of the supervisor. It depends on no
worker: the numbers are available while workers hang or have ended. One scrape is answered at a
time, within a deadline and for a head of bounded size, and its connection is closed.

A page in a browser cannot read it through a name that resolves to this address (DNS rebinding): the
`Host` has to be an address, `localhost`, or the host that the settings name.
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
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from capabilities.limits import parsed_address
from sealspace.cli.command_errors import ConfigurationError
from sealspace.cli.listening_socket import bind_socket, url_of

from ..config.tree import Config
from ..logs import describe, log_event, log_warning
from .series import SUPERVISOR, ProcessMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATH: Final = "/metrics"
# Nothing is written to a disk, and a full disk ends no process.
MEMORY: Final = "/dev/shm"  # noqa: S108  # the folder in it is new, and has mode 0700
MAX_HEAD_BYTES: Final = 8192
DEADLINE_S: Final = 2.0
_REQUEST: Final = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>[^ \r\n]+)"
    rb" HTTP/1\.[01]\r\n(?P<headers>([!#-'*+.0-9A-Z^-z|~-]+:[^\r\n]*\r\n)*)\r\n"
)
_HOST: Final = re.compile(rb"^host:(.*)\r$", re.MULTILINE | re.IGNORECASE)
_NAME: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")
_BARE_LINE_END: Final = re.compile(rb"(?<!\r)\n")


class SupervisorMetrics(ProcessMetrics):
    """The numbers of a node, and the listener that serves them."""

    def __init__(self, config: Config, processes: Sequence[str]) -> None:
        """Bind the address, and make a new folder that only this user can open."""
        host, port = config.metrics.address
        self._bound = bind_socket(host, port, hint="choose another metrics.listen")
        self._scraping = Scraping(self._bound, host, self.text)
        try:
            self.folder = mkdtemp(
                prefix="sealspace-metrics-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None
            )
        except OSError as error:
            self._scraping.stop()
            raise ConfigurationError(
                f"cannot make a folder for metrics: {error.strerror}",
                hint="set TMPDIR to a folder that can be written",
            ) from None
        super().__init__(self.folder, SUPERVISOR, processes=(SUPERVISOR, *processes))
        self._data = config.data
        if not config.is_shared:
            self.cells["sealspace_store_limit_bytes",].set(config.store.max_bytes)

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
        mark_process_dead(process, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        self.cells["sealspace_process_restarts_total", process].inc()

    def text(self) -> bytes:
        """Return all current numbers as text."""
        self.sample()
        with suppress(OSError):  # the folder does not exist yet
            disk = os.statvfs(self._data)
            self.cells["sealspace_disk_free_bytes",].set(disk.f_bavail * disk.f_frsize)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.folder)  # type: ignore[no-untyped-call]  # the library has no types here
        for _ in range(20):
            # a process that starts has made a file, and not its first bytes yet
            with suppress(struct.error):
                return generate_latest(registry)
            time.sleep(0.05)
        return generate_latest(registry)


@dataclass(eq=False, repr=False)
class Scraping:
    """Answers scrapes under the name of a host while it is running."""

    bound: socket.socket
    host: str
    text: Callable[[], bytes]
    deadline_s: float = DEADLINE_S
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Listen."""
        self.bound.listen()
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Stop answering; a scrape in progress may end without an answer."""
        self.stopped.set()
        with suppress(OSError):
            self.bound.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone does not
        self.bound.close()

    def _serve(self) -> None:
        while not self.stopped.is_set():
            try:
                client, _ = self.bound.accept()
            except OSError:
                # the socket was closed, or no descriptors or no memory are available for now
                self.stopped.wait(self.deadline_s)
                continue
            try:
                with client:
                    self._answer(client)
            except OSError:  # the client disconnected, or is too slow
                pass
            except Exception as error:  # the next scrape may succeed
                log_warning("scrape-failed", **describe(error))

    def _answer(self, client: socket.socket) -> None:
        status = _status_of(_head_of(client, self.deadline_s), self.host.lower())
        body = self.text() if status == HTTPStatus.OK else b""
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length:"
            f" {len(body)}\r\nConnection: close\r\n\r\n"
        )
        client.settimeout(self.deadline_s)
        client.sendall(head.encode() + body)


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


def _status_of(head: bytes, host: str) -> HTTPStatus:
    """Return how a request is answered: only a whole GET of the one path, under a name that leads
    here."""
    request = _REQUEST.match(head)
    hosts = [] if request is None else _HOST.findall(request["headers"])
    if request is None or len(hosts) != 1:
        return HTTPStatus.BAD_REQUEST
    if request["method"] != b"GET":
        return HTTPStatus.NOT_IMPLEMENTED
    # Any other name is one that another party's name server may resolve to this address.
    named = _NAME.fullmatch(hosts[0].decode("latin-1").strip())
    name = "" if named is None else (named[1] or named[2]).lower()
    if name not in ("localhost", host) and parsed_address(name) is None:
        return HTTPStatus.FORBIDDEN
    return (
        HTTPStatus.OK
        if request["path"].partition(b"?")[0] == PATH.encode()
        else HTTPStatus.NOT_FOUND
    )
