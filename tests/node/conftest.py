"""Fixtures: a node on loopback for each test, and requests as raw bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from patience import AT_ONCE_S
from running_node import Reply
from serving_node import Serve, serve_at
from tests_support import CountingEntropy, FixedClock

from node.config.tree import Config, Http
from node.logs import configure_logs


class Caller:
    """Sends requests to one node."""

    def __init__(self, node: EmbeddedNode, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        url = self.node.url + path
        skip = () if body is None or (headers and "Content-Type" in headers) else ("Content-Type",)
        async with self.session.request(
            method, url, headers=headers, data=body, skip_auto_headers=skip
        ) as answer:
            lowered = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, lowered, await answer.read())

    async def raw(self, request: bytes) -> bytes:
        """Send bytes on a new connection, and return everything until it closes."""
        port = urlsplit(self.node.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), AT_ONCE_S)
        finally:
            writer.close()


def config_for(folder: Path, **http: object) -> Config:
    return Config(http=Http(port=0, drain_s=1, **http), store=store_at(folder))  # type: ignore[arg-type]  # by name


@pytest.fixture
async def caller(
    tmp_path: Path, clock: FixedClock, entropy: CountingEntropy
) -> AsyncIterator[Caller]:
    """A node with default settings."""
    async with (
        embedded_node(config_for(tmp_path), clock=clock, entropy=entropy) as node,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(node, session)


@pytest.fixture
def call_with(tmp_path: Path) -> Callable[..., Awaitable[Reply]]:
    """Return a function that sends one request to a node with other HTTP settings."""

    async def call(
        method: str, path: str, *, headers: dict[str, str] | None = None, **http: object
    ) -> Reply:
        async with (
            embedded_node(config_for(tmp_path, **http)) as node,
            aiohttp.ClientSession() as session,
        ):
            return await Caller(node, session).send(method, path, headers=headers)

    return call


@pytest.fixture
def serve(tmp_path: Path, clock: FixedClock) -> Serve:
    """Return a function that runs a node with sections of the settings, always on one folder."""
    return serve_at(tmp_path, clock)


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    """A simulated platform with its own root certificate."""
    return SimulatedPlatform.from_seed(b"tests of the node")


@pytest.fixture
def other_root(tmp_path: Path, platform: SimulatedPlatform) -> Path:
    """A file with a root certificate other than Intel's."""
    path = tmp_path / "root.pem"
    path.write_text(platform.root_pem)
    return path


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Restore logging to standard error after the test."""
    yield
    configure_logs("info")
