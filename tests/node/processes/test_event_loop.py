"""Tests of a worker's event loop, which is uvloop if installed and asyncio's otherwise."""

import asyncio
import importlib.util

import pytest

from node.processes.event_loop import loop_factory


async def _name() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def _runs_on() -> str:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_name())


def test_uvloop_where_it_is_installed() -> None:
    """With uvloop installed a worker runs on it."""
    pytest.importorskip("uvloop")
    assert _runs_on() == "uvloop"


def test_asyncio_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop the standard loop is used silently."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "node.processes.event_loop.find_spec", lambda name: None if name == "uvloop" else find(name)
    )
    assert _runs_on() == "asyncio"
