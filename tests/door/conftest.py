"""A node for tests of doors."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_stage import DoorBench, door_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DoorBench]:
    """A node with default settings, and its clients."""
    async with door_bench(tmp_path) as bench:
        yield bench
