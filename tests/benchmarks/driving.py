"""Connections that send prepared requests, one after the other, and note how long each answer took.

The client costs as little as it can: requests are whole byte strings before the clock runs, and of an answer only the
status and the length are looked at.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

_ANSWER_LIMIT_S = 30.0


class RequestFailed(Exception):
    """A request was not answered with success; the run is worth nothing."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What one drive came to.

    Attributes:
        took_s: from the first request to the last answer.
        latencies_s: of each request, from its first byte sent to its last byte received.
    """

    took_s: float
    latencies_s: tuple[float, ...]


async def drive(port: int, requests: list[bytes], *, connections: int, most_s: float) -> Drive:
    """Send every request once, over so many connections, until all are answered or the time is over.

    Raises:
        RequestFailed: an answer is no success, or none came.
    """
    lines = [await _Line.open(port) for _ in range(connections)]
    latencies: list[float] = []
    queue = iter(requests)
    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as sending:
            for line in lines:
                sending.create_task(_send(line, queue, latencies, started + most_s))
        return Drive(time.perf_counter() - started, tuple(latencies))
    except* RequestFailed as failures:
        raise RequestFailed(str(failures.exceptions[0])) from None
    finally:
        for line in lines:
            line.close()


async def _send(line: "_Line", queue: Iterator[bytes], latencies: list[float], end: float) -> None:
    for request in queue:
        sent = time.perf_counter()
        await line.ask(request)
        latencies.append((now := time.perf_counter()) - sent)
        if now > end:
            return


class _Line(asyncio.Protocol):
    """One kept connection; reads answers with a length or in chunks."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> "_Line":
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RequestFailed("the node hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if (size := _answer_size(self._received)) is not None:
            status, text = int(self._received[9:12]), bytes(self._received[:600])
            del self._received[:size]
            self._end(None if 200 <= status < 300 else RequestFailed(f"answered {status}: {text!r}"))

    async def ask(self, request: bytes) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        limit = loop.call_later(_ANSWER_LIMIT_S, self._end, RequestFailed(f"no answer within {_ANSWER_LIMIT_S} s"))
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


def _answer_size(received: bytearray) -> int | None:
    """Return how long the answer at the start is, head included; None while it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = bytes(received[:end]).lower(), end + 4
    if b"\r\ntransfer-encoding: chunked" in head:
        last = received.find(b"0\r\n\r\n", start)
        return None if last < 0 else last + 5
    _, found, rest = head.partition(b"\r\ncontent-length:")
    size = start + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
    return size if len(received) >= size else None
