"""Nodes for the replay of recorded exchanges."""

from collections.abc import AsyncIterator

import pytest_asyncio
from conformance.replay_node import ReplayNodes

from node.config.tree import Hosting


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def replay_nodes() -> AsyncIterator[ReplayNodes]:
    """Nodes with the recorded server's settings: hosting by grants only, and no attestation."""
    async with ReplayNodes() as nodes:
        yield nodes


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def default_nodes() -> AsyncIterator[ReplayNodes]:
    """Nodes with default settings."""
    async with ReplayNodes(
        hosting="auto", attestation="delegates", quota_bytes=Hosting().default_quota_bytes
    ) as nodes:
        yield nodes
