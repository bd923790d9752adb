"""A node in this process for each test, with a stage whose parts a test can inspect."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from attacks.inside_stage import InsideStage, OpenStage
from attacks.parties import Stage
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from trust_settings import MANY_CHALLENGES, trusting_config

from capabilities.clock_and_entropy import Clock
from node.config.tree import Hosting


@pytest.fixture
async def stage_with(tmp_path: Path, platform: SimulatedPlatform) -> AsyncIterator[OpenStage]:
    """Open a node in this process with the given settings, and a stage on it."""
    async with AsyncExitStack() as opened:

        async def open_stage(
            *, hosting: Hosting | None = None, clock: Clock | None = None
        ) -> Stage:
            config = trusting_config(
                tmp_path, platform, hosting=hosting or Hosting(), limits=MANY_CHALLENGES
            )
            node = await opened.enter_async_context(embedded_node(config, clock=clock))
            clients = await opened.enter_async_context(AsyncExitStack())
            return InsideStage(
                url=node.url,
                platform=platform,
                clients=clients,
                node_did=node.services.keyring.node_did,
                inside=node,
            )

        yield open_stage


@pytest.fixture
async def stage(stage_with: OpenStage) -> Stage:
    """A stage on a node with default settings."""
    return await stage_with()
