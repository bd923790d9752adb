"""Tests of the confinement of children and of a guest's access."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from guest_programs import (
    BOTH,
    are_gone,
    bounds_of,
    children,
    code,
    confined_children,
    cpu_bound_s,
    guest,
    opened,
    run_guest,
    run_request,
    running,
)
from live_processes import looks_inside
from tests_support import REPOSITORY

from runner.guest import child as _child
from runner.guest.executor import Executor

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SECRET = "a value that no process but the guest's holds"


def _status(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _one_child(executor: Executor) -> int:
    """Return a process that has run a guest and waits for the next one."""
    await run_guest(executor, guest("count"))
    return next(process for process in children(kind="_run_child") if cpu_bound_s(process))


@looks_inside
async def test_a_child_has_given_up_what_it_does_not_need(executor: Executor) -> None:
    """RN21, RN23, RN24, RN25: a child has dropped its privileges, files and core dumps."""
    child = await _one_child(executor)
    status, bounds = _status(child), bounds_of(child)
    assert "1" == status["NoNewPrivs"]
    assert {"0"} == {
        bounds[f"Max {what}"]
        for what in ("core file size", "processes", "file size", "locked memory")
    }
    assert "16" == bounds["Max open files"]
    assert int(bounds["Max data size"]) < 400 * 1024 * 1024
    assert b"" == Path(f"/proc/{child}/environ").read_bytes()
    assert "/" == os.readlink(f"/proc/{child}/cwd")
    files = set(opened(child))
    assert {"/dev/null", "socket"} <= {name.partition(":")[0] for name in files}
    assert {"/dev/null", f"/proc/{child}/statm"} == {name for name in files if name.startswith("/")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a child another uid")
async def test_each_child_has_a_uid_of_its_own(executor: Executor) -> None:
    """RN20: under root each child has its own uid and no capability."""
    await _one_child(executor)
    confined = [_status(child) for child in confined_children()]
    assert confined
    uids = {status["Uid"] for status in confined}
    assert len(confined) == len(uids) and all(
        set(uid.split()) == {uid.split()[0]} != {"0"} for uid in uids
    )
    assert {"0" * 16} == {status[which] for status in confined for which in ("CapEff", "CapPrm")}
    assert {""} == {status["Groups"] for status in confined}


async def test_memory_of_parent_and_children_is_closed(executor: Executor) -> None:
    """RN23: a process of the same uid cannot read the memory of runner or child."""
    child = await _one_child(executor)
    # Whatever belongs to a process that is not dumpable belongs to root.
    assert {0} == {Path(f"/proc/{process}/mem").stat().st_uid for process in (child, os.getpid())}
    if os.geteuid() == 0:
        uid = int(_status(child)["Uid"].split()[0])
        program = f"import os; os.setuid({uid}); open('/proc/{child}/mem', 'rb')"
        spy = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
        assert b"PermissionError" in spy.stderr


async def test_a_child_keeps_few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN185: a child unloads the least recently used program when its programs are too large."""
    monkeypatch.setattr(_child, "_MOST_LOADED_BYTES", 8 * 1024 * 1024)
    programs = [guest(name) for name in ("count", "words", "insecure", "count")]
    async with Executor(children=1, spare=1) as executor:
        for program in programs:
            assert "completed" == code(await run_guest(executor, program))
        (child,) = executor._pool._used
        assert [f"{one.target}:{one.sha256}" for one in programs[2:]] == list(child.loaded)
        monkeypatch.setattr(_child, "_MOST_LOADED_BYTES", 1)
        assert "completed" == code(await run_guest(executor, guest("words")))
        assert 1 == len(child.loaded)


@pytest.mark.parametrize("name", BOTH)
async def test_a_guest_reaches_no_file(executor: Executor, name: str, tmp_path: Path) -> None:
    """RN12: a guest can read, list, inspect, write or create no file of the host."""
    (tmp_path / "there").write_text("x")
    paths = [
        "/",
        ".",
        "..",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/mem",
        "/dev/stdin",
        f"{tmp_path}/there",
    ]
    given = f"files {' '.join(paths)} {tmp_path}/new fd/3".encode()
    assert b"0" == (await run_guest(executor, guest(name), given)).output
    assert ["there"] == os.listdir(tmp_path)


@pytest.mark.parametrize("name", BOTH)
async def test_a_guest_reaches_no_network(executor: Executor, name: str) -> None:
    """RN12: a guest can open no connection, socket or datagram, and resolve no name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert (
            b"0"
            == (await run_guest(executor, guest(name), f"sockets {host}:{port}".encode())).output
        )


@pytest.mark.parametrize("name", ["outside", "beside"])
async def test_a_guest_reaches_no_memory_but_its_own(executor: Executor, name: str) -> None:
    """RN14: reading one byte or eight gigabytes past the end of a memory traps."""
    assert "guest-trap" == code(await run_guest(executor, guest(name)))


async def test_a_run_with_secrets_has_a_process_of_its_own(executor: Executor) -> None:
    """RN26: a run with secrets gets an unused process, which ends after it."""
    task, kept = await running(executor, b"sleep 1", fresh=False)
    assert "completed" == await task
    used = []
    for _ in range(2):
        task, process = await running(executor, b"sleep 100", fresh=True)
        assert cpu_bound_s(kept) and process != kept
        assert "completed" == await task
        assert are_gone([process])
        used.append(process)
    assert used[0] != used[1]
    task, process = await running(executor, b"sleep 1", fresh=False)
    assert await task == "completed"
    assert kept == process
    result = await run_guest(executor, guest("count"), secrets={"KEY": _SECRET})
    assert code(result) == "completed"
    assert result.secrets_delivered is True


@looks_inside
async def test_no_secret_is_in_a_text(executor: Executor) -> None:
    """A secret appears in no repr, no detail, and no argument or environment of a process."""
    program = guest("probe-wasip1")
    request = run_request(program, b"exit 3\n" + _SECRET.encode(), secrets={"KEY": _SECRET})
    running = asyncio.ensure_future(executor.run(request, program.load))
    await asyncio.sleep(0)
    seen = []
    for child in children():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            seen += [
                Path(f"/proc/{child}/{where}").read_bytes() for where in ("cmdline", "environ")
            ]
    assert seen and not [text for text in seen if _SECRET.encode() in text]
    assert _SECRET not in repr(request) + repr(await running)


_BROKEN = """
from wasmtime import Engine, Linker, Module, Store
from runner import _wasm
from runner.guest.linear_memory import MemoryBudget

budget, config = MemoryBudget(), _wasm.configured()
budget.configure_allocator(config)
budget.set_budget("no number")
engine = Engine(config)
store = Store(engine)
store.set_fuel(1000)
Linker(engine).instantiate(store, Module(engine, "(module (memory 1))"))
print("went on")
"""


async def test_a_mistake_in_the_count_of_memory_ends_the_process() -> None:
    """RN14: an exception in a memory callback ends the process."""
    ended = subprocess.run(
        [sys.executable, "-c", _BROKEN], cwd=REPOSITORY, check=False, capture_output=True
    )
    assert ended.returncode == 1
    assert ended.stdout == b""
