"""Running programs: a pool of confined children, a compiler in a child of its own, and artefacts in memory.

The trust side decides everything about authority first and then makes one call:

    async with Executor(ExecutorSettings(children=2)) as executor:
        result = await executor.run(request, load)

`load` is awaited only when the program is not compiled yet; it returns the program's bytes, whose SHA-256 is compared
with the request's. `run` raises nothing for anything that a program, a publisher or a caller can cause: the result has
a reason from the table. `executor.compile` does the first half alone, for a program that is published.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

from .runs import RunRequest, RunResult, Target

Load: TypeAlias = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How much an executor may take of the machine.

    Attributes:
        children: runs at one time, 1 to 256.
        spare: children that are ready and have run nothing, for runs with secrets; 1 to 256.
        waiting: runs that may wait for a child; more are refused (`runner-busy`).
        artefact_bytes: compiled programs kept in memory, least recently used dropped first.
    """

    children: int = 2
    spare: int = 2
    waiting: int = 1024
    artefact_bytes: int = 256 * 1024 * 1024


class Executor:
    """Runs programs in children of this process.

    Entering makes this process non-dumpable, so that a child of the same uid cannot read its memory, and starts the
    spare children. Leaving ends every child. To be entered in the main thread: children die with the thread that
    started them.
    """

    def __init__(self, settings: ExecutorSettings) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *_: object) -> None:
        raise NotImplementedError

    async def compile(self, wasm_sha256: str, target: Target, load: Load) -> None:
        """Compile a program if it is not compiled.

        Args:
            wasm_sha256: 64 lower-case hex digits.
            target: as declared.
            load: returns the bytes, untrusted; raises RunRefused where there are none.

        Raises:
            RunRefused: a `program-…` reason, or `compile-limit`.
        """
        raise NotImplementedError

    async def run(self, request: RunRequest, load: Load) -> RunResult:
        """Run a program once.

        Returns:
            What came of it, also where it was refused. Cancelling the call kills the run.
        """
        raise NotImplementedError
