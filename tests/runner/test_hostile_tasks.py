"""Tasks of strangers, tasks that end in the middle of a stage, and a node that hangs."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest
import pytest_asyncio
from aiohttp import web
from guest_programs import guest
from other_user import OPEN_TO_ALL, processes_of, search_as_other_user, spellings
from patience import PATIENCE_S
from relay import relay_before
from runner_stage import RunnerStage, runner_stage
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from task_parties import Party, party
from task_programs import reporting

from runner.calls import calls, run
from runner.guest.runs import Limits
from runner.tasks import results
from sealspace.documents.iexec_names import RESULT_KEY_NAME, requester_secret, wallet_secret

# An endless program ends at the runner's limits: the usual ones let it run for 8 seconds only.
LONG = Limits(max_instructions=500_000_000_000, max_execution_s=180)
RESULT = wallet_secret(RESULT_KEY_NAME)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_task_memory,
]


@contextmanager
def new_root() -> Iterator[Path]:
    """Make a folder in memory for the files of tasks, which has to be empty at the end."""
    folder = MEMORY / f"tasks-{token_hex(8)}"
    folder.mkdir(0o700)
    yield folder
    folder.rmdir()


@pytest.fixture
def root() -> Iterator[Path]:
    """Make a folder for the tasks of another runner."""
    with new_root() as folder:
        yield folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerStage]:
    """One runner for the tests of this module."""
    async with AsyncExitStack() as stack:
        root = stack.enter_context(new_root())
        yield await runner_stage(
            stack, tmp_path_factory.mktemp("runner"), task_root=root, limits=LONG
        )


async def in_stage(one: Party, job: str, wanted: str) -> None:
    """Wait until a task has reached a stage."""
    async with asyncio.timeout(PATIENCE_S):
        while json.loads((await one.ask("GET", f"/tasks/{job}", f"calls/{job}"))[1])["stage"] != (
            wanted
        ):
            await asyncio.sleep(0)


async def test_a_stranger_does_not_keep_others_waiting(stage: RunnerStage) -> None:
    """RN162, TK7: with one place, a known payer's task runs beside that of an unknown payer."""
    stranger, known = await party(stage), await party(stage)
    await stage.credit(1, owner=known.did)
    endless = await stage.publish("endless", reporting("endless", endless=True))
    quick = await stage.publish("quick", reporting("quick"))
    await stranger.grant(endless, RESULT)
    await known.grant(quick, RESULT)
    _, made = await stranger.make(f"{stage.developer}/endless")
    await in_stage(stranger, made["job"], "APP")
    assert (await known.done(f"{stage.developer}/quick"))["state"] == "COMPLETED"
    _, answer = await stranger.ask("GET", f"/tasks/{made['job']}", f"calls/{made['job']}")
    assert json.loads(answer)["state"] == "ACTIVE"


