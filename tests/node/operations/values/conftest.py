"""Fixtures: owners who call a node on loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kv_client import Owner, owner_at
from tests_support import FixedClock

from node.config.tree import Hosting, Http


@pytest.fixture
async def owner(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Owner]:
    """An owner of spaces at a node with default settings."""
    async with owner_at(tmp_path, clock, http=Http(port=0, drain_s=0), hosting=Hosting()) as made:
        yield made


@pytest.fixture
async def limited(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Owner]:
    """An owner at a node whose values have at most 300,000 bytes."""
    http = Http(port=0, drain_s=0, max_body_bytes=300_000)
    async with owner_at(tmp_path, clock, http=http, hosting=Hosting()) as made:
        yield made


@pytest.fixture
async def small(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Owner]:
    """An owner at a node whose spaces have at most 200,000 bytes."""
    hosting = Hosting(default_quota_bytes=200_000)
    async with owner_at(tmp_path, clock, http=Http(port=0, drain_s=0), hosting=hosting) as made:
        yield made


@pytest.fixture
async def impatient(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Owner]:
    """An owner at a node that waits only briefly for a body."""
    http = Http(port=0, drain_s=0, idle_body_s=0.2)
    async with owner_at(tmp_path, clock, http=http, hosting=Hosting()) as made:
        yield made
