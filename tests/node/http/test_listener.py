"""Tests of the listener's limits on headers, and of its log (H5)."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from patience import AT_ONCE_S

from node.config.tree import Http
from node.http.listener import start_listener
from node.http.messages.common_head import COMMON_HEAD, CommonHead
from node.http.messages.http_answers import WholeAnswer
from node.http.messages.http_requests import body_pieces
from node.logs import configure_logs
from sealspace.service.listening_socket import bind_socket
from serving.listener import MAX_HEAD_BYTES, MAX_HEADER_LINES, MAX_TARGET_BYTES


def _request(target: str = "/info", lines: tuple[str, ...] = ()) -> bytes:
    head = [f"GET {target} HTTP/1.1", "Host: node", *lines, "Connection: close", "", ""]
    return "\r\n".join(head).encode()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_longest_token_passes(caller) -> None:
    """A token of 384 KiB in one header line is accepted."""
    assert _status(await caller.raw(_request(lines=("Authorization: " + "a" * 393_216,)))) == 200


@pytest.mark.parametrize("size_bytes", [393_216 + 100, 2_000_000])
async def test_longer_token_is_431(caller, size_bytes: int) -> None:
    """A longer line is 431 with an empty body, and nothing of it is logged (H5)."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    answer = await caller.raw(_request(lines=("Authorization: canary" + "a" * size_bytes,)))
    assert _status(answer) == 431
    assert answer.partition(b"\r\n\r\n")[2] == b""
    assert stream.getvalue() == ""


