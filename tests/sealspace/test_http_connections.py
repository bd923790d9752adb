"""The SDK's connections, against servers whose bytes are written out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from https_service import https_service
from patience import PATIENCE_S

from sealspace.errors import ClientClosed, NodeTimeout, NodeUnreachable
from sealspace.wire import http_connections
from sealspace.wire.http_connections import MAX_HEAD_BYTES, MOST_CONNECTIONS
from sealspace.wire.transfers import body_in_pieces
from sealspace.wire.transport import Answer, Request, Transport, TransportSettings, Upload

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
GET = Request("GET", "/value", mint=lambda: "token")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """A server that talks by a function, and what it received."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def read_head(self, reader: asyncio.StreamReader) -> bytes:
        """Read the head of a request, and note it."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.asked.set()
        return head


Talk = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[Server]:
    """Run a server that calls a function for each connection, and then closes it."""
    server = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            await talk(server, reader, writer)
        server.ended.set()
        writer.close()

    running = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        server.url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        yield server
    finally:
        running.close()


def saying(*answers: bytes) -> Talk:
    """Answer the requests on a connection one after the other, then close it."""

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for answer in answers:
            await server.read_head(reader)
            writer.write(answer)
            await writer.drain()

    return talk


async def answer_to(answer: bytes, request: Request = GET) -> Answer:
    """Send a request to a server that answers with these bytes."""
    async with talking(saying(answer)) as server, Transport(server.url, settings=SETTINGS) as node:
        return await node.exchange(request)


# --- responses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=[
        "cut off",
        "no last chunk",
        "chunk without size",
        "unknown encoding",
        "two lengths",
        "negative length",
        "no header",
        "upgrade",
        "other version",
        "other protocol",
        "nothing",
    ],
)
async def test_what_is_not_a_complete_response_is_an_error(answer: bytes) -> None:
    """A response is complete, or the request fails as interrupted."""
    with pytest.raises(NodeUnreachable, match="cut off"):
        await answer_to(answer)


async def test_a_reset_does_not_end_a_body() -> None:
    """A body without a length ends when the server closes the connection, but not when it resets
    it."""

    def talk(is_reset: bool) -> Talk:
        async def one(
            server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await server.read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\npart")
            await writer.drain()
            if is_reset:
                # The client has read the part before the reset may drop it.
                await client_has_part.wait()
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, for 0 s: closing resets
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )

        return one

    client_has_part = asyncio.Event()
    async with talking(talk(False)) as server, Transport(server.url, settings=SETTINGS) as node:
        assert (await node.exchange(GET)).body == b"part"
    async with talking(talk(True)) as server, Transport(server.url, settings=SETTINGS) as node:
        stream = await node.stream(GET)
        pieces = stream.pieces()
        assert await anext(pieces) == b"part"
        client_has_part.set()
        with pytest.raises(http_connections.ConnectionLost):
            await anext(pieces)
        stream.close()


async def test_informational_responses_are_skipped() -> None:
    """The response is the one after them."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    assert (await answer_to(hints + OK)).body == b"ok"


@pytest.mark.parametrize("line_bytes", [100, 1_000_000])
async def test_a_head_has_a_bound(line_bytes: int) -> None:
    """A server cannot make a client keep headers without end."""

    async def endless(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Header: " + b"x" * line_bytes + b"\r\n")
            await writer.drain()

    async with talking(endless) as server, Transport(server.url, settings=SETTINGS) as node:
        with pytest.raises(NodeUnreachable, match="cut off"):
            await node.exchange(GET)
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)


