"""Output of the command `sealspace run`, and of the child process that it runs.

A write to a pipe or a terminal that nobody reads waits, perhaps for hours. Meanwhile `run` must
still stop and restart its child. So output that our own streams do not take yet waits in this
process's memory. The child's pipe is read only while nothing waits, so a child whose output nobody
reads waits too, as it would without `run`.

Linux only: the second opening of our own streams, and the size of the child's pipe.
"""

import errno
import fcntl
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from io import FileIO
from types import TracebackType
from typing import Self

from .run_masker import Masker

READ_BYTES = 65_536
_WRITE_BYTES = 4096
"""Bytes of one write. A pipe that poll() reports as writable has room for them (PIPE_BUF)."""


class MessageStream(io.TextIOBase):
    """A stream for messages in place of standard error.

    Args:
        send: takes each text that is written. It must not wait.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__()
        self._send = send

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Send a text."""
        if not isinstance(text, str):
            raise TypeError("a stream of messages takes text")
        if text:
            self._send(text)
        return len(text)


class OwnStream:
    """Our own standard output or standard error, and what it has not taken yet.

    Args:
        number: 1 or 2.

    Attributes:
        is_gone: whether the stream has no reader any more. Further output is dropped.
    """

    def __init__(self, number: int) -> None:
        self.is_gone = False
        self._opened = _open_again(number)
        self.descriptor = number if self._opened is None else self._opened
        self._waiting = bytearray()
        self._room = select.poll()
        self._room.register(self.descriptor, select.POLLOUT)

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that the stream has not taken yet."""
        return len(self._waiting)

    def put(self, data: bytes) -> None:
        """Write data as soon as the stream takes it."""
        if not self.is_gone:
            self._waiting += data
            self.write_ready()

    def write_ready(self) -> None:
        """Write what the stream takes without waiting."""
        try:
            while self._waiting and self._room.poll(0):
                written = os.write(self.descriptor, self._waiting[:_WRITE_BYTES])
                del self._waiting[:written]
        except BlockingIOError:  # another program filled the stream in between
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.is_gone = True
            self._waiting.clear()

    def close(self) -> None:
        """Close the descriptor that was opened here."""
        if self._opened is not None:
            os.close(self._opened)


def _open_again(number: int) -> int | None:
    """Open the pipe or terminal of a standard stream again, so that writing to it never waits.

    The standard stream itself stays as it is: the shell and other programs share its flags.

    Returns:
        The new descriptor; None for other streams, and if the system does not allow it. Writing to
        these can wait if another program fills the stream between poll() and write().
    """
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(number).st_mode) or os.isatty(number):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{number}", flags)
    return None


class OwnStreams:
    """A context with our own two output streams. Its end waits until all output is written."""

    def __init__(self) -> None:
        self.out = OwnStream(1)
        self.err = OwnStream(2)
        encoding = sys.stderr.encoding or "utf-8"
        self.messages = MessageStream(
            lambda text: self.err.put(text.encode(encoding, "backslashreplace"))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            while full := self.full():
                room = select.poll()
                for descriptor in full:
                    room.register(descriptor, select.POLLOUT)
                room.poll()
                self.write_ready()
        finally:
            self.out.close()
            self.err.close()

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that the streams have not taken yet."""
        return self.out.waiting_bytes + self.err.waiting_bytes

    def full(self) -> list[int]:
        """Return the descriptors of the streams that have not taken all output yet."""
        streams = (self.out, self.err)
        return [stream.descriptor for stream in streams if stream.waiting_bytes]

    def write_ready(self) -> None:
        """Write what the streams take without waiting."""
        self.out.write_ready()
        self.err.write_ready()


class ChildStream:
    """An output stream of the child process.

    Args:
        source: the pipe from the child.
        target: our own stream, to which the output is forwarded.
        patterns: byte sequences to mask.
    """

    def __init__(self, source: FileIO, target: OwnStream, patterns: Iterable[bytes]) -> None:
        self._source = source
        self._target = target
        self._masker = Masker(patterns)
        os.set_blocking(source.fileno(), False)

    def awaited(self) -> int | None:
        """Return the descriptor to wait for; None while no output is to be read."""
        if self._source.closed or self._target.waiting_bytes:
            return None
        return self._source.fileno()

    def forward(self, ready: Collection[int]) -> None:
        """Copy the child's available output to our own stream.

        If our own stream has no reader, the pipe is closed, so that the child's next write fails.
        `forward_rest` writes what is held back.
        """
        if self.awaited() in ready and self._read() == 0:
            self._source.close()
        if self._target.is_gone:
            self._source.close()

    def flush(self) -> None:
        """Write the held-back end of the output after a pause, unless it could reveal a secret."""
        if self.awaited() is not None:
            self._target.put(self._masker.flush())

    def forward_rest(self, *, is_cut: bool) -> None:
        """Forward the remaining output after the child has ended, and close the pipe.

        Args:
            is_cut: a signal ended the child, perhaps while it wrote a value.
        """
        # At most one full pipe: a background process that inherited the pipe may write forever.
        remaining_bytes = 0
        if not self._source.closed:
            remaining_bytes = READ_BYTES
            if sys.platform == "linux":
                remaining_bytes = fcntl.fcntl(self._source, fcntl.F_GETPIPE_SZ)
        while remaining_bytes > 0:
            count = self._read()
            if not count:
                break
            remaining_bytes -= count
        self._source.close()
        self._target.put(self._masker.end(is_cut=is_cut))

    def _read(self) -> int | None:
        """Read available output, and pass it on.

        Returns the number of bytes read, 0 at the end of the stream, and None if no output is
        available.
        """
        piece = self._source.read(READ_BYTES)
        if not piece:
            return None if piece is None else 0
        self._target.put(self._masker.feed(piece))
        return len(piece)
