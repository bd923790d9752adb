"""Clients that request a large answer, never read it, and keep sending as much as possible.

Nothing here waits: a socket that accepts nothing now is tried again after the others.

Example:
    client = StalledClient(port, "/public/…/kv/large", long_heads())
    client.push()
"""

import select
import socket
from contextlib import suppress
from pathlib import Path

from patience import AT_ONCE_S

_LINES = 96
_LINE_BYTES = 393_000
_REQUESTS = 20_000
_PIECE_BYTES = 1 << 18
_RECEIVE_BYTES = 4096
_WAIT_S = AT_ONCE_S


def long_heads() -> bytes:
    """Return the largest head that a request may have: 37 MB."""
    lines = [b"x-%d: " % number + b"a" * _LINE_BYTES for number in range(_LINES)]
    return b"\r\n".join([b"GET / HTTP/1.1", *lines, b""])


def small_requests() -> bytes:
    """Return many small requests whose answers exceed all buffers."""
    lines = [b"a%d:b" % number for number in range(90)]
    return b"\r\n".join([b"GET /info HTTP/1.1", b"Host: node", *lines, b"", b""]) * _REQUESTS


class StalledClient:
    """A connection of a client that requests a large answer and never reads it.

    Attributes:
        sent_bytes: what the other side, or the kernel between, has taken.
        is_ended: whether the other side has closed the connection.
    """

    def __init__(self, port: int, path: str, more: bytes) -> None:
        """Connect to a node on loopback, and ask for a path.

        Args:
            port: where the node listens.
            path: what is asked for; its answer should be larger than buffers are.
            more: what is sent behind it.
        """
        self.sent_bytes = 0
        self.is_ended = False
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        self._socket.setblocking(False)
        self._more = memoryview(more)

    @property
    def is_done(self) -> bool:
        """Return whether everything was sent."""
        return self.sent_bytes == len(self._more)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def push(self) -> int:
        """Send as much as the socket accepts now; return the number of bytes."""
        before = self.sent_bytes
        with suppress(BlockingIOError):
            while not (self.is_ended or self.is_done):
                try:
                    self.sent_bytes += self._socket.send(
                        self._more[self.sent_bytes :][:_PIECE_BYTES]
                    )
                except ConnectionError:
                    self.is_ended = True
        return self.sent_bytes - before

    def read_all(self) -> bytes:
        """Read until the other side closes the connection, while sending."""
        pieces = []
        with suppress(ConnectionResetError):
            while True:
                awaited = select.POLLIN
                if not (self.is_ended or self.is_done):
                    awaited |= select.POLLOUT
                waiting = select.poll()  # `select()` refuses descriptors above 1,023
                waiting.register(self._socket, awaited)
                events = dict(waiting.poll(_WAIT_S * 1000)).get(self.fileno(), 0)
                self.push()
                if events & ~select.POLLOUT:
                    if not (piece := self._socket.recv(_PIECE_BYTES)):
                        break
                    pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process without mapped files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10
