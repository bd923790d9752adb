"""Leaving an executor leaves no process behind.

In a module of its own: the executor that other modules share starts a spare child whenever it
likes.
"""

import asyncio

import pytest
from guest_programs import are_gone, children, code, guest, run_guest, running

from runner.guest.executor import Executor

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_leaving_ends_everything() -> None:
    """Leaving the executor ends all runs and children, and fails the waiting calls."""
    program = guest("probe-wasip1")
    async with Executor(children=1, spare=1) as executor:
        task, process = await running(executor, b"sleep 100000", fresh=False)
        behind = asyncio.create_task(run_guest(executor, program, b"calls"))
        await asyncio.sleep(0)
    assert "runner-closed" == await task == code(await behind)
    assert "runner-closed" == code(await run_guest(executor, program, b"calls"))
    assert are_gone([process]) and not children()
