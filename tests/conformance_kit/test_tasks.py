"""The kit against a runner, and against copies of it with one fault each."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest
import wasmtime
from conformance_kit.line_faults import Fault
from conformance_kit.runner_faults import RUNNER_FAULTS
from patience import PATIENCE_S
from runner_stage import runner_stage
from sealspace_conformance import task_results
from sealspace_conformance.__main__ import main
from sealspace_conformance.catalogue import run_groups
from sealspace_conformance.report import FAILED, NOT_APPLICABLE, PASSED, Row
from task_memory import TASK_MEMORY as MEMORY
from task_memory import needs_task_memory
from tests_support import REPOSITORY

FEWEST_ROWS = 85


@dataclass(frozen=True)
class Addresses:
    """A runner and the node that it uses."""

    node: str
    runner: str


@contextmanager
def running_runner(folder: Path) -> Iterator[Addresses]:
    """Run a runner and a node in a thread."""
    is_up = threading.Event()
    started: list[tuple[Addresses, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            root = MEMORY / f"tasks-{token_hex(8)}"
            root.mkdir(0o700)
            stack.callback(root.rmdir)  # fails if a task left a file
            stage = await runner_stage(stack, folder, task_root=root)
            found = Addresses(node=stage.node.url, runner=stage.url)
            started.append((found, asyncio.get_running_loop(), stop))
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert is_up.wait(PATIENCE_S)
    found, loop, stop = started[0]
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[Addresses]:
    """A new runner for each test: one takes some 60 grants of a client in a minute (AT63)."""
    with running_runner(tmp_path) as found:
        yield found


def rows_of(addresses: Addresses) -> list[Row]:
    """Return the rows of the group."""
    run, _ = asyncio.run(
        run_groups(addresses.node, only=["tasks"], timeout_s=PATIENCE_S, runner=addresses.runner)
    )
    return [row for row in run.rows if row.group == "tasks"]


@needs_task_memory
def test_every_row_passes(addresses: Addresses) -> None:
    """Our runner passes every row, and no row is left out."""
    rows = rows_of(addresses)
    assert [row for row in rows if row.verdict != PASSED] == []
    assert len(rows) >= FEWEST_ROWS


@needs_task_memory
@pytest.mark.parametrize("fault", RUNNER_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(addresses: Addresses, fault: Fault) -> None:
    """A row fails that names the fault. The same row passes without it."""
    with fault.present():
        rows = rows_of(addresses)
    assert fault.asked in {row.asked for row in rows if row.verdict == FAILED}


def test_without_a_runner(node_url: str) -> None:
    """Without the address of a runner the group is not applicable."""
    run, _ = asyncio.run(run_groups(node_url, only=["tasks"], timeout_s=PATIENCE_S))
    (row,) = [row for row in run.rows if row.group == "tasks"]
    assert (row.verdict, "--runner" in row.seen) == (NOT_APPLICABLE, True)


def test_a_server_that_is_not_a_runner(node_url: str) -> None:
    """A node in the place of a runner gets failed rows, and the run ends."""
    rows = rows_of(Addresses(node=node_url, runner=node_url))
    assert rows[-1].verdict == FAILED
    assert "the runner does not state" in rows[-1].seen


def test_an_address_without_a_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    """The address of a runner has to be a URL."""
    assert main(["http://127.0.0.1:1", "--runner", "127.0.0.1:8090"]) == 2
    assert "next:" in capsys.readouterr().err


def test_the_program() -> None:
    """The bytes of the program are those of its text."""
    text = REPOSITORY / "tools" / "conformance" / "sealspace_conformance" / "task.wat"
    assert bytes(wasmtime.wat2wasm(text.read_text("utf-8"))) == task_results.program()
