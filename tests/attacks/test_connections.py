"""Attacks that use up a worker's memory, connections or time."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attacks.parties import PUT, Stage, stage_on
from deviating_platform import SimulatedPlatform
from running_node import new_key, running_node, send
from stalled_clients import StalledClient, long_heads, resident_bytes

pytestmark = pytest.mark.slow

CLIENTS = 4
VALUE = bytes(8 << 20)
# Rounds in which nobody took a byte, each with a request that the same worker answered: it does not
# read any more.
IDLE_ROUNDS = 50
MiB = 1 << 20


@pytest.fixture
async def narrow(folder: Path, platform: SimulatedPlatform) -> AsyncIterator[Stage]:
    """A node with one worker."""
    with running_node(folder, platform=platform, workers=1) as node:
        async with AsyncExitStack() as clients:
            stage = await stage_on(node.url, platform, clients)
            stage.node = node
            yield stage


async def _value() -> AsyncIterator[bytes]:
    for start in range(0, len(VALUE), MiB):
        yield VALUE[start : start + MiB]


async def _put_public(stage: Stage) -> str:
    """Store a large public value, and return its URL."""
    outsider = new_key()
    space = f"tinycloud:{outsider.did.removeprefix('did:')}:public"
    reply = await stage.invoke(outsider, {f"{space}/kv/large": [PUT]}, body=_value())
    assert reply.status == 200, reply.said
    return f"/public/{space}/kv/large"


async def test_heads_behind_an_unread_answer_take_no_memory(narrow: Stage) -> None:
    """A worker reads no further requests while an answer is unread."""
    assert narrow.node is not None
    path = await _put_public(narrow)
    [worker] = narrow.node.children("worker")
    assert (await send(narrow.url, "GET", path)).body == VALUE
    more = long_heads()
    with ExitStack() as ended:
        clients = [
            StalledClient(urlsplit(narrow.url).port or 0, path, more) for _ in range(CLIENTS)
        ]
        for client in clients:
            ended.callback(client.close)
        before, idle_rounds = resident_bytes(worker), 0
        while idle_rounds < IDLE_ROUNDS and not all(client.is_done for client in clients):
            pushed = sum([client.push() for client in clients])
            assert (await send(narrow.url, "GET", "/healthz")).status == 200
            idle_rounds = 0 if pushed else idle_rounds + 1
        grown = resident_bytes(worker) - before
        assert grown < CLIENTS * 4 * MiB, f"{grown / MiB:.0f} MiB for {CLIENTS} connections"
        assert [False] * CLIENTS == [client.is_done or client.is_ended for client in clients]
        assert all(client.sent_bytes > 1 << 18 for client in clients)
        _, _, answer = clients[0].read_all().partition(b"\r\n\r\n")
        assert answer[: len(VALUE)] == VALUE
        assert answer[len(VALUE) :][:13] == b"HTTP/1.1 431 "