async def test_many_long_lines_are_431(caller) -> None:
    """The total size of all headers is limited."""
    lines = tuple(f"x-{n}: " + "a" * 200_000 for n in range(2 * MAX_HEAD_BYTES // 200_000))
    assert _status(await caller.raw(_request(lines=lines))) == 431


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_header_lines(caller, more: int, status: int) -> None:
    """A hundred header lines pass and one more is 431; `Host` and `Connection` count (H5)."""
    lines = tuple(f"x-{n}: 1" for n in range(MAX_HEADER_LINES - 2 + more))
    assert status == _status(await caller.raw(_request(lines=lines)))


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 414)])
async def test_target_length(caller, more: int, status: int) -> None:
    """A request target of 65,534 bytes passes, a longer one is 414 with an empty body (H5)."""
    target = "/info?" + "a" * (MAX_TARGET_BYTES - 6 + more)
    answer = await caller.raw(_request(target))
    assert status == _status(answer)
    assert more == 0 or answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: canary\r\n\r\n",
        b"GET / HTTP/1.1\r\ncanary canary\r\n\r\n",
        b"\x16\x03\x01\x00canary\r\n\r\n",
    ],
)
async def test_unreadable_request_is_400(caller, request_bytes: bytes) -> None:
    """Bytes that are not HTTP get a 400 page; neither page nor log quotes them."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    answer = await caller.raw(request_bytes)
    assert _status(answer) == 400 and b"canary" not in answer and b"Server: sealspace" in answer
    assert "canary" not in stream.getvalue()


async def test_second_authorization_is_not_an_error(caller) -> None:
    """Of repeated Authorization headers, the first one counts (E1)."""
    assert (
        _status(await caller.raw(_request(lines=("Authorization: a", "Authorization: b")))) == 200
    )


async def test_head_limit_leaves_long_bodies_alone(caller) -> None:
    """The limit on heads does not apply to bodies: the route answers, and the connection stays
    open."""
    body = b"b" * (2 * MAX_HEAD_BYTES)
    first = b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    answers = await caller.raw(first + body + _request("/healthz"))
    assert [_status(part) for part in answers.split(b"HTTP/1.1")[1:]] == [
        404,
        200,
    ] or b"200 OK" in answers


@pytest.mark.parametrize("is_late", [False, True])
async def test_what_follows_a_body_is_read(is_late: bool) -> None:
    """A body that is read late stops its client, then arrives whole, with the request behind it."""
    body, taken = bytes(range(256)) * 8192, []

    async def take(request: web.Request) -> web.StreamResponse:
        while is_late and not request.protocol._reading_paused:
            await asyncio.sleep(0)
        taken.append(b"".join([piece async for piece in body_pieces(request, max_bytes=1 << 24)]))
        return WholeAnswer(b"", headers={})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = b"POST /it HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % len(body)
        writer.write(one + b"\r\n" + body + one + b"Connection: close\r\n\r\n" + body)
        await reader.read()

    await _with_route(take, talk)
    assert taken == [body, body]


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize("chunks", [16_384, 16_385, 16_386])
async def test_what_follows_many_small_chunks_is_read(chunks: int, is_pipelined: bool) -> None:
    """After many small chunks pause reading at any point, the rest and the next request arrive."""
    all_came, taken = asyncio.Event(), []

    async def take(request: web.Request) -> web.StreamResponse:
        # where reading stops
        while not taken and request.content.total_bytes < min(chunks, 16_385):
            await asyncio.sleep(0)
        size_bytes = 0
        async for piece in body_pieces(request, max_bytes=1 << 24):
            size_bytes += len(piece)
            if size_bytes == chunks:
                all_came.set()
        taken.append(size_bytes)
        return WholeAnswer(b"", headers={})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunk, end = b"1\r\na\r\n", b"0\r\n\r\n"
        second = b"POST /it HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"
        writer.write(
            b"POST /it HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * chunks
        )
        if is_pipelined:
            writer.write(end + second)
        else:
            await all_came.wait()
            writer.write(chunk + end + second)
        await reader.read()

    await _with_route(take, talk)
    assert taken == [chunks if is_pipelined else chunks + 1, 1]


@pytest.mark.parametrize("behind", [30, 31, 32, 33, 100])
async def test_requests_behind_a_body_that_came_late_are_answered(behind: int) -> None:
    """Requests that arrive in one piece with the previous body are all answered."""
    is_asked = asyncio.Event()

    async def take(request: web.Request) -> web.StreamResponse:
        is_asked.set()
        return WholeAnswer(
            b"".join([piece async for piece in body_pieces(request, max_bytes=9)]), headers={}
        )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"POST /it HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
        writer.write(head)
        await is_asked.wait()
        writer.write(b"hello" + (head + b"hello") * behind)
        for _ in range(behind + 1):
            await reader.readuntil(b"\r\n\r\nhello")

    await _with_route(take, talk)


@pytest.mark.parametrize("body", [b"", b"b" * 10, b"b" * 300_000])
async def test_requests_behind_answers_that_are_taken_late_are_answered(body: bytes) -> None:
    """A client that sends everything before it reads gets every answer in order."""
    count = 200
    answer = bytes(50_000)

    async def take(request: web.Request) -> web.StreamResponse:
        size_bytes = sum([len(piece) async for piece in body_pieces(request, max_bytes=1 << 24)])
        return WholeAnswer(
            answer, headers={"X-Listed": f"{request.headers['X-Number']} {size_bytes}"}
        )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "POST /it HTTP/1.1\r\nHost: a\r\nX-Number: {}\r\nContent-Length: {}\r\n\r\n"
        for number in range(count):
            writer.write(head.format(number, len(body)).encode() + body)
        for number in range(count):
            reported = await reader.readuntil(b"\r\n\r\n")
            assert f"X-Listed: {number} {len(body)}\r\n".encode() in reported
            await reader.readexactly(len(answer))

    await _with_route(take, talk)


async def _answer(request: web.Request) -> web.StreamResponse:
    return WholeAnswer(b"", headers={})


async def _answer_at_length(request: web.Request) -> web.StreamResponse:
    return WholeAnswer(bytes(32 << 20), headers={})


_ASKED = b"POST /it HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("before", [b"", _ASKED + b"\r\n"], ids=["first", "later"])
async def test_a_head_that_does_not_end_is_given_up(before: bytes) -> None:
    """The node answers 408 and closes the connection if a head is not complete in time (H8)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if before:
            writer.write(before)
            await reader.readuntil(b"\r\n\r\n")
        writer.write(_ASKED)
        reported = await reader.read()
        assert (
            reported
            == b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )

    await _with_route(_answer, talk, head_s=0.05)


