"""How long a transfer may wait: time is used up by waiting for the node, and earned back by bytes that move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

BYTES_PER_S: Final = 16 * 1024
"""The slowest transfer that goes on for ever: a node that trickles below it is given up."""


class Upload:
    """A body that is read while it is sent; `pieces` gives it from its beginning for each try."""

    def __init__(self, pieces: Callable[[], AsyncIterator[bytes]], size_bytes: int | None) -> None:
        self._pieces = pieces
        self.size_bytes = size_bytes
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.failure = None
        try:
            async for piece in self._pieces():
                yield piece
        except Exception as exc:
            self.failure = exc  # the HTTP library puts an error of its own in its place
            raise


class Pace:
    """What one try may still wait for the node."""

    def __init__(self, timeout_s: float) -> None:
        self._most_s = self._left_s = timeout_s
        self._limit: asyncio.Timeout | None = None
        self._since_s: float | None = None

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Bound what is done in the block by the time that is left, and take it off; raises TimeoutError."""
        try:
            async with asyncio.timeout(self._left_s) as self._limit:
                self._since_s = _now_s()
                yield
        finally:
            self._take_off()
            self._limit = None

    def moved(self, size_bytes: int) -> None:
        """Earn time back for bytes that moved."""
        self._left_s = min(self._most_s, self._left_s + size_bytes / BYTES_PER_S)

    async def sent(self, upload: Upload) -> AsyncIterator[bytes]:
        """Yield the pieces of a body; while its source is read, nobody waits for the node."""
        pieces = aiter(upload)
        while True:
            self._take_off()
            self._reschedule(None)
            piece = await anext(pieces, None)
            if self._limit is not None:
                self._since_s = _now_s()
                self._reschedule(self._since_s + self._left_s)
            if piece is None:
                return
            yield piece  # continued when the node, or the buffer before it, has taken it
            self.moved(len(piece))

    def _take_off(self) -> None:
        if self._since_s is not None:
            self._left_s = max(0.0, self._left_s - (_now_s() - self._since_s))
            self._since_s = None

    def _reschedule(self, when_s: float | None) -> None:
        if self._limit is not None:  # the node may have answered before it has taken the body
            self._limit.reschedule(when_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
