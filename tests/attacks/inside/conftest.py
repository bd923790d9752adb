"""One embedded node for each test, believed platform and all, and the people of the attack tests on it."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from attacks.inside_stage import InsideStage, OpenStage
from attacks.parties import Stage
from engines import store_at

from capabilities.ambient import Clock
from node.config.tree import Config, Hosting, Http, Limits, Release
from node.processes.embedded import embedded_node
from tee_backend.evidence.simulated import SimulatedPlatform


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    """A platform in software that the node was told to believe."""
    return SimulatedPlatform.from_seed(b"platform of the review")


@pytest.fixture
async def stage_with(tmp_path: Path, platform: SimulatedPlatform) -> AsyncIterator[OpenStage]:
    """Open a node in this process with some settings, and a stage on it."""
    async with AsyncExitStack() as opened:

        async def open_stage(*, hosting: Hosting | None = None, clock: Clock | None = None) -> Stage:
            root, collateral = tmp_path / "root.pem", tmp_path / "collateral"
            collateral.mkdir()
            root.write_text(platform.root_pem)
            (collateral / "platform.json").write_bytes(platform.collateral_json(time.time()))
            config = Config(
                http=Http(port=0, drain_s=1),
                store=store_at(tmp_path / "data"),
                hosting=hosting or Hosting(),
                release=Release(trust_root=str(root), collateral=str(collateral)),
                limits=Limits(challenges_per_minute=1_000_000),
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
