"""Tests of the limits on open connections."""

import asyncio
import io
import json
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from patience import AT_ONCE_S
from scraped_metrics import numbers

from node.cohort import Cohort
from node.config.tree import Http
from node.http.listener import Connection, ConnectionBounds
from node.logs import configure_logs
from node.metrics.series import BOUNDS
from node.metrics.worker_metrics import WorkerMetrics

BOUNDED = Http(connections_per_client=2, max_connections=5, trusted_proxies=("10.0.0.0/8",))


def test_a_client_has_so_many_connections() -> None:
    """Each client address has its own limit of connections, and a closed connection frees its
    place."""
    bounds = ConnectionBounds(BOUNDED)
    assert [True, True, False] == [bounds.take("192.0.2.7") for _ in range(3)]
    assert bounds.take("192.0.2.8")
    bounds.give_back("192.0.2.7")
    assert [True, False] == [bounds.take("192.0.2.7") for _ in range(2)]


def test_an_ipv6_client_has_a_whole_network() -> None:
    """Addresses of one /64 are one client, as for rate limits."""
    bounds = ConnectionBounds(BOUNDED)
    assert [True, True, False] == [bounds.take(f"2001:db8::{number}") for number in range(3)]
    assert bounds.take("2001:db8:0:1::1")


@pytest.mark.parametrize(
    "peer",
    ["127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "::ffff:127.0.0.1", "::ffff:10.1.2.3", None],
)
def test_who_brings_many_clients_is_bounded_by_the_whole(peer: str | None) -> None:
    """Loopback and trusted proxies are bounded only by the total limit."""
    bounds = ConnectionBounds(BOUNDED)
    assert [True] * 5 + [False] == [bounds.take(peer) for _ in range(6)]
    assert not bounds.take("192.0.2.7")
    bounds.give_back(peer)
    assert bounds.take("192.0.2.7")


def test_no_bound_for_a_client() -> None:
    """With a limit of 0, only the total limit of connections applies to a client."""
    bounds = ConnectionBounds(Http(connections_per_client=0, max_connections=5))
    assert [True] * 5 + [False] == [bounds.take("192.0.2.7") for _ in range(6)]


def test_descriptors_are_left_for_the_store() -> None:
    """If a process may open few files, connections leave some of them free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        bounds = ConnectionBounds(Http())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 72 == sum([bounds.take(None) for _ in range(200)])


def test_what_meets_a_bound_is_counted_and_said_once(tmp_path: Path) -> None:
    """Each closed connection is counted under its setting, and only the first one is logged."""
    stream = io.StringIO()
    configure_logs("info", stream=stream)
    metrics = WorkerMetrics(str(tmp_path), "worker-0")
    bounds = ConnectionBounds(Http(connections_per_client=1, max_connections=2), metrics)
    for _ in range(3):
        bounds.take("192.0.2.7")
    bounds.take("192.0.2.8")
    bounds.take("192.0.2.9")
    bounds.count_closed("http.head_s")
    bounds.count_closed("http.unread_answer_s")
    bounds.count_closed("https-on-http-port")
    assert {
        name: numbers(tmp_path)["sealspace_connections_given_up_total", name] for name in BOUNDS
    } == {
        "http.max_connections": 1,
        "http.connections_per_client": 2,
        "http.head_s": 1,
        "http.unread_answer_s": 1,
        "https-on-http-port": 1,
    }
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(BOUNDS) == sorted(line["bound"] for line in lines)
    assert "192.0.2" not in stream.getvalue()


class _Peer(asyncio.Transport):
    """A client's end of a connection, which reads as much as the test requests."""

    family = socket.AF_UNIX  # of a kind that is not tuned

    def __init__(self, left_bytes: list[int]) -> None:
        super().__init__()
        self._left_bytes = left_bytes
        self.aborted = asyncio.get_running_loop().create_future()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    def setsockopt(self, *_: object) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self._left_bytes.pop(0)

    def pause_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted.set_result(None)


async def _connection(peer: _Peer, act: Callable[[Connection], None]) -> None:
    loop, http = asyncio.get_running_loop(), Http(unread_answer_s=1e-6)
    server = web.Server(lambda _: asyncio.sleep(0, web.Response()))
    bounds = ConnectionBounds(http)
    connection = Connection(server, loop=loop, common=None, cohort=Cohort(), bounds=bounds)
    connection.connection_made(peer)
    act(connection)
    try:
        await asyncio.wait_for(peer.aborted, AT_ONCE_S)
    finally:
        connection.connection_lost(None)


async def test_a_client_that_takes_something_is_waited_for() -> None:
    """The node disconnects only a client that has read nothing since the last check."""
    left_bytes = [90_000, 80_000, 79_999, 79_999]
    await _connection(_Peer(left_bytes), Connection.pause_writing)
    assert left_bytes == []
