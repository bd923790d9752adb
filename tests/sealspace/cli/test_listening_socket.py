"""Tests of the listening socket if its address is in use."""

import asyncio
import socket
import subprocess
from collections.abc import Callable

import pytest
from aiohttp import web

from node.config.tree import Http
from node.http.listener import start_listener
from sealspace.service.command_errors import ConfigurationError
from sealspace.service.listening_socket import begin_to_listen, bind_socket, process_at


def _uvloop() -> asyncio.AbstractEventLoop:
    return pytest.importorskip("uvloop").new_event_loop()


def test_a_taken_port_is_refused() -> None:
    """Binding an address that is in use fails and names the process."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError) as refused,
    ):
        bind_socket("127.0.0.1", port := taken.getsockname()[1])
    assert "is already listening there" in refused.value.message
    assert refused.value.hint == f"stop that process, or sealspace serve --port {port + 1}"
    with pytest.raises(ConfigurationError) as refused:
        bind_socket("192.0.2.1", 0)
    assert "--host" in refused.value.hint


def test_the_process_is_named() -> None:
    """The listening process is found by its port; the own process is not reported."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert process_at(port) == ""
        inherits = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(taken.fileno(),))
        with inherits:
            assert process_at(port) == f"process {inherits.pid} (cat)"
    assert process_at(port) == ""


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def test_two_that_start_at_once(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """If two nodes have bound one address, the second fails when it listens, on any event loop."""
    loop = make_loop()
    with (
        bind_socket("127.0.0.1", 0) as first,
        bind_socket("127.0.0.1", first.getsockname()[1]) as second,
    ):
        begin_to_listen(first, 1)
        with pytest.raises(ConfigurationError, match="is already listening there"):
            loop.run_until_complete(start_listener(web.Application(), second, Http()))
    loop.close()
