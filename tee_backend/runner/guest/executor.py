"""Running programs: a pool of confined children, a compiler in a child of its own, and artefacts in
memory.

The trust side decides everything about authority first and then makes one call:

    async with Executor(children=2) as executor:
        result = await executor.run(request, load)

`load` is awaited only when the program is not compiled yet; it returns the program's bytes, whose
SHA-256 is compared with the request's. `run` raises nothing for anything that a program, a
publisher or a caller can cause: the result has a reason from the table. `executor.compile` does the
first half alone, for a program that is published.
"""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Final, Self

from ..reasons import REASONS, RunRefused
from ..shares import Turns
from . import frames as _frames
from .artefacts import Artefacts
from .child import ChildEnded
from .confinement import undump
from .outbound import Outbound, RunClient
from .pool import Pool
from .runs import MAX_INPUT_BYTES, MAX_STDERR_BYTES, Load, RunRequest, RunResult, Target, answer_of

_MEBIBYTE: Final = 1024 * 1024
INLINE_BYTES: Final = 64 * 1024
"""Up to here an answer is made on the event loop; a larger one takes milliseconds and is made in a
thread."""


@dataclass(eq=False, repr=False)
class Executor:
    """Runs programs in children of this process.

    Entering makes this process non-dumpable, so that a child of the same uid cannot read its
    memory, and starts the spare children; RuntimeError where none starts. Leaving ends every child.
    To be entered in the main thread, because children end with the thread that started them, and on
    asyncio's own event loop (`Outbound`).
    """

    children: int = 2
    spare: int = 2
    artefact_bytes: int = 256 * _MEBIBYTE
    outbound: Outbound = field(default_factory=Outbound)

    def __post_init__(self) -> None:
        if not (1 <= self.children <= 128 and 1 <= self.spare <= 128):
            raise ValueError("children and spare are 1 to 128")
        self._pool = Pool(self.spare)
        self._artefacts = Artefacts(self._pool, self.artefact_bytes)
        self._turns = Turns(self.children, beside=True)
        self._closed = False

    async def __aenter__(self) -> Self:
        undump()  # RN23
        await self.outbound.__aenter__()
        try:
            await self._pool.fill()
        except RunRefused as failed:
            await self.__aexit__()
            raise RuntimeError(
                "no child process starts; it must be able to install a seccomp filter and, under"
                " root, change its uid"
            ) from failed
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await self._artefacts.close()
        await self._pool.close()
        await self.outbound.__aexit__()

    async def compile(self, wasm_sha256: str, target: Target, load: Load) -> None:
        """Compile a program if it is not compiled."""
        self._refuse_closed()
        os.close(await self._artefacts.open(RunRequest(wasm_sha256, target), load, []))

    async def run(self, request: RunRequest, load: Load) -> RunResult:
        """Run a program once.

        Returns:
            What came of it, also where it was refused. Cancelling the call kills the run.
        """
        client, compile_s = RunClient(self.outbound, request.hosts), list[float]()
        try:
            result = await self._run(request, load, client, compile_s)
        except RunRefused as refused:
            result = RunResult(refused.reason)
        # RN110
        return replace(result, hosts=tuple(sorted(client.contacted)), compile_s=sum(compile_s))

    async def _run(
        self, request: RunRequest, load: Load, client: RunClient, compile_s: list[float]
    ) -> RunResult:
        self._refuse_closed()
        if len(request.input) > MAX_INPUT_BYTES:  # RN7
            raise RunRefused("input-too-large")
        os.close(await self._artefacts.open(request, load, compile_s))  # others run meanwhile
        async with self._turns.place(request.payer):
            self._refuse_closed()
            # Compiled again only where others displaced it meanwhile.
            artefact = await self._artefacts.open(request, load, compile_s)
            try:
                return await self._run_compiled(request, artefact, client)
            finally:
                os.close(artefact)

    async def _run_compiled(
        self, request: RunRequest, artefact: int, client: RunClient
    ) -> RunResult:
        """Run in a child; whatever happens, the child goes back to the pool or ends."""
        program = f"{request.target}:{request.wasm_sha256}"
        child = await self._pool.take(unused=request.secrets_delivered, program=program)
        files = () if program in child.held else (artefact,)
        payload = _payload(request, program, child.hold(program, os.fstat(artefact).st_size))
        begun, answered, code = time.monotonic_ns(), None, "run-crashed"
        try:
            body = await child.ask(
                payload,
                files,
                most_bytes=_frames.ANSWER_BYTES
                + request.limits.max_output_bytes
                + MAX_STDERR_BYTES,
                within_s=request.limits.max_execution_s,
                fetch=client.answer,
            )
            answered = _frames.unpack(body)
            if answered[0].ended == _frames.OVERFLOWED:
                answered, code = None, "limit-output"
        except ChildEnded as ended:
            if self._closed:
                raise RunRefused("runner-closed") from ended
            if ended.late or ended.signal == signal.SIGXCPU:
                code = "limit-time"
        except ValueError:  # what answered is no child of ours any more
            pass
        finally:
            is_reusable = answered is not None and not request.secrets_delivered
            (self._pool.give_back if is_reusable else self._pool.end)(child)
        took_ns = time.monotonic_ns() - begun
        if answered is not None:
            return await _result(request, *answered, took_ns)
        # Its child can tell nothing about it any more.
        used, delivered = request.limits.max_instructions, request.secrets_delivered
        return RunResult(
            REASONS[code], instructions=used, time_ns=took_ns, secrets_delivered=delivered
        )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RunRefused("runner-closed")


