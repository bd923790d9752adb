"""Tests that a killed child leaves no process and fails no other run."""

import asyncio
import os
import resource
import signal
import subprocess
import sys

import pytest
from guest_programs import are_gone, children, code, guest, run_guest, running
from tests_support import REPOSITORY

from runner.guest.executor import Executor

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ENDLESS = (b"sleep 100000", b"compute 100000000000000000")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("given", _ENDLESS)
async def test_a_killed_child_is_one_failed_run(
    executor: Executor, given: bytes, fresh: bool
) -> None:
    """A killed child fails its own run only; the next run has another process."""
    task, process = await running(executor, given, fresh=fresh)
    os.kill(process, signal.SIGKILL)
    assert "run-crashed" == await task
    assert "completed" == code(await run_guest(executor, guest("count"), fresh=fresh))
    assert process not in children()


async def test_children_that_are_killed_while_they_wait(executor: Executor) -> None:
    """An idle child that was killed gets no run."""
    await run_guest(executor, guest("count"))
    waiting = children(kind="_run_child")
    for process in waiting:
        os.kill(process, signal.SIGKILL)
    assert are_gone(waiting)
    assert "completed" == code(await run_guest(executor, guest("count")))
    assert "completed" == code(await run_guest(executor, guest("count"), fresh=True))


async def test_a_child_that_is_killed_before_it_reads(executor: Executor) -> None:
    """A child that hangs fails only its own run, by the time limit."""
    await run_guest(executor, guest("count"))
    for process in children(kind="_run_child"):
        os.kill(process, signal.SIGSTOP)
    assert "limit-time" == code(await run_guest(executor, guest("count"), max_execution_s=1))
    for process in children(kind="_run_child"):
        os.kill(process, signal.SIGCONT)
    assert "completed" == code(await run_guest(executor, guest("count")))


@pytest.mark.parametrize("given", _ENDLESS)
async def test_a_run_that_is_cancelled(executor: Executor, given: bytes) -> None:
    """Cancelling the call kills the run."""
    task, process = await running(executor, given, fresh=False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert are_gone([process])
    assert "completed" == code(await run_guest(executor, guest("count")))


_PARENT = """
import asyncio, sys
from guest_programs import children, guest, run_request
from runner.guest.executor import Executor

async def main():
    async with Executor(children=2, spare=1) as executor:
        program = guest("probe-wasip1")
        await executor.compile(program.sha256, program.target, program.load)
        runs = [
            asyncio.create_task(
                executor.run(run_request(program, given, max_instructions=10**11), program.load)
            )
            for given in (b"sleep 100000", b"compute 100000000000000000")
        ]
        while len(children(kind="_run_child")) < 3:
            await asyncio.sleep(0)
        print(*children(kind="_"), flush=True)  # the template too
        await asyncio.gather(*runs)

asyncio.run(main())
"""


async def test_children_end_with_their_parent() -> None:
    """RN22, RN134: when the runner is killed, children and template end too."""
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests" / "support")))
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    ) as parent:
        assert parent.stdout is not None
        started = [int(word) for word in parent.stdout.readline().split()]
        assert len(started) >= 4
        parent.kill()
        assert are_gone(started)


async def test_children_end_without_a_free_descriptor() -> None:
    """RN137: without free descriptors, children are still reaped and their uids freed."""
    async with Executor(children=1, spare=1) as executor:
        (child,) = executor._pool._unused
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await executor._pool.end_and_wait(child)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not child.is_alive() and child not in executor._pool._alive
        assert code(await run_guest(executor, guest("count"), fresh=True)) == "completed"
