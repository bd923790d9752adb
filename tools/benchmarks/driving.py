"""Connections that send prepared requests, one after the other, and note how long each answer took.

The client costs as little as it can: requests are whole byte strings before the clock runs, and of
an answer only the status and the length are looked at, unless the bodies are asked for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

_ANSWER_LIMIT_S = 30.0
_HEAD_END = b"\r\n\r\n"


class RequestFailed(Exception):
    """A request was not answered as expected; the run is worth nothing."""


@dataclass(frozen=True, slots=True)
class Drive:
    """The measurements of one drive.

    Attributes:
        took_s: from the first request to the last answer.
        latencies_s: of each request, from its first byte sent to its last byte received.
        bodies: of the answers in the order they came, where they were asked for.
    """

    took_s: float
    latencies_s: tuple[float, ...]
    bodies: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """Which statuses count as answered, both ends included."""

    least: int = 200
    most: int = 299


SUCCESS = Expected()
REFUSAL = Expected(400, 503)


async def drive(
    port: int,
    requests: Iterable[bytes],
    *,
    connections: int,
    most_s: float,
    expected: Expected = SUCCESS,
    keep: bool = False,
    until: asyncio.Event | None = None,
) -> Drive:
    """Send every request once, over so many connections, until all are answered or it is enough.

    Args:
        port: on 127.0.0.1.
        requests: whole, head and body.
        connections: each sends the next request when it has its answer.
        most_s: after them no further request is sent.
        expected: statuses that count as answered.
        keep: whether the bodies of the answers are returned.
        until: when it is set no further request is sent.
    Raises:
        RequestFailed: an answer has another status, or none came.
    """
    async with connected(port, connections, expected, keep=keep) as lines:
        return await drive_over(lines, requests, most_s=most_s, until=until)


@asynccontextmanager
async def connected(
    port: int, connections: int, expected: Expected = SUCCESS, *, keep: bool = False
) -> "AsyncIterator[Sequence[Line]]":
    """Open connections for several drives, and close them at the end of the block."""
    lines = [await Line.open(port, expected, keep=keep) for _ in range(connections)]
    try:
        yield lines
    finally:
        for line in lines:
            line.close()


async def drive_over(
    lines: "Sequence[Line]",
    requests: Iterable[bytes],
    *,
    most_s: float,
    until: asyncio.Event | None = None,
) -> Drive:
    """Send every request once over open connections; see `drive`."""
    latencies: list[float] = []
    queue = iter(requests)
    enough = until or asyncio.Event()
    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as sending:
            for line in lines:
                sending.create_task(_send(line, queue, latencies, started + most_s, enough))
        took_s = time.perf_counter() - started
        return Drive(
            took_s, tuple(latencies), tuple([body for line in lines for body in line.bodies])
        )
    except BaseExceptionGroup as failures:
        failed, others = failures.split(RequestFailed)
        if failed is None or others is not None:
            raise
        raise RequestFailed(str(failed.exceptions[0])) from None


async def _send(
    line: "Line", queue: Iterator[bytes], latencies: list[float], end: float, enough: asyncio.Event
) -> None:
    for request in queue:
        sent = time.perf_counter()
        await line.ask(request)
        latencies.append((now := time.perf_counter()) - sent)
        if now > end or enough.is_set():
            return


class Answer:
    """One answer as it arrives: with a length, or in chunks."""

    __slots__ = ("_at", "_head_bytes", "_is_chunked", "_pieces", "_received")

    def __init__(self) -> None:
        self._received = bytearray()
        self._head_bytes = 0
        self._is_chunked = False
        self._at = 0  # of the next chunk's size
        self._pieces: list[tuple[int, int]] = []

    @property
    def status(self) -> int:
        return int(self._received[9:12])

    @property
    def start(self) -> bytes:
        return bytes(self._received[:600])

    @property
    def body(self) -> bytes:
        return b"".join([bytes(self._received[start:end]) for start, end in self._pieces])

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the answer is whole. Nothing follows it: the next request is not
        sent yet."""
        self._received += data
        if not self._head_bytes and not self._read_head():
            return False
        return (
            self._read_chunks() if self._is_chunked else len(self._received) >= self._pieces[0][1]
        )

    def _read_head(self) -> bool:
        found = self._received.find(_HEAD_END)
        if found < 0:
            return False
        self._at = self._head_bytes = found + len(_HEAD_END)
        head = bytes(self._received[:found]).lower()
        self._is_chunked = b"\r\ntransfer-encoding: chunked" in head
        if not self._is_chunked:
            _, stated, rest = head.partition(b"\r\ncontent-length:")
            size_bytes = int(rest.split(b"\r\n", 1)[0]) if stated else 0
            self._pieces.append((self._head_bytes, self._head_bytes + size_bytes))
        return True

    def _read_chunks(self) -> bool:
        while (line_end := self._received.find(b"\r\n", self._at)) >= 0:
            size_bytes = int(self._received[self._at : line_end].partition(b";")[0], 16)
            start = line_end + 2
            end = start + size_bytes
            if len(self._received) < end + 2:
                return False
            if not size_bytes:
                return True
            self._pieces.append((start, end))
            self._at = end + 2
        return False


class Line(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, expected: Expected, *, keep: bool) -> None:
        self.bodies: list[bytes] = []
        self._expected = expected
        self._keep = keep
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int, expected: Expected, *, keep: bool) -> "Line":
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: cls(expected, keep=keep), "127.0.0.1", port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RequestFailed("the node hung up"))

    def data_received(self, data: bytes) -> None:
        if not self._answer.feed(data):
            return
        answer, self._answer = self._answer, Answer()
        if self._keep:
            self.bodies.append(answer.body)
        is_expected = self._expected.least <= answer.status <= self._expected.most
        self._end(
            None if is_expected else RequestFailed(f"answered {answer.status}: {answer.start!r}")
        )

    async def ask(self, request: bytes) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        limit = loop.call_later(
            _ANSWER_LIMIT_S, self._end, RequestFailed(f"no answer within {_ANSWER_LIMIT_S} s")
        )
        self._transport.write(request)
        try:
            await self._answered
        finally:
            limit.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, failure: RequestFailed | None) -> None:
        if self._answered is None or self._answered.done():
            return
        if failure is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(failure)
