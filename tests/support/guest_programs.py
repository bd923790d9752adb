"""Guest programs of the tests (`tests/guests`), and an executor that runs them.

Example:
    result = await ran(executor, guest("probe-wasip1"), b"echo\nhello")
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from live_processes import has_ended, started_by
from patience import PATIENCE_S
from tests_support import REPOSITORY

from runner.guest.environment import environment_of
from runner.guest.executor import Executor
from runner.guest.runs import Limits, ResponseFormat, RunRequest, RunResult
from sealspace.apps.programs import Target

BUILT = REPOSITORY / "tests" / "guests" / "built"
_COMPONENT = b"\0asm\x0d"
BOTH = ("probe-wasip1", "probe-wasip2")
"""The one program that does whatever its input says, for both targets."""
_SECONDS = itertools.count(0, 7)


@dataclass(frozen=True)
class Guest:
    """A program and its publication."""

    data: bytes
    target: Target

    @property
    def sha256(self) -> str:
        """Return the SHA-256 that identifies the program."""
        return hashlib.sha256(self.data).hexdigest()

    async def load(self) -> bytes:
        """Return the program's bytes, as a program store does."""
        return self.data


@cache
def guest(name: str) -> Guest:
    """Return a guest program by name."""
    data = (BUILT / f"{name}.wasm").read_bytes()
    return Guest(data, "wasm32-wasip2" if data.startswith(_COMPONENT) else "wasm32-wasip1")


def run_request(
    program: Guest,
    given: bytes = b"",
    *,
    secrets: Mapping[str, str] | None = None,
    response_format: ResponseFormat = ResponseFormat.TEXT,
    fresh: bool = False,
    **limits: int,
) -> RunRequest:
    """Return a request with small limits, so that tests of limits end soon."""
    few = {"max_instructions": 200_000_000, "max_memory_mb": 16, "max_execution_s": 30} | limits
    return RunRequest(
        program.sha256,
        program.target,
        environment_of({}, secrets or {}),
        given,
        response_format,
        Limits(**few),
        secrets_delivered=fresh or bool(secrets),
    )


async def run_guest(
    executor: Executor, program: Guest, given: bytes = b"", **about: object
) -> RunResult:
    """Run a guest program once."""
    request = run_request(program, given, **about)  # type: ignore[arg-type]  # what `run_request` takes
    return await executor.run(request, program.load)


def detail_of(result: RunResult) -> str:
    """Return the detail of a result's reason; empty for a completed run."""
    return "" if result.reason is None else result.reason.detail


def code(result: RunResult) -> str:
    """Return the code of a result's reason, or `completed`."""
    return "completed" if result.reason is None else result.reason.code


def children(of: int | None = None, *, kind: str = "_child") -> list[int]:
    """Return the child processes of one kind that run for an executor."""
    found = []
    for child in started_by(of or os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            ended = not Path(f"/proc/{child}/cmdline").read_bytes()
            if not ended and kind in Path(f"/proc/{child}/comm").read_text():
                found.append(child)
    return found


def opened(process: int) -> list[str]:
    """Return the open files of a process, without those closed during the listing."""
    names = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):
                names.append(os.readlink(entry))
    return names


def bounds_of(process: int) -> dict[str, str]:
    """Return the resource limits of a process by their kernel names; none if it ends meanwhile."""
    lines = Path(f"/proc/{process}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[25:46].strip() for line in lines}


def confined_children() -> list[int]:
    """Return the children that can run a guest, without those that have just been forked."""
    found = []
    for child in children(kind="_run_child"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if bounds_of(child).get("Max processes") == "0":
                found.append(child)
    return found


async def running(
    executor: Executor, given: bytes, *, fresh: bool
) -> "tuple[asyncio.Task[str], int]":
    """Start a run of the probe. Return the run and its process just before the guest begins; the
    run ends with a code.

    A child sets a new CPU limit for each run. Here each run has a different limit, which identifies
    its process.
    """
    program = guest(BOTH[0])
    await executor.compile(program.sha256, program.target, program.load)
    before = {process: cpu_bound_s(process) for process in children(kind="_run_child")}

    seconds = 40 + next(_SECONDS) % 140

    async def run() -> str:
        request = run_request(
            program, given, fresh=fresh, max_instructions=500_000_000_000, max_execution_s=seconds
        )
        return code(await executor.run(request, program.load))

    task = asyncio.create_task(run())
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0)
            for process in children(kind="_run_child"):
                if cpu_bound_s(process) not in (0, before.get(process)):
                    return task, process


def cpu_bound_s(process: int) -> int:
    """Return the CPU limit of the last run in a child; 0 without a run, or if the child ended."""
    try:
        bound = bounds_of(process).get("Max cpu time", "unlimited")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # the runner's own program is allowed a second, and slack
    own_program = bound == "unlimited" or int(bound) < 10
    return 0 if own_program else int(bound)


def are_gone(processes: Iterable[int], within_s: float = PATIENCE_S) -> bool:
    """Wait until processes have ended; return False on a timeout."""
    return all(has_ended(process, within_s) for process in processes)
