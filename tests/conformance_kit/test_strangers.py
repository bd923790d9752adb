"""The kit against servers that are no node, stop answering, or lie."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from patience import PATIENCE_S
from relay import Answer, relay_before
from sealspace_conformance import transport
from sealspace_conformance.__main__ import main
from sealspace_conformance.catalogue import run_groups
from sealspace_conformance.report import FAILED, exit_status, shown

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_TIMEOUT_S = 0.4


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """Run a server that gets each connection after its request's head."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the kit has left
        finally:
            writer.close()

    listening = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield f"http://127.0.0.1:{port}"


def answering(body: bytes, *, head: bytes = b"") -> Serve:
    """Return a server of one answer."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + head)
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    return serve


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the beginning of an answer, and wait until the kit has left."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na")
    await writer.drain()
    await reader.read()


async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send what is not HTTP."""
    writer.write(b"\x00\xffSSH-2.0\r\n\r\n" * 10)
    await writer.drain()


async def long_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a header without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()


NO_NODES = {
    "another service": answering(b"<html>"),
    "a list": answering(b"[]"),
    "deep JSON": answering(b"[" * 100_000),
    "a protocol of true": answering(b'{"protocol":true,"nodeId":"did:key:z"}'),
    "another protocol": answering(b'{"protocol":2,"nodeId":"did:key:z"}'),
    "no DID": answering(b'{"protocol":1,"nodeId":"node"}'),
    "bytes that are no text": answering(b"\xff\xfe{"),
    "a false encoding": answering(b"{}", head=b"content-encoding: gzip\r\n"),
    "an endless body": endless,
    "a slow body": slow,
    "no HTTP": garbage,
    "an endless header": long_head,
}


@pytest.mark.parametrize("kind", NO_NODES)
async def test_a_server_that_is_no_node(kind: str) -> None:
    """A server that is no node gets one row, which failed, within its bounds."""
    async with server(NO_NODES[kind]) as url:
        run, is_node = await run_groups(url, timeout_s=_TIMEOUT_S)
    assert not is_node
    assert [row.verdict for row in run.rows] == [FAILED]


async def test_an_endless_body_is_cut() -> None:
    """An endless answer ends at its bound of bytes, long before the time for it."""
    async with server(endless) as url:
        run, _ = await run_groups(url, timeout_s=PATIENCE_S)
    assert [row.seen for row in run.rows] == ["an answer of more than 4194304 bytes"]


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server the exit status is 2, and a row says why."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        assert main([url]) == 2
    said = capsys.readouterr()
    assert "no usable answer" in said.out
    assert "next:" in said.err


def test_an_address_without_a_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is no URL is refused with an example."""
    assert main(["localhost"]) == 2
    assert "next:" in capsys.readouterr().err


@pytest.mark.parametrize("after", [1, 3, 20])
async def test_a_node_that_stops_answering(node_url: str, after: int) -> None:
    """After three requests without an answer the run ends with a row that says so."""
    async with _stopping(node_url, after) as (url, connections):
        run, is_node = await run_groups(url, timeout_s=_TIMEOUT_S)
    assert is_node
    assert exit_status(run.rows) == 1
    assert run.rows[-1].seen == "the node stopped answering"
    assert len(connections) <= after + 6


@asynccontextmanager
async def _stopping(node_url: str, after: int) -> AsyncIterator[tuple[str, list[int]]]:
    """Pass connections on to a node, and close those after the first few. The kit sends each
    request on a connection of its own."""
    port = int(node_url.rpartition(":")[2])
    connections: list[int] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        if len(connections) > after:
            writer.close()
            return
        from_node, to_node = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.create_task(_pipe(reader, to_node))
        await _pipe(from_node, writer)
        there.cancel()
        to_node.close()

    listening = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", connections


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


UNJUDGED = "could not be judged"


async def test_a_node_that_lies_about_everything() -> None:
    """A node whose answers to all but `/info` are another JSON value fails rows, and each check
    judges them."""
    for value in (b"[]", b"7", b'{"cid":[],"items":7,"results":[1],"keys":{}}'):
        async with server(_liar(value)) as url:
            run, is_node = await run_groups(url, timeout_s=_TIMEOUT_S)
        assert is_node
        assert exit_status(run.rows) == 1
        assert [row for row in run.rows if UNJUDGED in row.seen] == []


@pytest.mark.parametrize("first", [0, 3])
async def test_answers_of_other_types(node_url: str, first: int) -> None:
    """Answers of a node whose members have other types fail rows, and each check judges them."""
    others = itertools.cycle([None, 7, "x", [], {}, [1], {"a": 1}, [{"b": []}]])
    for _ in range(first):
        next(others)

    def twist(answer: Answer) -> None:
        value = _json(answer.body)
        if answer.path == "/info" or not isinstance(value, dict):
            return
        for name in value:
            # Every other answer keeps what the following requests are made of.
            if name not in ("cid", "activated", "skipped") and next(others) is not None:
                value[name] = next(others)
        answer.body = json.dumps(value).encode()

    async with relay_before(node_url) as relay:
        relay.twist = twist
        run, is_node = await run_groups(relay.url)
    assert is_node
    assert exit_status(run.rows) == 1
    assert [row for row in run.rows if UNJUDGED in row.seen] == []


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _liar(value: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # the head was read already, so which route it was is told by the order: /info is first
        del reader
        body = _INFO if not _asked else value
        _asked.append(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    _asked: list[int] = []
    return serve


_INFO = json.dumps(
    {
        "protocol": 1,
        "nodeId": "did:key:z6MkrUU",
        "oidcDid": "x",
        "attestation": "off",
        "features": 7,
    }
).encode()


async def test_no_request_goes_to_another_host(node_url: str) -> None:
    """A node cannot direct the kit to another host by a path that continues its address."""
    reached: list[int] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(1)

    async with server(note) as elsewhere, relay_before(node_url) as relay:

        def twist(answer: Answer) -> None:
            if answer.path == "/signed/kv":
                answer.change(url=elsewhere.replace("http://", "@") + "/signed/kv/x")

        relay.twist = twist
        run, _ = await run_groups(relay.url, only=["signed-urls", "more-revocations"])
    assert "the node gave an address that is not a path" in {row.seen for row in run.rows}
    assert reached == []


def test_foreign_text_is_harmless() -> None:
    """Text of a server is shortened and has no control characters."""
    text = shown("\x1b[31mred\x07\n\u202e" + "a" * 5000)
    assert text.isprintable()
    assert len(text) < 400


def test_bounds() -> None:
    """The bounds of an answer are what the page says."""
    assert (transport.TIMEOUT_S, transport.MOST_BYTES) == (10.0, 4 * 1024 * 1024)
