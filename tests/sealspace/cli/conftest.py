"""Fixtures of the owner's commands."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from backend_desk import Desk
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from forked_programs import forked_program
from owner_desk import owner_desk
from owner_machine import Owner, new_machine
from team_desk import Team, team_desk
from tests_support import REPOSITORY
from trust_settings import trusting_config


@pytest.fixture
async def desk(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    """A node that trusts the simulated platform."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(trusting_config(tmp_path, platform)))
        yield Desk(node.url, tmp_path / "home", tmp_path, platform, stack, capsys, monkeypatch)


@pytest.fixture
async def owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Owner]:
    """An owner at a node."""
    machine = new_machine(tmp_path / "owner")
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        desk.home = machine.folder / "home" / ".sealspace"
        await desk.log_in()
        yield Owner(machine.folder, desk)


@pytest.fixture
def forking_owner(owner: Owner) -> Owner:
    """An owner whose commands run in forks, because imports take a second."""
    return replace(owner, command=(forked_program("sealspace"),))


@pytest.fixture
async def team(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Team]:
    """A team with one secret, which Alice has chosen."""
    async with team_desk(tmp_path, capsys, monkeypatch) as team:
        yield team


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """An empty folder with no folder above it that every user can write to, such as /tmp."""
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    for folder in (cache, *cache.parents):
        if folder.stat().st_mode & 0o002:
            pytest.skip(f"the repository is below {folder}, to which every user can write")
    with tempfile.TemporaryDirectory(dir=cache) as folder_name:
        yield Path(folder_name)