async def test_a_node_that_hangs(
    stage: RunnerStage, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN163, RN220: while the node hangs, the number and duration of tasks being checked are
    limited."""
    monkeypatch.setattr(calls, "MOST_QUEUED", 4)  # one of each payer
    quick = await stage.publish("held", reporting("held"))
    free = asyncio.Event()

    async def hold(request: web.Request) -> None:
        if "/projects/held" in request.path:
            await free.wait()

    async with relay_before(stage.node.url) as relay, AsyncExitStack() as stack:
        there = replace(stage, node=replace(stage.node, url=relay.url))
        runner = await there.another(stack, tmp_path / "runner", task_root=root)
        one, app = await party(stage), f"{stage.developer}/held"
        one.stage = runner
        await one.grant(quick, RESULT)
        relay.hold = hold
        monkeypatch.setattr(run, "START_S", 0.01)
        status, answer = await one.make(app)
        assert (status, answer["error"]["code"]) == (503, "runner-busy")
        monkeypatch.setattr(run, "START_S", PATIENCE_S)
        both = [asyncio.create_task(one.make(app)) for _ in range(2)]
        (refused,), (waiting,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        status, answer = await refused
        assert (status, answer["error"]["code"]) == (429, "too-many-calls")
        free.set()
        status, made = await waiting
        assert status == 200, made
        await one.ended(made["job"])


async def test_a_task_that_fails_after_its_result_was_stored(
    stage: RunnerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TK8: a task that fails after its result was stored has no result."""
    late, one = await stage.publish("late", reporting("late")), await party(stage)
    tasks = stage.runner.tasks
    assert tasks is not None
    keep = tasks.keep

    async def keep_and_fail(job: str, file: Path) -> None:
        await keep(job, file)
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(tasks, "keep", keep_and_fail)
    await stage.credit(1, owner=one.did)  # it waits for no stranger's task
    await one.grant(late, RESULT)
    task = await one.done(f"{stage.developer}/late")
    assert task["cause"]["code"] == "POST_COMPUTE_FAILED_UNKNOWN_ISSUE"
    assert (await one.result(task["job"]))[0] == 404


async def test_a_runner_that_stops_while_it_seals(
    stage: RunnerStage, root: Path, tmp_path: Path
) -> None:
    """TG9: a stopping runner waits for the sealing thread before it removes the task's folder."""
    many, one = guest("filer-wasip1"), await party(stage)
    version = await stage.publish("many", many.data)
    async with AsyncExitStack() as stack:
        one.stage = await stage.another(stack, tmp_path / "runner", task_root=root)
        await one.grant(version, RESULT)
        _, made = await one.make(f"{stage.developer}/many", args="many 9000")
        await in_stage(one, made["job"], "POST_COMPUTE")
    frames = list(sys._current_frames().values())
    while frames:
        frame = frames.pop()
        assert frame.f_code is not results.seal_result.__code__
        if frame.f_back is not None:
            frames.append(frame.f_back)
    assert not list(root.iterdir())


def _holds(root: Path, value: str) -> bool:
    """Return whether a file of a task contains a value."""
    return any(value in one.read_text() for one in root.glob("**/output/result.txt"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can search as another user")
async def test_another_user_finds_no_secret_of_a_task(
    stage: RunnerStage, root: Path, tmp_path: Path
) -> None:
    """RN20, RN23, RN25, TG4, TG9: while a program has a secret, no other user of the machine finds
    it in a process of the runner, in the task's folder, or in a file."""
    since_ns, value = time.time_ns(), f"canary-{token_hex(16)}"
    name, one = requester_secret("canary"), await party(stage)
    version = await stage.publish("canary", reporting("canary", endless=True))
    await one.put(name, value)
    async with AsyncExitStack() as stack:
        one.stage = await stage.another(stack, tmp_path / "runner", task_root=root, limits=LONG)
        await one.grant(version, name, RESULT)
        status, made = await one.make(f"{stage.developer}/canary", secrets={"1": "canary"})
        assert status == 200, made
        await in_stage(one, made["job"], "APP")
        async with asyncio.timeout(PATIENCE_S):
            while not _holds(root, value):  # a guest sends no event
                await asyncio.sleep(0)
        processes = processes_of(os.getpid())
        folders = (MEMORY, Path("/tmp"), root, *root.glob("*"))
        search = await asyncio.to_thread(
            search_as_other_user, processes, spellings(value), folders, since_ns=since_ns
        )
        assert _holds(root, value)  # the program is still running
        alive = {*processes} & {*processes_of(os.getpid())}
    assert os.getpid() in alive and len(alive) >= 3  # the runner, the template and a child
    for process in alive:  # not environ, fd, io, maps or mem
        files = {one for one in search.opened if one.startswith(f"/proc/{process}/")}
        assert files == {f"/proc/{process}/{name}" for name in OPEN_TO_ALL}
    assert {"/proc/mounts", str(MEMORY), "/tmp"} <= search.opened
    assert not any(one.startswith(str(root)) for one in search.opened)
    assert not search.found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can search as another user")
@pytest.mark.parametrize("spelling", range(3))
async def test_another_user_finds_a_secret_in_a_command_line(spelling: int, root: Path) -> None:
    """The search of the last test finds a text, also in base64 and hex, that a process shows."""
    since_ns, value = time.time_ns(), f"canary-{token_hex(16)}"
    texts, file = spellings(value), root / "open.txt"
    command = [sys.executable, "-c", "input()", texts[spelling]]
    root.chmod(0o755)
    file.write_text(texts[spelling])
    file.chmod(0o644)
    with subprocess.Popen(command, stdin=subprocess.PIPE) as shown:
        search = search_as_other_user([shown.pid], texts, [root], since_ns=since_ns)
        shown.communicate(b"\n")
    file.unlink()
    assert search.found == {f"/proc/{shown.pid}/cmdline", str(file)}
