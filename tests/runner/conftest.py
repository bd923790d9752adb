"""An executor that the tests of a module share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from runner.guest.executor import Executor


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def executor() -> AsyncIterator[Executor]:
    """An executor with one child at a time, and one spare."""
    async with Executor(children=1, spare=1) as one:
        yield one
