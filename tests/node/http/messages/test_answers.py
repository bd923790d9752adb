"""Tests that answers sent in one write equal the framework's own answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from patience import AT_ONCE_S

from node.config.tree import Http
from node.http.app import common_headers, set_headers
from node.http.listener import start_listener
from node.http.messages.common_head import COMMON_HEAD, CommonHead
from node.http.messages.http_answers import WholeAnswer, empty_answer, json_answer
from sealspace.service.listening_socket import bind_socket

HEADERS = {
    "none": {},
    "a type": {"Content-Type": "text/plain"},
    "metadata": {"content-type": "image/png", "x-tinycloud-meta-a": "b", "ETag": '"blake3-00"'},
    "an empty value": {"x-tinycloud-meta-a": ""},
    "a header that is set for all": {"Server": "other", "X-Frame-Options": "DENY"},
    "not ASCII": {"x-tinycloud-meta-a": "gr\u00fc\u00df"},
    "a tab": {"x-tinycloud-meta-a": "a\tb"},
    "a length of its own": {"Content-Length": "2"},
}
REQUESTS = {
    "kept": b"GET /it HTTP/1.1\r\nHost: a\r\n\r\n",
    "closed": b"GET /it HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HEAD": b"HEAD /it HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET /it HTTP/1.0\r\n\r\n",
    "HTTP/1.0, kept": b"GET /it HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}


@asynccontextmanager
async def answering(
    make: Callable[[], web.StreamResponse], *, is_whole: bool, http: Http
) -> AsyncIterator[int]:
    """Serve an answer on `/it` and yield the port."""

    async def give(_request: web.Request) -> web.StreamResponse:
        return make()

    app = web.Application()
    app.router.add_get("/it", give)
    app.on_response_prepare.append(set_headers(http))
    if is_whole:
        app[COMMON_HEAD] = CommonHead(common_headers(http))
    bound = bind_socket("127.0.0.1", 0)
    port = bound.getsockname()[1]
    listener = await start_listener(app, bound, http)
    try:
        yield port
    finally:
        await listener.stop()


async def asked(port: int, request: bytes) -> tuple[bytes, set[tuple[str, str]], bytes, bool]:
    """Send a request; return the first line, headers, body, and whether the connection stayed
    open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), AT_ONCE_S)
        line, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")[:-2]
        pairs = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in lines)]
        assert len(pairs) == len(dict(pairs))  # nothing is said twice
        length = (
            int(dict(pairs).get("content-length", "0")) if not request.startswith(b"HEAD") else 0
        )
        body = await asyncio.wait_for(reader.readexactly(length), AT_ONCE_S)
        writer.write(b"GET /it HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), AT_ONCE_S)
        return (
            line.encode(),
            {(name, _blurred(name, value)) for name, value in pairs},
            body,
            bool(rest),
        )
    finally:
        writer.close()


def _blurred(name: str, value: str) -> str:
    """Replace values that differ from answer to answer by their form."""
    if name == "date":
        return str(parsedate_to_datetime(value).tzinfo)
    return re.sub("[0-9a-f]{32}", "#", value) if name == "tinycloud-trace-id" else value


@pytest.mark.parametrize("cors", [False, True])
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_both_ways_say_the_same(headers: Mapping[str, str], cors: bool) -> None:
    """The fast and the framework's way of sending give the same answer."""
    http = Http(drain_s=1, cors=cors)
    said = []
    for is_whole in (True, False):
        async with answering(
            lambda: WholeAnswer(b"ok", headers=headers), is_whole=is_whole, http=http
        ) as port:
            said.append(
                {name: await asked(port, request_bytes) for name, request_bytes in REQUESTS.items()}
            )
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("make", "status", "body"),
    [
        (lambda: json_answer({"a": 1}), 200, b'{"a":1}'),
        (lambda: json_answer([], status=404), 404, b"[]"),
        (empty_answer, 200, b""),
        (lambda: empty_answer(204), 204, b""),
    ],
)
async def test_shapes_of_answers(
    make: Callable[[], web.Response], status: int, body: bytes
) -> None:
    """JSON answers have their content type and empty ones have none, with any status."""
    async with answering(make, is_whole=True, http=Http(drain_s=1)) as port:
        line, headers, said, is_kept = await asked(port, REQUESTS["kept"])
    assert line.startswith(b"HTTP/1.1 %d " % status) and is_kept
    assert body == said
    assert dict(headers).get("content-type") == ("application/json" if body else None)