async def test_large_metadata_is_read() -> None:
    """The headers of a value may have half of the bound."""
    value = b"x" * (MAX_HEAD_BYTES // 2)
    answer = await answer_to(b"HTTP/1.1 200 OK\r\nX-Meta: " + value + b"\r\n" + OK[17:])
    assert answer.headers["x-meta"] == value.decode()


async def test_headers_that_are_not_ascii() -> None:
    """They are read as UTF-8, and sent as such."""
    async with (
        talking(saying("HTTP/1.1 200 OK\r\nX-Name: é\r\n".encode() + OK[17:])) as server,
        Transport(server.url, settings=SETTINGS) as node,
    ):
        answer = await node.exchange(Request("GET", "/", headers={"X-Asked": "ü"}))
    assert answer.headers["X-Name"] == "é"
    assert b"X-Asked: \xc3\xbc\r\n" in server.heads[0]


async def test_a_header_cannot_add_another() -> None:
    """Nothing is sent if a header has a line break."""
    async with talking(saying(OK)) as server, Transport(server.url, settings=SETTINGS) as node:
        with pytest.raises(ValueError, match="header"):
            await node.exchange(Request("GET", "/", headers={"X-Asked": "a\r\nAuthorization: b"}))
    assert server.heads == []


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (Request("GET", "/a?b=c"), {b"GET /a?b=c HTTP/1.1"}),
        (Request("POST", "/a"), {b"POST /a HTTP/1.1", b"Content-Length: 0"}),
        (Request("PUT", "/a", body=b"ab"), {b"PUT /a HTTP/1.1", b"Content-Length: 2"}),
    ],
    ids=["without a body", "empty", "bytes"],
)
async def test_the_head_of_a_request(request_: Request, lines: set[bytes]) -> None:
    """A request names the server and the client, and says how long its body is."""
    async with talking(saying(OK)) as server, Transport(server.url, settings=SETTINGS) as node:
        await node.exchange(request_)
    found = set(server.heads[0].strip().split(b"\r\n"))
    assert found == lines | {
        b"Host: " + server.url.removeprefix("http://").encode(),
        b"User-Agent: sealspace",
        b"Accept: */*",
        b"Accept-Encoding: identity",
    }


async def test_a_body_of_unknown_size_is_chunked() -> None:
    """Its end is marked, so a source that fails is not taken for a complete body."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    received: list[bytes] = []

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert b"Transfer-Encoding: chunked\r\n" in await server.read_head(reader)
        received.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK)

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        await node.exchange(Request("PUT", "/", body=Upload(pieces, None)))
    assert received == [b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"]


async def test_a_source_that_fails_ends_the_connection() -> None:
    """The error is the source's, and the server gets no complete body."""
    rest: list[bytes] = []

    async def broken() -> AsyncIterator[bytes]:
        yield b"ab"
        raise LookupError("the source failed")

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        rest.append(await reader.read())

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        with pytest.raises(LookupError, match="the source failed"):
            await node.exchange(Request("PUT", "/", body=Upload(broken, None)))
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)
    assert not b"".join(rest).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "body", [b"x" * 200_000, body_in_pieces(b"x" * 20_000_000)], ids=["one", "many"]
)
async def test_a_refusal_of_a_body_that_is_not_read(body: bytes | Upload) -> None:
    """The response is read, although the server ends the connection before the body was sent."""

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        answer = await node.exchange(Request("PUT", "/", body=body))
    assert (answer.status, answer.body) == (413, b"no")


async def test_no_proxy_and_no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token goes to the node itself, whatever the environment says. Cookies are not sent back."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    first = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n" + OK[17:]
    async with (
        talking(saying(first, OK)) as server,
        Transport(server.url, settings=SETTINGS) as node,
    ):
        await node.exchange(GET)
        await node.exchange(GET)
    assert len(server.heads) == 2
    assert b"cookie" not in server.heads[1].lower()


# --- connections ----------------------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:
    """Requests one after the other share a connection."""
    async with (
        talking(saying(OK, OK, OK)) as server,
        Transport(server.url, settings=SETTINGS) as node,
    ):
        for _ in range(3):
            await node.exchange(GET)
    assert (len(server.heads), server.connections) == (3, 1)


@pytest.mark.parametrize(
    "first",
    [
        OK,
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        OK + b"\r\n",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["closed", "second response", "surplus bytes", "will be closed", "HTTP/1.0"],
)
async def test_a_connection_that_is_not_clean_is_not_used_again(first: bytes) -> None:
    """A token is not sent on a connection that the server closed. Bytes that came without a request
    are not the response to the next one."""

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        writer.write(first if server.connections == 1 else OK)
        if b"Length: 5" in first or first.endswith(b"ok\r\n"):
            await reader.read()  # the connection stays open

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        assert (await node.exchange(GET)).body == b"ok"
        if first == OK:
            await asyncio.wait_for(server.ended.wait(), PATIENCE_S)
        assert (await node.exchange(GET)).body == b"ok"
    assert server.connections == 2


async def test_an_abandoned_response_closes_its_connection() -> None:
    """The rest of a body that was not read is not the response to the next request."""

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        writer.write(OK if server.connections == 2 else OK.replace(b": 2", b": 20"))
        await reader.read()

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        stream = await node.stream(GET)
        assert await anext(stream.pieces()) == b"ok"
        stream.close()
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)
        assert (await node.exchange(GET)).body == b"ok"


