"""Attacks by client addresses in other spellings, such as IPv4-mapped ones or ones with a port."""

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from embedded_node import embedded_node
from engines import store_at
from running_node import send
from tests_support import FixedClock

from capabilities.clock_and_entropy import SystemClock
from node.config.tree import Config, Http, Limits


def _has_both() -> bool:
    """Return whether this machine has sockets that accept both IPv4 and IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as listening:
            listening.bind(("::", 0))
            listening.listen()
            with socket.create_connection(("127.0.0.1", listening.getsockname()[1])):
                return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_both(), reason="no socket here listens on both families")
async def test_a_proxy_is_known_under_either_address(tmp_path: Path) -> None:
    """A trusted IPv4 proxy is recognised by its IPv4-mapped address."""
    http = Http(
        host="::", port=0, drain_s=0, trusted_proxies=("127.0.0.1",), connections_per_client=2
    )
    config = Config(
        http=http, store=store_at(tmp_path), limits=Limits(unauthenticated_per_minute=2)
    )
    async with embedded_node(config, clock=FixedClock(SystemClock().now())) as node:
        port = urlsplit(node.url).port or 0
        url = f"http://127.0.0.1:{port}"
        statuses = {
            client: [
                (
                    await send(
                        url, "POST", "/invoke", token="none", headers={"X-Forwarded-For": client}
                    )
                ).status
                for _ in range(3)
            ]
            for client in ("192.0.2.1", "192.0.2.2")
        }
        assert list(statuses.values()) == [[401, 401, 429]] * 2
        with ExitStack() as ended:
            for _ in range(4):
                ended.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert (await send(url, "GET", "/info")).status == 200


@pytest.mark.parametrize(
    "spelling", ["192.0.2.1:{}", "[2001:db8::1]:{}", "192.0.2.1:{}, 127.0.0.1:99"]
)
async def test_a_port_makes_no_other_client(tmp_path: Path, spelling: str) -> None:
    """A forwarded address counts as one client, whatever its port is."""
    http = Http(port=0, drain_s=0, trusted_proxies=("127.0.0.1",))
    config = Config(
        http=http, store=store_at(tmp_path), limits=Limits(unauthenticated_per_minute=2)
    )
    async with embedded_node(config, clock=FixedClock(SystemClock().now())) as node:
        replies = [
            (
                await send(
                    node.url,
                    "POST",
                    "/invoke",
                    token="none",
                    headers={"X-Forwarded-For": spelling.format(port)},
                )
            )
            for port in range(5000, 5003)
        ]
        assert [reply.status for reply in replies] == [401, 401, 429]
        other = {"X-Forwarded-For": "192.0.2.2:5000"}
        assert (await send(node.url, "POST", "/invoke", token="none", headers=other)).status == 401
