"""Incomplete and compressed grants that are sent to a backend."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import create_server

import aiohttp
import pytest
from aiohttp import web
from backend_site import Domain, serving
from deviating_platform import SimulatedPlatform
from patience import AT_ONCE_S

from sealspace.documents.published import GRANTS_PATH
from sealspace.session import key_session
from sealspace.wire.portable import PortableDelegation
from tee_backend.backend import publishing
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of
from tee_backend.listener import ConnectionLimits, listening


def _surface(platform: SimulatedPlatform) -> BackendSurface:
    async def accept(*portables: PortableDelegation) -> None:
        raise AssertionError(portables)

    return BackendSurface(
        Domain(platform, measurements_of("approved")),
        did=key_session(bytes(32)).did,
        manifest={
            "app_id": "com.example",
            "name": "Notes",
            "defaults": False,
            "secrets": {"API_KEY": True},
        },
        on_grant=accept,
    )


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_half_a_grant_is_not_held_for_ever(
    platform: SimulatedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that is sent only in part is answered after a timeout (AT57)."""
    monkeypatch.setattr(publishing, "BODY_S", 0.1)
    async with (
        serving(_surface(platform)) as url,
        _connected(url) as (reader, writer),
        asyncio.timeout(AT_ONCE_S),
    ):
        head = f"POST {GRANTS_PATH} HTTP/1.1\r\nHost: backend\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head.encode() + b"{")
        assert b" 408 " in await reader.readline()


async def test_a_packed_grant_is_not_unpacked(platform: SimulatedPlatform) -> None:
    """A compressed grant is refused and never decompressed (AT57)."""
    sent: list[bytes] = []

    async def note(request: web.Request) -> web.Response:
        sent.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", note)
    _surface(platform).mount(app)
    packed, bound = gzip.compress(b'{"a":1}'), create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    packing = aiohttp.ClientSession(headers={"Content-Encoding": "gzip"})
    async with listening(app, bound, ConnectionLimits()), packing as session:
        async with session.post(url, data=packed):
            assert sent == [packed]
        async with session.post(url + GRANTS_PATH, data=packed) as answer:
            assert answer.status == 400
