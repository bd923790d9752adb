"""An HTTP client that sends recorded requests unchanged.

Ordinary clients normalise paths, reject odd header values, add headers and unpack bodies. This one
does not. It sends one request at a time on one connection.
"""

import asyncio
import contextlib
from types import TracebackType

from wire_replay import Answer, Request

_ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
_BODILESS = frozenset((204, 304))
_NO_ANSWER = Answer(0, (), b"no answer")


class RawConnection:
    """A kept-alive HTTP/1.1 connection to a local port, which reopens itself if it was closed."""

    def __init__(self, port: int, *, timeout_s: float = 20.0) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> "RawConnection":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, request: Request) -> Answer:
        """Send a request and return the answer, with status 0 if the server sent none."""
        async with asyncio.timeout(self._timeout_s):
            # A kept connection may have been closed behind our back, before it carried this
            # request: once more then.
            attempts = 1 if self._streams is None else 2
            answer = _NO_ANSWER
            while attempts and answer.status == 0:
                answer = await self._exchange(request)
                attempts -= 1
        if answer.header("connection").lower() == "close":
            await self.close()
        return answer

    async def _exchange(self, request: Request) -> Answer:
        reader, writer = await self._open()
        # Reading while writing: a server may answer and close before it has read an overlong
        # request.
        writing = asyncio.create_task(_write(writer, _wire_form(request)))
        try:
            answer = await _read_answer(reader, has_body=request.method != "HEAD")
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            return _NO_ANSWER
        finally:
            written = writing.done()
            writing.cancel()
        if not written:
            await self.close()
        return answer

    async def close(self) -> None:
        """Close the connection if it is open."""
        if self._streams is None:
            return
        _, writer = self._streams
        self._streams = None
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=_ANSWER_LIMIT_BYTES
            )
        return self._streams


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()


def _wire_form(request: Request) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.body is not None or request.method in ("POST", "PUT"):
        lines.append(f"content-length: {len(request.body or b'')}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (request.body or b"")


async def _read_answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    pairs = (line.partition(":") for line in head[1:] if line)
    answer = Answer(
        status, tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs), b""
    )
    if not has_body or status in _BODILESS:
        return answer
    return Answer(status, answer.headers, await _read_body(reader, answer))


async def _read_body(reader: asyncio.StreamReader, answer: Answer) -> bytes:
    if answer.header("transfer-encoding").lower() == "chunked":
        return await _read_chunks(reader)
    if length := answer.header("content-length"):
        return await reader.readexactly(int(length))
    return await reader.read()


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body
