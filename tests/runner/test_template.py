"""Tests of the template process and of the child processes that it forks."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from guest_programs import (
    BOTH,
    are_gone,
    children,
    code,
    confined_children,
    guest,
    opened,
    run_guest,
    run_request,
    running,
)
from live_processes import looks_inside
from patience import PATIENCE_S, until
from tests_support import REPOSITORY

from runner.guest import child as _child
from runner.guest import pool as _pool
from runner.guest.child import ChildEnded, Template
from runner.guest.executor import Executor

pytestmark = pytest.mark.asyncio(loop_scope="module")

_BROKEN = (
    "from runner.guest import run_child as _run_child\n"
    "_run_child._OWN_PROGRAM = _run_child._OWN_PROGRAM.replace('(drop', 'unreachable (drop')\n"
)
_SECRET = "what no template ever saw"


def templates(before: Iterable[int] = ()) -> list[int]:
    """Return the template processes that this process started since the last look.

    A child that was forked a moment ago has the template's name, but leads no session. It changes
    its name first and its session second, so they are read in the reverse order.
    """
    leaders = [one for one in children(kind="_") if one not in before and _leads_session(one)]
    named = children(kind="_template")
    return [one for one in leaders if one in named]


def _leads_session(process: int) -> bool:
    with suppress(ProcessLookupError):  # it ended meanwhile
        return os.getsid(process) == process
    return False


def maps(process: int) -> str:
    """Return the memory map of a process."""
    return Path(f"/proc/{process}/maps").read_text()


@looks_inside
async def test_a_template_has_given_up_what_it_does_not_need(executor: Executor) -> None:
    """RN130: the template has no privileges, environment or files, and one thread."""
    for _ in range(3):
        await run_guest(executor, guest("count"), secrets={"KEY": _SECRET})
    (template,) = templates()
    status = Path(f"/proc/{template}/status").read_text()
    assert ["1", "1"] == re.findall(r"^(?:NoNewPrivs|Threads):\s*(\d+)$", status, re.MULTILINE)
    assert b"" == Path(f"/proc/{template}/environ").read_bytes()
    assert "/" == os.readlink(f"/proc/{template}/cwd")
    assert 0 == Path(f"/proc/{template}/mem").stat().st_uid
    async with asyncio.timeout(PATIENCE_S):
        while len(opened(template)) != 4:  # as long as it forks, one more
            await asyncio.sleep(0)
    *files, connection = sorted(opened(template))
    assert ["/dev/null"] * 3 == files and connection.startswith("socket:")


@looks_inside
async def test_a_template_holds_no_secret(executor: Executor) -> None:
    """RN130: neither a secret nor its program is in the template's memory."""
    result = await run_guest(executor, guest(BOTH[0]), b"env KEY", secrets={"KEY": _SECRET})
    assert _SECRET.encode() in result.output
    (template,) = templates()
    found = b""
    with Path(f"/proc/{template}/mem").open("rb", buffering=0) as memory:
        for first, last in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps(template), re.MULTILINE):
            memory.seek(int(first, 16))
            found += memory.read(int(last, 16) - int(first, 16)) or b""
    assert b"limit_data" in found
    assert _SECRET.encode() not in found and guest(BOTH[0]).data[:200] not in found


@looks_inside
async def test_a_child_has_run_before_it_is_ready(executor: Executor) -> None:
    """RN138, RN181: a ready child has unloaded the runner's own program."""
    task, busy = await running(executor, b"sleep 100", fresh=True)
    seen = maps(busy) + " ".join(opened(busy))
    assert "wasmtime" in seen and "memfd" not in seen
    assert "completed" == await task


async def test_a_child_that_cannot_run_guests_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RN138: the first child is ready only after the runner's own program has run."""
    monkeypatch.setattr(
        _child, "_BOOT", _child._BOOT.replace("template.main(", _BROKEN + "template.main(")
    )
    with pytest.raises(RuntimeError, match="cannot start a child process"):
        await Executor(children=1, spare=1).__aenter__()


async def test_children_are_the_runner_s_own(executor: Executor) -> None:
    """RN132: the runner is the parent of each child, which has its own session."""
    await run_guest(executor, guest("count"))
    (template,) = templates()
    run = confined_children()
    assert run and template not in run
    for child in run:
        texts = [path.read_text() for path in Path(f"/proc/{child}/task").glob("*/status")]
        assert len(texts) > 1
        facts = {
            tuple(re.findall(r"^(?:PPid|NoNewPrivs):\s*(\d+)$", text, re.MULTILINE))
            for text in texts
        }
        assert {(str(os.getpid()), "1")} == facts
        assert child == os.getsid(child)


@looks_inside
async def test_no_child_has_the_connection_of_another(executor: Executor) -> None:
    """RN136: a child shares no connection with the template or another child."""
    await run_guest(executor, guest("count"))
    task, _ = await running(executor, b"sleep 100", fresh=True)

    def apart() -> bool:
        some = templates() + children(kind="_run_child")
        sockets = [
            {name for name in opened(process) if name.startswith("socket:")} for process in some
        ]
        return (
            len(sockets) > 2
            and all(sockets)
            and sum(map(len, sockets)) == len(set().union(*sockets))
        )

    await until(apart)  # while it forks, the template has the connection of that child too
    assert "completed" == await task


@pytest.mark.parametrize("name", BOTH)
async def test_fresh_children_draw_other_numbers(executor: Executor, name: str) -> None:
    """RN133: random numbers differ between children of one template."""
    before = templates()
    drawn = {
        (await run_guest(executor, guest(name), b"random", fresh=True)).output for _ in range(8)
    }
    assert 8 == len(drawn) and before == templates()


