"""Guest programs of the tests (`tests/guests`), and an executor that runs them.

Example:
    result = await ran(executor, guest("probe-wasip1"), b"echo\nhello")
"""

import hashlib
import os
import select
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests_support import REPOSITORY

from tee_backend.runner.environment import environment_of
from tee_backend.runner.executor import Executor
from tee_backend.runner.runs import Limits, ResponseFormat, RunRequest, RunResult, Target

BUILT = REPOSITORY / "tests" / "guests" / "built"
_COMPONENT = b"\0asm\x0d"
BOTH = ("probe-wasip1", "probe-wasip2")
"""The one program that does whatever its input says, for both targets."""


@dataclass(frozen=True)
class Guest:
    """A program: its bytes, and its publication."""

    data: bytes
    target: Target

    @property
    def sha256(self) -> str:
        """The program's identity."""
        return hashlib.sha256(self.data).hexdigest()

    async def load(self) -> bytes:
        """Return the bytes, as whoever keeps programs does."""
        return self.data


@cache
def guest(name: str) -> Guest:
    """Return a guest by its name."""
    data = (BUILT / f"{name}.wasm").read_bytes()
    return Guest(data, Target.WASIP2 if data.startswith(_COMPONENT) else Target.WASIP1)


def asked(
    program: Guest,
    given: bytes = b"",
    *,
    secrets: Mapping[str, str] | None = None,
    response_format: ResponseFormat = ResponseFormat.TEXT,
    fresh: bool = False,
    **limits: int,
) -> RunRequest:
    """Return a request; limits are small, so that a test that meets one ends soon."""
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


async def ran(executor: Executor, program: Guest, given: bytes = b"", **about: object) -> RunResult:
    """Run a guest once."""
    request = asked(program, given, **about)  # type: ignore[arg-type]  # what `asked` takes
    return await executor.run(request, program.load)


def code(result: RunResult) -> str:
    """Return the code of a result's reason, or `completed`."""
    return "completed" if result.reason is None else result.reason.code


def children(of: int | None = None, *, kind: str = "_child") -> list[int]:
    """Return the processes that an executor of a process started, of one kind, and that have not been reaped."""
    found = []
    for path in Path(f"/proc/{of or os.getpid()}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                if kind.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


def bounds_of(process: int) -> dict[str, str]:
    """Return the resource limits of a process, by the names that the kernel gives them."""
    lines = Path(f"/proc/{process}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[25:46].strip() for line in lines}


def are_gone(processes: Iterable[int], within_s: float = 20) -> bool:
    """Wait until processes have ended; False where one has not in this time."""
    for process in processes:
        try:
            watched = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            if not select.select([watched], [], [], within_s)[0]:
                return False
        finally:
            os.close(watched)
    return True