async def test_a_head_that_ends_in_time_is_answered() -> None:
    """Each head has its own time limit, and idle time between requests does not count."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            for piece in (_ASKED[:5], _ASKED[5:], b"\r\n"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    await _with_route(_answer, talk, head_s=20)


async def test_a_client_that_takes_nothing_of_an_answer_is_given_up() -> None:
    """A connection whose answer is not read is closed, and counts until then (H8, H9)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_ASKED + b"\r\n")
        address = writer.get_extra_info("peername")
        while True:  # as long as there is no room
            second, sender = await asyncio.open_connection(*address)
            sender.write(b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            reported = b""
            with suppress(ConnectionError):
                reported = await second.read()
            sender.close()
            if reported:
                assert _status(reported) == 404
                return

    await _with_route(_answer_at_length, talk, max_connections=1, unread_answer_s=0.05)


async def _with_route(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    **bounds: float,
) -> None:
    """Serve one route, and let a client use one connection until the client is done."""
    app = web.Application()
    app.router.add_post("/it", handler)
    app[COMMON_HEAD] = CommonHead({})
    bound = bind_socket("127.0.0.1", 0)
    listener = await start_listener(app, bound, Http(drain_s=1, **bounds))  # type: ignore[arg-type]  # by name
    try:
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        await asyncio.wait_for(talk(reader, writer), AT_ONCE_S)
        writer.close()
    finally:
        await listener.stop()


async def test_a_request_gets_no_time_where_none_is_set() -> None:
    """With `http.drain_s = 0`, a stopping node waits for no running request."""
    app, begun = web.Application(), asyncio.Event()

    async def endless(_: web.Request) -> web.Response:
        begun.set()
        return await asyncio.Future[web.Response]()

    app.router.add_get("/it", endless)
    app[COMMON_HEAD] = CommonHead({})
    bound = bind_socket("127.0.0.1", 0)
    listener = await start_listener(app, bound, Http(drain_s=0))
    _, writer = await asyncio.open_connection(*bound.getsockname())
    writer.write(b"GET /it HTTP/1.1\r\nhost: node\r\n\r\n")
    await asyncio.wait_for(begun.wait(), AT_ONCE_S)
    await asyncio.wait_for(listener.stop(), AT_ONCE_S)
    writer.close()


async def test_what_follows_a_refused_head_is_forgotten(
    caller, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that keeps sending after a refusal receives it, and breaks nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(caller.node.url).port)
    line = b"x-long: " + b"a" * 200_000 + b"\r\n"
    writer.write(b"GET /info HTTP/1.1\r\n" + line * (MAX_HEAD_BYTES // len(line)))
    for _ in range(5):
        writer.write(line)
        await writer.drain()
        assert _status(await caller.raw(_request())) == 200  # the node has read the line
    assert _status(await asyncio.wait_for(reader.read(), AT_ONCE_S)) == 431
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    writer.close()


@pytest.mark.parametrize("expected", ["100-continue", "100-Continue"])
async def test_who_waits_with_a_body_is_reported_to_go_on(caller, expected: str) -> None:
    """A client with `Expect: 100-continue` is told to continue, and then gets its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(caller.node.url).port)
    body = b'{"did":"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"}'
    head = f"POST /attestation/challenge HTTP/1.1\r\nhost: node\r\nexpect: {expected}\r\n"
    head += (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection:"
        " close\r\n\r\n"
    )
    writer.write(head.encode())
    assert (
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), AT_ONCE_S)
        == b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    writer.write(body)
    answer = await asyncio.wait_for(reader.read(), AT_ONCE_S)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"nonce"' in answer
    writer.close()
