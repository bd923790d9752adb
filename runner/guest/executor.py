"""Execution of programs in a pool of confined child processes.

Authorisation is decided before, in `calls`. Then one call runs the program:

    async with Executor(children=2) as executor:
        result = await executor.run(request, load)

`load` is awaited only if the program is not compiled yet. It returns the program's bytes, whose
SHA-256 must equal the request's. `run` never raises for a fault of a program, publisher or caller:
the result then has a reason from `REASONS`. `compile` only compiles, to check a program before it
is published.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from sealspace.apps.programs import Target
from sealspace.documents.python_programs import BASE_END, base_of
from serving.confinement.landlock import landlock_version
from serving.confinement.privileges import undump
from serving.outbound import Outbound
from serving.shares import FairSemaphore

from ..reasons import OF_PROGRAM, REASONS, RunRefused
from . import frames as _frames
from .artefacts import Artefacts
from .bodies import BodySplitter
from .bundles import BundleVerifier
from .child import Child, ChildEnded
from .environment import environment_of
from .kept_children import KeptChildren
from .pool import Pool, PoolUse
from .python_bases import PythonBases
from .run_client import RunClient
from .runs import (
    MAX_INPUT_BYTES,
    MAX_STDERR_BYTES,
    Load,
    ResponseFormat,
    RunRequest,
    RunResult,
    TaskFolders,
    answer_of,
    failed_answer_of,
)

_MEBIBYTE = 1024 * 1024
_COMPONENT: Target = "wasm32-wasip2"
"""Target of a Python base."""
_Encoded = TypeVar("_Encoded")

INLINE_BYTES = 64 * 1024
"""Longest output that is encoded on the event loop; a longer one takes milliseconds in a thread."""


class _NoAnswer(NamedTuple):
    """The code of the reason why a child gave no answer that counts."""

    code: str


class ExecutorUse(NamedTuple):
    """The use of an executor.

    Attributes:
        running: programs that run.
        waiting: calls whose programs are compiled, and wait for a place.
        kept: child processes that wait for another call of their caller.
        pool: the use of the pool.
    """

    running: int
    waiting: int
    kept: int
    pool: PoolUse


@dataclass(eq=False, repr=False)
class Executor:
    """A context manager that runs programs in child processes.

    Entering makes this process non-dumpable, so that a child of the same uid cannot read its
    memory. It then starts the spare children, and raises RuntimeError if none starts. Leaving ends
    every child. Enter it in the main thread, because children end with the thread that started
    them, and on asyncio's own event loop, which `Outbound` needs.
    """

    children: int = 2
    spare: int = 2
    artefact_bytes: int = 256 * _MEBIBYTE
    outbound: Outbound = field(default_factory=Outbound)
    bases: Mapping[str, bytes] = field(default_factory=dict)
    base_cache: Path | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.children <= 128 and 1 <= self.spare <= 128):
            raise ValueError("`children` and `spare` must be 1 to 128")
        self._pool = Pool(self.spare)
        self._kept = KeptChildren(self._pool.end)
        self._artefacts = Artefacts(self._pool, self.artefact_bytes, self.bases.keys())
        self._bases = PythonBases(self.bases, self._artefacts, self._pool, self.base_cache)
        self._semaphore = FairSemaphore(self.children, beside=True)
        self.bodies = BodySplitter(self._pool)
        self.bundles = BundleVerifier(self._pool)
        self._closed = False

    async def __aenter__(self) -> Self:
        undump()  # no child of the same uid may read this process's memory (RN23)
        await self.outbound.__aenter__()
        try:
            await self._pool.fill()
        except RunRefused as failed:
            await self.__aexit__()
            raise RuntimeError(
                "cannot start a child process; next: allow the runner to install seccomp filters"
                " and, if the runner runs as root, to change the uid of child processes"
            ) from failed
        self._bases.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._kept.close()
        await self._bases.close()
        await self._artefacts.close()
        await self._pool.close()
        await self.outbound.__aexit__()

    async def compile(self, wasm_sha256: str, target: Target, load: Load) -> None:
        """Compile a program unless it is already in the cache."""
        self._refuse_closed()
        os.close(await self._artefacts.open(RunRequest(wasm_sha256, target), load, []))

    def end_kept(self, series: bytes) -> None:
        """End the children that are kept for a series of calls (RN260).

        Call it when a call of the series is refused: a grant may have been revoked.
        """
        self._kept.end_series(series)

    @property
    def use(self) -> ExecutorUse:
        """The present use of the executor, for metrics."""
        return ExecutorUse(
            running=self._semaphore.used,
            waiting=self._semaphore.waiting,
            kept=self._kept.count,
            pool=self._pool.use,
        )

    async def run(self, request: RunRequest, load: Load) -> RunResult:
        """Run a program once, and return the result.

        A refused run has a result too. Cancelling the call kills the run.
        """
        client = RunClient(self.outbound, request.hosts)
        compile_s = list[float]()
        try:
            self._refuse_closed()
            if len(request.input) > MAX_INPUT_BYTES:  # it is sent to a child as a whole (RN7)
                raise RunRefused("input-too-large")
            # TG3: arguments have the bounds of a variable. This is called for its checks alone.
            environment_of({}, {"ARGUMENTS": " ".join(request.arguments)})
            # without Landlock, the program could reach files outside its folders (TG4)
            if request.folders is not None and landlock_version() < 1:
                raise RunRefused("tasks-unsupported")
            async with asyncio.timeout_at(request.start_by_s) as waiting:
                # Compiled before the call takes a place, so that others can run in the meantime.
                # The program stays in the cache, so this descriptor is closed again.
                artefact = await self._artefacts.open(request, load, compile_s)
                base = _base_of(request, artefact)
                os.close(artefact)
                if base:
                    await self._bases.wait_until_loaded(base)
                async with self._semaphore.acquire(request.payer):
                    self._refuse_closed()
                    # Compiles again only if other programs have evicted it in the meantime.
                    artefact = await self._artefacts.open(request, load, compile_s)
                    # RN220: only its own limits end a program that started
                    waiting.reschedule(None)
                    try:
                        result = await self._run_compiled(request, artefact, base, client)
                    finally:
                        os.close(artefact)
        except RunRefused as refused:
            result = RunResult(refused.reason)
        except TimeoutError:  # it could not start in time (RN220)
            result = RunResult(REASONS["runner-busy"])
        # RN110: a run that failed may have sent something to these hosts, too
        hosts = tuple(sorted(client.contacted))
        return replace(result, hosts=hosts, compile_s=sum(compile_s))

    async def _run_compiled(
        self, request: RunRequest, artefact: int, base: str, client: RunClient
    ) -> RunResult:
        """Run a compiled program in a child process, or a Python program on its base."""
        program = f"{request.target}:{request.wasm_sha256}"
        # RN26: what a run with secrets or storage leaves in its child reaches only calls of the
        # same scope
        is_alone = request.secrets_delivered or request.has_storage or request.folders is not None
        child = await self._child_for(request, program, base, is_unused=is_alone)
        files = () if program in child.loaded else (artefact,)
        forgotten = child.note_use(program, os.fstat(artefact).st_size)
        payload = _payload(request, program, base, forgotten)
        begun = time.monotonic_ns()
        is_reusable = False
        try:
            answered = await self._ask(child, request, payload, files, client)
            is_reusable = _is_reusable(request, answered, is_alone=is_alone)
        finally:
            if not is_reusable:
                self._kept.discard(child)
            elif is_alone:
                # The place of this run is free next.
                self._kept.give_back(child, request.payer, most=self._semaphore.free + 1)
            else:
                self._pool.give_back(child)
            if request.folders is not None:
                await self._pool.end_and_wait(child)  # TG2: afterwards its files do not change
        took_ns = time.monotonic_ns() - begun
        if not isinstance(answered, _NoAnswer) and not await _is_within_limits(request):
            answered = _NoAnswer("limit-files")
        if not isinstance(answered, _NoAnswer):
            answer, output, stderr = answered
            return await _result(request, answer, output, stderr, took_ns)
        # RN2: the child has ended without a count, so the run counts as having used its limit.
        return RunResult(
            REASONS[answered.code],
            instructions=request.limits.max_instructions,
            time_ns=took_ns,
            secrets_delivered=request.secrets_delivered,
        )

    async def _child_for(
        self, request: RunRequest, program: str, base: str, *, is_unused: bool
    ) -> Child:
        """Return a child for a run.

        A task gets a new child in its own folder. A call gets the child that was kept after the
        last call of its scope, or else one of the pool.

        Args:
            request: the run.
            program: SHA-256 of the program, in hex.
            base: SHA-256 of its Python base, in hex; "" without one.
            is_unused: whether the child must not have run a program, except one of the same scope.
        """
        if request.folders is not None:
            return await self._task_child(request.folders)
        scope = request.reuse if is_unused else None
        if scope is not None:
            kept = self._kept.take(scope)
            if kept is not None:
                return kept
        # One more child runs from here, so kept children end that would be too many beside it.
        self._kept.trim(self._semaphore.free)
        child = await self._pool.take(unused=is_unused, program=program, base=base)
        if scope is not None:
            self._kept.lend(child, scope)
        return child

    async def _task_child(self, folders: TaskFolders) -> Child:
        """Start a child in the folder of a task (TG2)."""
        self._kept.trim(self._semaphore.free)
        child = await self._pool.start("_task_child", folders)
        # The child ends as soon as its program has written more than it may (TG8).
        folders.filled.add_done_callback(lambda _: self._pool.end(child))
        return child

    async def _ask(
        self,
        child: Child,
        request: RunRequest,
        payload: bytes,
        files: Sequence[int],
        client: RunClient,
    ) -> tuple[_frames.Answer, memoryview, bytes] | _NoAnswer:
        """Have a child run a program, and return its untrusted answer.

        Raises:
            RunRefused: `runner-closed`.
        """
        limits = request.limits
        try:
            body = await child.request(
                payload,
                files,
                most_bytes=_frames.ANSWER_BYTES + limits.max_output_bytes + MAX_STDERR_BYTES,
                within_s=limits.max_execution_s,
                handlers={_frames.FETCH: client.answer, _frames.STORAGE: request.storage},
            )
            answered = _frames.unpack(body)
        except ChildEnded as ended:
            if self._closed:
                raise RunRefused("runner-closed") from ended
            if ended.late or ended.signal == signal.SIGXCPU:
                return _NoAnswer("limit-time")
            if request.folders is not None and request.folders.filled.done():
                # TG8: the child was ended because it had written too much
                return _NoAnswer("limit-files")
            return _NoAnswer("run-crashed")
        except ValueError:  # a malformed answer: the guest may have taken over the child
            return _NoAnswer("run-crashed")
        if answered[0].ended == _frames.OVERFLOWED:
            return _NoAnswer("limit-output")
        return answered

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RunRefused("runner-closed")


async def _is_within_limits(request: RunRequest) -> bool:
    """Return whether what a program left in its folder is within limits (TG8).

    A fast program can end above them before the folder is looked at.
    """
    if request.folders is None:
        return True
    return await asyncio.to_thread(request.folders.is_within_limits)


def _is_reusable(
    request: RunRequest,
    answered: tuple[_frames.Answer, memoryview, bytes] | _NoAnswer,
    *,
    is_alone: bool,
) -> bool:
    """Return whether a child may run another call."""
    if isinstance(answered, _NoAnswer) or request.folders is not None:
        return False
    if not is_alone:
        return True
    answer = answered[0]
    # RN261: only after a run without any irregularity, because a failed one may be an attack
    is_regular = answer.ended == _frames.COMPLETED and not answer.flags
    return request.reuse is not None and is_regular


def _base_of(request: RunRequest, artefact: int) -> str:
    """Return the Python base of a program, or an empty text for a compiled one."""
    if request.target != "python":
        return ""
    return base_of(os.pread(artefact, BASE_END, 0))


def _payload(request: RunRequest, program: str, base: str, forgotten: Sequence[str]) -> bytes:
    """Return the message that has a child run a program, and forget others."""
    limits = request.limits
    # Only a task has arguments, the first of which is the program. Without folders, a run that has
    # arguments fails (TG3): its child cannot open the folders of a task.
    has_arguments = request.folders is not None or bool(request.arguments)
    head = {
        "program": program,
        "target": _COMPONENT if base else request.target,
        "base": base,
        "environment": request.environment,
        "arguments": ["program", *request.arguments] if has_arguments else [],
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
    """Return the result of a run from a child's untrusted answer."""
    reason = None
    written = b""
    answer_format = None
    if len(output) <= INLINE_BYTES:
        output = bytes(output)
    try:
        _require_completed(answer)
        written = await _encoded(answer_of, output, request.response_format)
    except RunRefused as failed:
        reason = failed.reason
        # RN263: any other reason says what the runner decided, and has no output
        if reason.code in OF_PROGRAM and output:
            written, answer_format = await _encoded(
                failed_answer_of, output, request.response_format
            )
    return RunResult(
        reason,
        output=output if written else b"",
        answer=written,
        answer_format=answer_format,
        stderr=stderr,
        stderr_bytes=answer.stderr_bytes,
        # RN17: a child's numbers are not trusted beyond the limits of its run.
        instructions=min(answer.instructions, request.limits.max_instructions),
        time_ns=min(answer.time_ns, took_ns),
        memory_bytes=min(answer.memory_bytes, request.limits.max_memory_mb * _MEBIBYTE),
        secrets_delivered=request.secrets_delivered,
    )


async def _encoded(
    encode: Callable[[bytes | memoryview, ResponseFormat], _Encoded],
    output: bytes | memoryview,
    response_format: ResponseFormat,
) -> _Encoded:
    """Encode a program's output, a long one in a thread."""
    if len(output) <= INLINE_BYTES:
        return encode(output, response_format)
    return await asyncio.to_thread(encode, output, response_format)


def _require_completed(answer: _frames.Answer) -> None:
    """Raise RunRefused unless the program run completed (RN28).

    The reason follows from how the run ended and from its flags, never from an error text.
    """
    detail = str(answer.exit_code) if answer.ended == _frames.EXITED else ""
    # RN175: also if the program completed, because then it has used more than its limit
    if answer.flags & _frames.NO_FUEL:
        raise RunRefused("limit-instructions", detail)
    if answer.ended == _frames.COMPLETED:
        return
    if answer.flags & _frames.MEMORY_REFUSED:
        raise RunRefused("limit-memory", detail)
    codes = {_frames.EXITED: "guest-exit", _frames.REFUSED: "program-start"}
    raise RunRefused(codes.get(answer.ended, "guest-trap"), detail)