def _payload(request: RunRequest, program: str, forgotten: list[str]) -> bytes:
    """Return the request as the child reads it."""
    limits = request.limits
    head = {
        "program": program,
        "target": request.target,
        "environment": request.environment,
        "instructions": limits.max_instructions,
        "memory_bytes": limits.max_memory_mb * _MEBIBYTE,
        "output_bytes": limits.max_output_bytes,
        "seconds": limits.max_execution_s,
        "forget": forgotten,
    }
    return _frames.pack_request(head, request.input)


async def _result(
    request: RunRequest,
    answer: _frames.Answer,
    output: bytes | memoryview,
    stderr: bytes,
    took_ns: int,
) -> RunResult:
    reason, written = None, b""
    try:
        _require_completed(answer)
        if len(output) <= INLINE_BYTES:
            output = bytes(output)
            written = answer_of(output, request.response_format)
        else:
            written = await asyncio.to_thread(answer_of, output, request.response_format)
    except RunRefused as failed:
        reason = failed.reason
    return RunResult(
        reason,
        output=b"" if reason else output,
        answer=written,
        stderr=stderr,
        stderr_bytes=answer.stderr_bytes,
        # RN17: the child may be wrong about these, but not beyond what was allowed.
        instructions=min(answer.instructions, request.limits.max_instructions),
        time_ns=min(answer.time_ns, took_ns),
        memory_bytes=min(answer.memory_bytes, request.limits.max_memory_mb * _MEBIBYTE),
        secrets_delivered=request.secrets_delivered,
    )


def _require_completed(answer: _frames.Answer) -> None:
    """Raise why a run failed, from how it ended and from flags, never from a text (RN28)."""
    detail = str(answer.exit_code) if answer.ended == _frames.EXITED else ""
    if answer.flags & _frames.NO_FUEL:  # RN175: also if the program came to its end
        raise RunRefused("limit-instructions", detail)
    if answer.ended == _frames.COMPLETED:
        return
    if answer.flags & _frames.MEMORY_REFUSED:
        raise RunRefused("limit-memory", detail)
    codes = {_frames.EXITED: "guest-exit", _frames.REFUSED: "program-start"}
    raise RunRefused(codes.get(answer.ended, "guest-trap"), detail)
