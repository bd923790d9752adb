"""The listener for scrapes: `GET /metrics` on an address of its own, answered by a thread of the supervisor.

It depends on no worker: who answers requests may stand still or be gone, and the numbers are there. One scrape is
answered at a time, within a deadline and for a head of bounded size, and its connection is closed.

A page in somebody's browser cannot read it through a name that leads here (DNS rebinding): the `Host` has to be an
address, `localhost`, or the host that the settings name.

Example:
    scraping = Scraping(bound, "127.0.0.1", lambda: exposition(rows))
    scraping.start()
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from ..logs import describe, log_warning
from .text import CONTENT_TYPE

PATH: Final = "/metrics"
MAX_HEAD_BYTES: Final = 8192
DEADLINE_S: Final = 2.0
_BACKLOG: Final = 16
_READ_BYTES: Final = 4096
_REASONS: Final = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d{1,5})?")


class Scraping:
    """Answers scrapes while it is started."""

    def __init__(
        self, bound: socket.socket, host: str, text: Callable[[], str], *, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare.

        Args:
            bound: a bound socket, this object's to close.
            host: by which it was bound.
            text: makes what is served.
            deadline_s: for a request's head, and as much again for taking the answer.
        """
        self._bound = bound
        self._deadline_s = deadline_s
        self._host = host
        self._text = text
        self._is_stopped = False
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._bound.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more; a scrape under way may end without an answer."""
        self._is_stopped = True
        with suppress(OSError):
            self._bound.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone does not
        self._bound.close()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._bound.accept()
            except OSError:
                if self._is_stopped:
                    return
                time.sleep(self._deadline_s)  # no descriptors or no memory for now
                continue
            with taken:
                try:
                    self._answer(taken)
                except OSError:  # whoever asked is gone, or too slow
                    continue
                except Exception as error:  # the next scrape may fare better
                    log_warning("scrape-failed", **describe(error))

    def _answer(self, taken: socket.socket) -> None:
        status = status_of(_head_of(taken, self._deadline_s), self._host)
        body = self._text().encode() if status == 200 else b""
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        taken.settimeout(self._deadline_s)
        taken.sendall(head.encode("ascii") + body)


def _head_of(taken: socket.socket, within_s: float) -> bytes:
    deadline = time.monotonic() + within_s
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise TimeoutError("the head takes too long")
        taken.settimeout(left_s)
        if not (piece := taken.recv(_READ_BYTES)):
            break
        head += piece
    return head


def status_of(head: bytes, host: str) -> int:
    """Return the status that a request has to get.

    Args:
        head: what came; untrusted, whole or not.
        host: by which the listener was bound.
    """
    lines, end, _ = head.decode("latin-1").partition("\r\n\r\n")
    asked, *fields = lines.split("\r\n")
    words = asked.split(" ")
    hosts = [text.strip() for name, _, text in (field.partition(":") for field in fields) if name.lower() == "host"]
    if not end or len(words) != 3 or not words[2].startswith("HTTP/1.") or len(hosts) != 1:
        return 400
    if not _leads_here(hosts[0], host):
        return 403
    if words[1].partition("?")[0] != PATH:
        return 404
    return 200 if words[0] == "GET" else 405


def _leads_here(named: str, host: str) -> bool:
    """Whether a `Host` is none that somebody else's name server could have led here."""
    match = _HOST.fullmatch(named)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    return name in ("localhost", host.lower()) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
