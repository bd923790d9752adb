"""A node for all tests of the kit."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from embedded_node import embedded_node
from engines import store_at
from patience import PATIENCE_S

from node.config.tree import Config, Http, Limits


def node_of_the_day(folder: Path, **sections: Any) -> AbstractContextManager[str]:
    """Run a node with the system's clock in a thread; yield its address."""
    return running(
        Config(store=store_at(folder / "data"), http=Http(port=0, drain_s=0), **sections)
    )


@contextmanager
def running(config: Config) -> Iterator[str]:
    """Run a node with the system's clock in a thread; yield its address."""
    is_up = threading.Event()
    started: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with embedded_node(config) as node:
            started.append((node.url, asyncio.get_running_loop(), stop))
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert is_up.wait(PATIENCE_S)
    url, loop, stop = started[0]
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="module")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node for one file of tests, which attests more often than one client may."""
    limits = Limits(challenges_per_minute=10_000)
    with node_of_the_day(tmp_path_factory.mktemp("node"), limits=limits) as url:
        yield url


@pytest.fixture
def node_with(tmp_path: Path) -> Callable[..., Any]:
    """A function that runs a node with some sections of the settings."""
    return lambda **sections: node_of_the_day(tmp_path, **sections)