_TEXTS = (
    st.text(max_size=8)
    | st.sampled_from(["a", "Server", "DATE", "\x7f", "a" * 300])
    | st.text("a\r\n\t\x85 é")
)


@given(headers=st.dictionaries(_TEXTS, _TEXTS, max_size=4))
def test_remembered_lines_are_those_of_the_headers(headers: dict[str, str]) -> None:
    """Cached header lines equal the headers; headers of the framework are left to it."""
    common = CommonHead({"Server": "x", "X-A": "y"})
    ours = {
        "server",
        "x-a",
        "date",
        "connection",
        "content-length",
        "transfer-encoding",
        "tinycloud-trace-id",
    }
    is_plain = all(
        text.isascii() and text.isprintable() for pair in headers.items() for text in pair
    )
    expected = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for _ in range(2):
        lines = common.own_lines(headers)
        assert lines == (
            expected if is_plain and ours.isdisjoint(map(str.lower, headers)) else None
        )


async def test_a_client_that_reads_late_gets_everything() -> None:
    """A client that sends many requests before it reads gets every answer."""
    body, count = bytes(range(256)) * 4096, 8
    async with answering(
        lambda: WholeAnswer(body, headers={}), is_whole=True, http=Http(drain_s=1)
    ) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(REQUESTS["kept"] * (count - 1) + REQUESTS["closed"])
        for _ in range(count):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), AT_ONCE_S)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await asyncio.wait_for(reader.readexactly(len(body)), AT_ONCE_S) == body
        assert await asyncio.wait_for(reader.read(), AT_ONCE_S) == b""
        writer.close()


async def test_a_client_that_goes_away_harms_nobody() -> None:
    """A client that disconnects within its answers affects only its own connection."""
    body = bytes(1 << 20)
    async with answering(
        lambda: WholeAnswer(body, headers={}), is_whole=True, http=Http(drain_s=1)
    ) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS["kept"] * 16)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), AT_ONCE_S)
        writer.transport.abort()
        line, _, said, is_kept = await asked(port, REQUESTS["kept"])
    assert line.startswith(b"HTTP/1.1 200 ") and is_kept
    assert said == body


async def test_no_header_ends_a_line() -> None:
    """A header value with a line break is not sent: the answer is a 500 without it."""
    headers = {"x-tinycloud-meta-a": "b\r\nSet-Cookie: c"}
    async with answering(
        lambda: WholeAnswer(b"ok", headers=headers), is_whole=True, http=Http(drain_s=1)
    ) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS["kept"])
        said = await asyncio.wait_for(reader.read(), AT_ONCE_S)
        writer.close()
    assert b"Set-Cookie" not in said
    assert said == b"" or said.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("target", ["/invoke", "/invoke/", "/invoke?x=1", "http://node/invoke"])
async def test_every_spelling_of_a_path_is_found(caller, target: str) -> None:
    """Other spellings of a fixed path are found, with the same answer."""
    request = (
        f"POST {target} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert (await caller.raw(request.encode())).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "request_line",
    ["GET /invoke", "POST /INVOKE", "POST //invoke", "POST /invoke/x", "POST /%69nvoke"],
)
async def test_what_is_no_such_route_stays_none(caller, request_line: str) -> None:
    """Another method, another path and an escaped spelling are not found (H10)."""
    request = (
        f"{request_line} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert (await caller.raw(request.encode())).startswith(b"HTTP/1.1 404 ")


async def test_requests_in_a_row_are_answered_in_their_order(caller) -> None:
    """Pipelined requests are answered in order."""
    targets = ["/healthz", "/nothing", "/info", "/healthz", "/nothing"]
    lines = [f"GET {target} HTTP/1.1\r\nHost: node\r\n" for target in targets]
    said = await caller.raw(
        "\r\n".join([*lines[:-1], lines[-1] + "Connection: close\r\n", ""]).encode()
    )
    assert [b"200", b"404", b"200", b"200", b"404"] == re.findall(rb"HTTP/1.1 (\d+) ", said)
