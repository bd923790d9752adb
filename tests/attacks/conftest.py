"""One running node with two workers for all attacks, and a fresh stage on it for each."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from attacks.held_store import HeldStage, held_node
from attacks.parties import Stage, stage_on
from deviating_platform import SimulatedPlatform
from engines import database_of, is_on_postgresql
from running_node import RunningNode, running_node
from tests_support import FixedClock
from trust_settings import MANY_CHALLENGES, trusting_config


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    """A simulated platform that the node is configured to trust."""
    return SimulatedPlatform.from_seed(b"platform of the attacks")


@pytest.fixture(scope="session")
def attacked_node(
    tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform
) -> Iterator[RunningNode]:
    """A node with a supervisor, a storekeeper and two workers."""
    folder = tmp_path_factory.mktemp("attacked")
    with running_node(folder, platform=platform) as node:
        yield node


@pytest.fixture
def operated_node(attacked_node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """The node, with a store that the operator's commands can find."""
    if is_on_postgresql():
        monkeypatch.setenv("SEALSPACE_STORE__URL", database_of(attacked_node.folder))
    return attacked_node


@pytest.fixture
async def stage(operated_node: RunningNode, platform: SimulatedPlatform) -> AsyncIterator[Stage]:
    """The node as a stage, without parties of other tests."""
    async with AsyncExitStack() as clients:
        yield replace(await stage_on(operated_node.url, platform, clients), node=operated_node)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for one test's own node."""
    return tmp_path / "own"


@pytest.fixture
async def held(tmp_path: Path, platform: SimulatedPlatform) -> AsyncIterator[HeldStage]:
    """A node in this process, whose store can delay a commit and whose clock can be moved."""
    clock = FixedClock(time.time())
    config = trusting_config(tmp_path, platform, limits=MANY_CHALLENGES)
    async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield HeldStage(*parts, store=store, clock=clock, services=node.services)
