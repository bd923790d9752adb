"""Fixtures: owners of databases who call a node on loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sql_caller import Databases, databases_at
from tests_support import FixedClock

from node.config.tree import Sql


@pytest.fixture
async def owner(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Databases]:
    """An owner of databases without a quota, whose statements have time on a loaded machine."""
    async with databases_at(tmp_path, clock, sql=Sql(read_s=60, write_s=60)) as made:
        yield made
