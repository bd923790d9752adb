"""Tests of cohorts, in which concurrent requests run stage by stage."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from patience import AT_ONCE_S, PATIENCE_S

from node.cohort import COHORT, Cohort
from node.config.tree import Http
from node.http.listener import start_listener
from node.http.messages.http_answers import WholeAnswer
from node.http.messages.route import Route, bind
from sealspace.service.listening_socket import bind_socket

CLIENTS = 5
REQUEST = b"GET /it HTTP/1.1\r\nHost: a\r\n\r\n"


def lets_others(cohort: Cohort) -> bool:
    """Return whether a new request would yield to others."""

    async def ask() -> None:
        await cohort.yield_to_cohort()

    asking = ask()
    try:
        asking.send(None)
    except StopIteration:
        return False
    asking.close()
    return True


@asynccontextmanager
async def listening(handler: Any, cohort: Cohort) -> AsyncIterator[tuple[str, int]]:
    """Serve a handler on `/it`, registered like our routes, and return the address."""
    app = web.Application()
    app[COHORT] = cohort
    app.router.add_get("/it", bind(Route("GET", "/it", handler), cohort))
    bound = bind_socket("127.0.0.1", 0)
    listener = await start_listener(app, bound, Http(drain_s=1))
    try:
        yield bound.getsockname()
    finally:
        await listener.stop()


async def nobody_is_left(cohort: Cohort) -> None:
    """Wait until all requests are answered or abandoned."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            cohort.arrived(1)
            is_alone = not lets_others(cohort)
            cohort.answered(1)
            if is_alone:
                return
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("arrived", "answered", "waits"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (3, 1, True), (3, 2, False)],
)
def test_only_who_is_not_alone_waits(arrived: int, answered: int, waits: bool) -> None:
    """A request yields only if others are waiting."""
    cohort = Cohort()
    cohort.arrived(arrived)
    cohort.answered(answered)
    assert lets_others(cohort) == waits


async def test_requests_that_came_together_go_together() -> None:
    """Concurrent requests all complete the first stage before any of them begins the second."""
    cohort, steps = Cohort(), list[str]()

    async def handler(request: web.Request) -> web.StreamResponse:
        steps.append("first")
        await cohort.yield_to_cohort()
        steps.append("second")
        return WholeAnswer(b"ok", headers={})

    async with listening(handler, cohort) as address:
        with ExitStack() as opened:
            clients = [
                opened.enter_context(socket.create_connection(address)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.setblocking(False)
            loop = asyncio.get_running_loop()
            await asked(loop, clients)  # every connection is served now
            steps.clear()
            await asked(loop, clients)
    assert steps == ["first"] * CLIENTS + ["second"] * CLIENTS
    await nobody_is_left(cohort)


async def asked(loop: asyncio.AbstractEventLoop, clients: list[socket.socket]) -> None:
    """Send a request from each client before any is handled, and return the answers."""
    for client in clients:
        client.send(REQUEST)
    for client in clients:
        said = b""
        while not said.endswith(b"\r\n\r\nok"):
            said += await asyncio.wait_for(loop.sock_recv(client, 4096), AT_ONCE_S)


async def test_pipelined_requests_are_each_answered() -> None:
    """Pipelined requests are counted one by one, and none remains counted."""
    cohort = Cohort()

    async def handler(request: web.Request) -> web.StreamResponse:
        return WholeAnswer(b"ok", headers={})

    async with listening(handler, cohort) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST * 7)
        for _ in range(7):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), AT_ONCE_S)
        await nobody_is_left(cohort)
        writer.write(b"no request\r\n\r\n")
        await asyncio.wait_for(reader.read(), AT_ONCE_S)
        writer.close()
        await nobody_is_left(cohort)


@pytest.mark.parametrize("requests", [1, 3])
async def test_who_goes_away_is_not_waited_for(requests: int) -> None:
    """A closed connection discounts its requests, whether answered, waiting or half sent."""
    cohort, is_asked, may_answer = Cohort(), asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        is_asked.set()
        await may_answer.wait()
        return WholeAnswer(b"ok", headers={})

    async with listening(handler, cohort) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST * requests + b"GET /it HTTP")
        await asyncio.wait_for(is_asked.wait(), PATIENCE_S)
        cohort.arrived(1)
        assert lets_others(cohort)
        cohort.answered(1)
        writer.transport.abort()
        await nobody_is_left(cohort)
        may_answer.set()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), AT_ONCE_S)
        writer.close()
    await nobody_is_left(cohort)