async def test_fresh_children_draw_other_insecure_numbers(executor: Executor) -> None:
    """RN133: insecure random numbers also differ between children of one template."""
    drawn = {
        (await run_guest(executor, guest("insecure"), fresh=True)).instructions for _ in range(8)
    }
    assert len(drawn) > 4


async def test_a_killed_template() -> None:
    """RN134: if the template is killed, current runs continue and a new template forks the next
    child."""
    before = templates()
    async with Executor(children=2, spare=1) as executor:
        task, process = await running(executor, b"sleep 200", fresh=True)
        (template,) = templates(before)
        os.kill(template, signal.SIGKILL)
        assert are_gone([template])
        assert process in children(kind="_run_child")
        assert "completed" == await task
        for _ in range(3):
            assert "completed" == code(await run_guest(executor, guest("count"), fresh=True))
        assert template not in templates(before) and 1 == len(templates(before))
    assert [] == templates(before)


async def test_a_template_that_is_killed_while_it_is_asked() -> None:
    """RN134: if the template is killed during a fork, only the run that needed the fork fails."""
    before = templates()
    async with Executor(children=2, spare=1) as executor:
        program = guest("count")
        await executor.compile(program.sha256, program.target, program.load)
        (template,) = templates(before)
        os.kill(template, signal.SIGSTOP)
        runs = [
            asyncio.create_task(executor.run(run_request(program, fresh=True), program.load))
            for _ in range(2)
        ]
        # the one that had the spare child
        await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
        os.kill(template, signal.SIGKILL)
        assert ["completed", "runner-failed"] == sorted([code(await run) for run in runs])
        assert "completed" == code(await run_guest(executor, program, fresh=True))


async def test_a_template_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN134: the runner kills and replaces a template that does not fork in time."""
    before = templates()
    async with Executor(children=1, spare=1) as executor:
        program = guest("count")
        assert "completed" == code(await run_guest(executor, program, fresh=True))
        (template,) = templates(before)
        os.kill(template, signal.SIGSTOP)
        with monkeypatch.context() as patched:
            patched.setattr(_child, "_START_S", 0.2)
            codes = [code(await run_guest(executor, program, fresh=True)) for _ in range(2)]
        assert "runner-failed" in codes and are_gone([template])
        assert "completed" == code(await run_guest(executor, program, fresh=True))


async def test_leaving_while_children_start() -> None:
    """RN134: leaving the executor ends the template, even during a fork."""
    before = templates()
    async with Executor(children=2, spare=8) as executor:
        for child in children(kind="_run_child"):
            os.kill(child, signal.SIGKILL)
        program = guest("count")
        await executor.compile(program.sha256, program.target, program.load)
        run = asyncio.create_task(executor.run(run_request(program, fresh=True), program.load))
        await asyncio.sleep(0)
    assert code(await run) in ("runner-closed", "runner-failed", "completed", "run-crashed")
    assert [] == templates(before)


_UNPRIVILEGED = """
import os, resource, signal, socket, sys
from runner.guest import template as _template
if os.geteuid() == 0:  # which no limit binds
    os.setuid(65534)
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (0, most))
signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (most, most)))
_template.main(socket.socket(fileno=int(sys.argv[1])), os.getppid())
"""


async def test_a_fork_that_fails() -> None:
    """RN134: the runner reports a failed fork at once and keeps using the template."""
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [sys.executable, "-c", _UNPRIVILEGED, str(theirs.fileno())]
        process = subprocess.Popen(arguments, cwd=REPOSITORY, pass_fds=[theirs.fileno()])
    ours.setblocking(False)
    template = Template(process, ours)
    await template.ready()
    with pytest.raises(ChildEnded):
        await template.fork("_run_child", None, None).ready()
    os.kill(process.pid, signal.SIGUSR1)
    child = template.fork("_run_child", None, None)
    await child.ready()
    assert child.is_alive() and template.is_alive()
    await child.end()
    await template.end()
    assert not child.is_alive() and 1 == process.returncode


@looks_inside
async def test_templates_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN135: a template is replaced after many forks, and runs are not affected."""
    monkeypatch.setattr(_pool, "_MOST_FORKS", 3)
    seen, layouts = set(), set()
    before = templates()
    async with Executor(children=1, spare=1) as executor:
        while len(seen) < 3:
            assert "completed" == code(await run_guest(executor, guest("count"), fresh=True))
            for template in templates(before):
                seen.add(template)
                with suppress(FileNotFoundError, ProcessLookupError):  # it is replaced just now
                    # Not the program's own address, which some interpreters fix.
                    lines = maps(template).splitlines()
                    layouts |= {line.partition("-")[0] for line in lines if "[stack]" in line}
    assert len(layouts) > 1 and are_gone(seen)


_SHARING = """
import mmap, threading
from runner.guest.template import _require_forkable as refuse

def refused():
    try:
        refuse()
    except RuntimeError as exc:
        return str(exc)

print(refused())
shared = mmap.mmap(-1, 4096)
print(refused())
shared.close()
end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
print(refused())
end.set()
thread.join()
"""


async def test_what_children_would_share() -> None:
    """RN131: a process with a second thread or shared memory cannot be a template."""
    ended = subprocess.run(
        [sys.executable, "-c", _SHARING], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert [
        "None",
        "a process that forks children must not have writable shared memory",
        "a process that forks children must not have a second thread",
    ] == ended.stdout.splitlines()