async def _stalled(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await server.read_head(reader)
    if len(server.heads) == 1:
        await reader.read()  # until the client closes the connection
    else:
        writer.write(OK)


async def test_a_cancelled_request_closes_its_connection() -> None:
    """A late response is not the response to the next request."""
    async with talking(_stalled) as server, Transport(server.url, settings=SETTINGS) as node:
        asked = asyncio.create_task(node.exchange(GET))
        await asyncio.wait_for(server.asked.wait(), PATIENCE_S)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)
        assert (await node.exchange(GET)).body == b"ok"
    assert server.connections == 2


async def test_a_request_that_timed_out_closes_its_connection() -> None:
    """So does a timeout."""
    settings = TransportSettings(timeout_s=0.05, tries=1)
    async with talking(_stalled) as server, Transport(server.url, settings=settings) as node:
        with pytest.raises(NodeTimeout):
            await node.exchange(GET)
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)


async def test_connections_have_a_bound() -> None:
    """Further requests wait, and are not sent after the client was closed."""
    settings = TransportSettings(timeout_s=PATIENCE_S, tries=2, backoff_s=0)
    all_wait = asyncio.Event()

    async def stall(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        if len(server.heads) == MOST_CONNECTIONS:
            all_wait.set()
        await reader.read()

    async with talking(stall) as server:
        node = Transport(server.url, settings=settings)
        asked = [asyncio.create_task(node.exchange(GET)) for _ in range(MOST_CONNECTIONS + 5)]
        await asyncio.wait_for(all_wait.wait(), PATIENCE_S)
        await node.close()
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in ended} <= {NodeUnreachable, ClientClosed}
    assert len(server.heads) == server.connections == MOST_CONNECTIONS


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing keeps no connection."""
    monkeypatch.setattr(http_connections, "IDLE_S", 0)

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.read_head(reader)
        writer.write(OK)
        await reader.read()

    async with talking(talk) as server, Transport(server.url, settings=SETTINGS) as node:
        await node.exchange(GET)
        await asyncio.wait_for(server.ended.wait(), PATIENCE_S)
        assert (await node.exchange(GET)).body == b"ok"


def test_the_fast_event_loop_will_do() -> None:
    """uvloop's connections have other classes, and its loop other arguments."""
    uvloop = pytest.importorskip("uvloop")

    async def twice() -> tuple[Answer, Answer, int]:
        async with (
            talking(saying(OK, OK)) as server,
            Transport(server.url.replace("127.0.0.1", "localhost"), settings=SETTINGS) as node,
        ):
            return await node.exchange(GET), await node.exchange(GET), server.connections

    first, second, connections = uvloop.run(twice())
    assert (first.body, second.body, connections) == (b"ok", b"ok", 1)


# --- TLS ------------------------------------------------------------------------------------------


async def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to a server with a certificate of an unknown authority, or of another
    name."""
    async with https_service(tmp_path, "localhost") as service:
        service.documents["/value"] = b"ok"
        http_connections.tls_context.cache_clear()
        async with Transport(service.url(""), settings=SETTINGS) as node:
            with pytest.raises(NodeUnreachable, match="no connection"):
                await node.exchange(GET)
        monkeypatch.setenv("SSL_CERT_FILE", str(service.ca))
        http_connections.tls_context.cache_clear()
        async with Transport(service.url("", host="127.0.0.1"), settings=SETTINGS) as node:
            with pytest.raises(NodeUnreachable, match="no connection"):
                await node.exchange(GET)
        assert service.seen == []
        async with Transport(service.url(""), settings=SETTINGS) as node:
            assert (await node.exchange(GET)).body == b"ok"
            assert (await node.exchange(GET)).body == b"ok"
        http_connections.tls_context.cache_clear()
        assert service.server_names[-1] == "localhost"


async def test_plain_http_is_named() -> None:
    """A server without TLS is not asked again, and the error says what it is."""

    async def talk(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    settings = TransportSettings(timeout_s=PATIENCE_S, tries=3, backoff_s=0)
    async with talking(talk) as server:
        url = server.url.replace("http:", "https:")
        async with Transport(url, settings=settings) as node:
            with pytest.raises(NodeUnreachable, match="serves plain HTTP"):
                await node.exchange(GET)
    assert server.connections == 1
