"""Tests of requests to servers that fail in different ways."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from held_ports import held_ports

from sealspace.errors import InvalidInput, NodeTimeout, NodeUnreachable, NotFound, ResponseTooLarge
from sealspace.wire.transport import Request, Transport, TransportSettings, path_segment

SETTINGS = TransportSettings(timeout_s=2, tries=3, backoff_s=0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run a server that answers every request by one function."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def tokens() -> Callable[[], str]:
    """Return a function that makes token-1, token-2 and so on."""
    count = iter(range(1, 100))
    return lambda: f"token-{next(count)}"


async def test_every_try_has_a_token_of_its_own() -> None:
    """The client retries at a busy node with a new token each time."""
    seen: list[str] = []

    async def busy_twice(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=503 if len(seen) < 3 else 200, body=b"done")

    async with serving(busy_twice) as url, Transport(url, settings=SETTINGS) as transport:
        answer = await transport.require(Request("POST", "/invoke", mint=tokens()))
    assert answer.body == b"done"
    assert seen == ["token-1", "token-2", "token-3"]


async def test_a_node_that_stays_busy_is_given_up() -> None:
    """After the last retry, the client raises the busy node's error."""

    async def busy(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    async with serving(busy) as url, Transport(url, settings=SETTINGS) as transport:
        assert (await transport.exchange(Request("POST", "/invoke", mint=tokens()))).status == 503


async def test_what_serves_once_is_sent_once() -> None:
    """A body whose token a 503 used up is not sent again."""
    seen: list[str] = []

    async def busy(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=503)

    async with serving(busy) as url, Transport(url, settings=SETTINGS) as transport:
        request = Request("POST", "/attestation/sessions", mint=tokens(), serves_once=True)
        assert (await transport.exchange(request)).status == 503
    assert seen == ["token-1"]


@pytest.mark.parametrize(("repeatable", "tries"), [(False, 1), (True, 3)])
async def test_a_broken_connection_is_repeated_only_where_that_is_harmless(
    repeatable: bool, tries: int
) -> None:
    """A request is repeated after a broken connection only if a repetition is harmless."""
    seen: list[str] = []

    async def hang_up(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with serving(hang_up) as url, Transport(url, settings=SETTINGS) as transport:
        with pytest.raises(NodeUnreachable):
            await transport.exchange(
                Request("POST", "/invoke", mint=tokens(), repeatable=repeatable)
            )
    assert [f"token-{number}" for number in range(1, tries + 1)] == seen


async def test_a_broken_put_is_not_repeated_by_the_library() -> None:
    """The HTTP library does not repeat a PUT with a used token."""
    seen: list[str] = []

    async def hang_up_on_puts(request: web.Request) -> web.Response:
        if request.method == "PUT":
            seen.append(request.headers["Authorization"])
            assert request.transport is not None
            request.transport.close()
        return web.Response()

    async with serving(hang_up_on_puts) as url, Transport(url, settings=SETTINGS) as transport:
        await transport.exchange(Request("GET", "/info"))
        with pytest.raises(NodeUnreachable):
            await transport.exchange(Request("PUT", "/policy", mint=tokens()))
    assert seen == ["token-1"]


async def test_a_node_that_does_not_answer_times_out() -> None:
    """A request to a node that does not answer times out."""
    released = asyncio.Event()

    async def stall(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(stall) as url:
        async with Transport(
            url, settings=TransportSettings(timeout_s=0.05, tries=2, backoff_s=0)
        ) as transport:
            with pytest.raises(NodeTimeout):
                await transport.exchange(Request("POST", "/invoke", mint=tokens()))
        released.set()


async def test_nobody_listens() -> None:
    """A refused connection raises an error of its own."""
    with held_ports(1) as (port,):
        async with Transport(f"http://127.0.0.1:{port}", settings=SETTINGS) as transport:
            with pytest.raises(NodeUnreachable) as refusal:
                await transport.exchange(Request("GET", "/info"))
    assert refusal.value.hint


async def test_an_answer_is_read_up_to_its_bound() -> None:
    """The client reads an answer only up to its size limit."""

    async def endless(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 4096)

    async with serving(endless) as url, Transport(url, settings=SETTINGS) as transport:
        assert (
            len((await transport.exchange(Request("GET", "/", max_answer_bytes=4096))).body) == 4096
        )
        with pytest.raises(ResponseTooLarge):
            await transport.exchange(Request("GET", "/", max_answer_bytes=4095))


async def test_bodies_come_as_they_are_stored() -> None:
    """The client does not decompress a body, because a stored `Content-Encoding` is metadata."""
    packed = gzip.compress(b"hello")

    async def stored(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(stored) as url, Transport(url, settings=SETTINGS) as transport:
        assert packed == (await transport.exchange(Request("GET", "/"))).body


async def test_redirects_are_not_followed() -> None:
    """The client follows no redirect, so that no token reaches another server."""
    paths: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with serving(elsewhere) as url, Transport(url, settings=SETTINGS) as transport:
        assert (await transport.exchange(Request("POST", "/invoke", mint=tokens()))).status == 307
    assert paths == ["/invoke"]


async def test_encoded_paths_arrive_as_encoded() -> None:
    """An id in a path is sent as one encoded segment."""
    paths: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response(status=404)

    segment = path_segment("urn:tinycloud:encryption:did:key:zX#zX:default/é")
    async with serving(echo) as url, Transport(f"{url}/below/", settings=SETTINGS) as transport:
        with pytest.raises(NotFound):
            await transport.require(Request("GET", f"/encryption/networks/{segment}"))
    expected = "urn%3Atinycloud%3Aencryption%3Adid%3Akey%3AzX%23zX%3Adefault%2F%C3%A9"
    assert [f"/below/encryption/networks/{expected}"] == paths


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node.example",
        "ftp://node.example",
        "http://node.example",
        "http://10.0.0.1:8000",
        "https://user@node.example",
        "https://node.example/?a=1",
        "https://node.example/#a",
        "http://[::1",
        "https://",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """Plain HTTP addresses are refused except for this machine."""
    with pytest.raises(InvalidInput):
        Transport(url)


@pytest.mark.parametrize(
    "url", ["https://node.example/", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"]
)
def test_addresses_that_are_taken(url: str) -> None:
    """A node's address may end with a slash, which is dropped."""
    assert url.rstrip("/") == Transport(url).url


def test_plain_http_can_be_allowed() -> None:
    """A caller can allow plain HTTP."""
    assert (
        Transport("http://node:8000", settings=TransportSettings(allow_plain_http=True)).url
        == "http://node:8000"
    )
