"""Fixtures: a node and people who delegate."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from delegation_bench import Delegating
from embedded_node import embedded_node
from engines import store_at
from tests_support import FixedClock

from node.config.tree import Config, Http

Meet = Callable[..., AbstractAsyncContextManager[Delegating]]


@pytest.fixture
def meet(tmp_path: Path, clock: FixedClock) -> Meet:
    """Run a node on this test's folder, with sections of the configuration by name."""

    @asynccontextmanager
    async def run(**sections: Any) -> AsyncIterator[Delegating]:
        config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path), **sections)
        async with embedded_node(config, clock=clock) as node, aiohttp.ClientSession() as session:
            yield Delegating(node, session, clock)

    return run


@pytest.fixture
async def people(meet: Meet) -> AsyncIterator[Delegating]:
    """People at a node with default settings."""
    async with meet() as them:
        yield them
