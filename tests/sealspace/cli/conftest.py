"""Fixtures of the owner's commands."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from backend_desk import Desk
from believing import believing
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node


@pytest.fixture
async def desk(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    """A node that believes the simulated platform."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(believing(tmp_path, platform)))
        yield Desk(node.url, tmp_path / "home", tmp_path, platform, stack, capsys, monkeypatch)
