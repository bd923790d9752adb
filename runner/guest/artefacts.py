"""A cache of compiled WebAssembly programs.

Each program is compiled in a separate child process. wasmtime runs an artefact without checking its
integrity. So artefacts are never read from disk. Each is an anonymous file in memory, sealed so
that no process can write to it, this one included.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
import time
from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import NamedTuple
from weakref import WeakValueDictionary

from capabilities.cache import Recent
from capabilities.limits import Rates
from sealspace.apps.programs import MAX_PROGRAM_BYTES, TARGET_OF
from sealspace.documents.python_programs import MAX_ARCHIVE_BYTES, parse_python_program
from sealspace.errors import InvalidInput
from serving.shares import FairSemaphore, Payer, UnknownPauses

from ..reasons import Reason, RunRefused
from .child import ChildEnded
from .frames import (
    COMPILED,
    MAX_ARTEFACT_BYTES,
    MAX_COMPILE_BYTES,
    MAX_COMPILE_S,
    MAX_DETAIL_BYTES,
    PYTHON_BASE,
)
from .pool import Pool
from .runs import Load, RunRequest

_COMPILE_S = 180.0
"""Wall-clock timeout of a compilation, for a busy machine. The child's CPU limit is 60 s."""
_AT_ONCE = 2
"""Concurrent compilations. Two, so that a small program need not wait for a large one."""
_DEVELOPER_S = 300.0
"""Compilation time that one developer's programs may use in an hour, in CPU seconds."""
_BACK_PER_S = _DEVELOPER_S / 3600
_TOO_EXPENSIVE_S = 600.0
"""How long a program is refused after its compilation exceeded a limit."""
_TIME_LIMIT = f"{_COMPILE_S:.0f} s"
_LIMITS: dict[int, str] = {
    signal.SIGXCPU: f"{MAX_COMPILE_S} s of processor time",
    # The child aborts when it is out of memory.
    signal.SIGABRT: f"{MAX_COMPILE_BYTES >> 20} MiB of memory",
    signal.SIGXFSZ: f"{MAX_ARTEFACT_BYTES >> 20} MiB for the compiled program",
}
"""Limits of a compilation by the signal that ends the child process."""
_MOST_ARTEFACTS = 256
"""Bounded because each artefact is an open file of this process."""
_MOST_REFUSED = 256
_MOST_TOO_EXPENSIVE = 4096
_SEAL_PAUSES_S = (0.01, 0.1, 0.5, 2.0)
"""Pauses between attempts to seal a file. In each attempt the kernel itself waits some 150 ms."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class _Artefact(NamedTuple):
    """A compiled program in the cache.

    Attributes:
        file: descriptor of the sealed file.
        size_bytes: length of the file.
        counted_to: the first known payer that used it; None if only unknown payers did.
    """

    file: int
    size_bytes: int
    counted_to: Payer | None


class Artefacts:
    """A size-limited cache of compiled programs.

    When the cache is full, the payer that uses most of it loses its least recently used program.
    """

    def __init__(self, pool: Pool, most_bytes: int, bases: Collection[str] = ()) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self._bases = bases
        self._files: OrderedDict[str, _Artefact] = OrderedDict()
        # Invalid programs are refused again without compiling, so that each costs time only once.
        self._refused = Recent[str, Reason](_MOST_REFUSED)
        # A separate cache: otherwise many cheap invalid programs would evict the expensive ones.
        self._too_expensive = Recent[tuple[str, bool], tuple[float, str]](_MOST_TOO_EXPENSIVE)
        self._spent = Rates[tuple[str, bool]]()
        self._tasks: dict[tuple[str, Payer, int], asyncio.Task[None]] = {}
        self._semaphore = FairSemaphore(_AT_ONCE, beside=False)
        self._pauses = UnknownPauses()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self, request: RunRequest, load: Load, used_s: list[float]) -> int:
        """Return a file descriptor of a compiled program.

        The program is compiled first if necessary. The caller closes the descriptor. Concurrent
        calls of one payer for the same program and origin share one compilation: only the first
        call's `load` runs, and all get its exception. Calls of other payers wait for their own
        turn, so no payer waits for another one's queue.

        Args:
            request: the program, its payer, and the compilation time that the payer can pay for.
            load: returns the program's bytes, untrusted.
            used_s: receives the CPU seconds that this call's compilation used.
        Raises:
            RunRefused: a `program-…` reason, `compile-limit`, `compute-limit`, `runner-busy` or
                `runner-failed`.
        """
        key = f"{request.target}:{request.wasm_sha256}:{request.origin}"
        task_key = (key, request.payer, request.compile_s)
        while key not in self._files:  # it may be evicted while this call waits (RN167)
            self._refuse_known_failure(key, request.payer)
            task = self._tasks.get(task_key)
            if task is None:
                task = asyncio.create_task(self._make(key, request, load, used_s))
                self._tasks[task_key] = task
                task.add_done_callback(lambda _: self._tasks.pop(task_key))
                # Retrieves the exception even if every caller was cancelled; asyncio would log it.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                # A cancelled caller must not cancel the compilation that others wait for.
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():  # by `close`; otherwise the caller itself was cancelled
                    raise RunRefused("runner-closed") from None
                raise
        self._files.move_to_end(key)
        artefact = self._files[key]
        if artefact.counted_to is None and request.payer.is_known:
            # RN167: a program that only unknown payers used counts to its first known payer
            self._files[key] = artefact._replace(counted_to=request.payer)
        try:
            return os.dup(artefact.file)
        except OSError as exc:  # too many open files
            raise RunRefused("runner-failed") from exc

    async def close(self) -> None:
        """Cancel all compilations, and empty the cache."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for artefact in self._files.values():
            os.close(artefact.file)
        self._files.clear()

    def _refuse_known_failure(self, key: str, payer: Payer) -> None:
        """Raise RunRefused if the program's last compilation failed."""
        if known := self._refused.get(key):
            raise RunRefused(known.code, known.detail)
        # Known and unknown payers are remembered separately: otherwise unknown payers could slow
        # the machine down until a key holder's program times out and is refused.
        until, detail = self._too_expensive.get((key, payer.is_known), (0.0, ""))
        if until > time.monotonic():  # compiling it again would cost as much again (RN165)
            raise RunRefused("compile-limit", detail)

    async def _make(self, key: str, request: RunRequest, load: Load, used_s: list[float]) -> None:
        """Load, check and compile a program, and add it to the cache.

        The CPU seconds of the compilation are appended to `used_s`, also if it fails.
        """
        async with (
            # RN220: a call that is refused because it waited too long leaves the queue, so that its
            # program is not compiled for nobody.
            asyncio.timeout_at(request.start_by_s) as waiting,
            self._semaphore.acquire(request.payer),  # payers take turns (RN164)
            self._locks.setdefault(key, asyncio.Lock()),
        ):
            waiting.reschedule(None)  # the limit was for the wait; from here there is none
            if key in self._files:  # another payer's call has compiled it meanwhile
                return
            self._refuse_known_failure(key, request.payer)
            # Counted separately, so that unknown payers cannot use up a developer's whole hour.
            developer = (request.developer, request.payer.is_known)
            if request.target != "python":  # nothing is compiled (PY11)
                self._require_quota(developer)
            program = await load()
            used_before_s = sum(used_s)
            _require_called(program, request)
            try:
                # RN9: a program of another target is refused before anything parses it
                actual_target = TARGET_OF.get(program[:8])
                if actual_target is None:
                    raise RunRefused("program-not-wasm")
                if actual_target != request.target:
                    raise RunRefused("program-target")
                if request.target == "python":
                    file = await self._open_python(program, request.payer)
                else:
                    file = await self.compile(program, request, used_s)
            except OSError as exc:
                # The machine lacks descriptors or memory; the program itself may be fine.
                raise RunRefused("runner-failed") from exc
            except RunRefused as refused:
                self._note_failure(key, request.payer, refused.reason)
                raise
            finally:
                compiled_s = sum(used_s) - used_before_s
                self._spent.add(developer, compiled_s, per_s=_BACK_PER_S, now=time.monotonic())
            self._keep(key, file, request.payer)

    def _require_quota(self, developer: tuple[str, bool]) -> None:
        """Refuse to compile more programs of a developer who has used up the hour (RN165).

        Otherwise one developer could keep the compiler busy for all others.

        Raises:
            RunRefused: `runner-busy`.
        """
        spent_s = self._spent.spent(developer, per_s=_BACK_PER_S, now=time.monotonic())
        if spent_s >= _DEVELOPER_S:
            raise RunRefused("runner-busy", "the developer's quota of compilation time is used up")

    def _note_failure(self, key: str, payer: Payer, reason: Reason) -> None:
        """Remember why a program could not be compiled, if the next attempt would fail too."""
        if reason.code == "compile-limit":
            # it is not compiled again before this time (RN165)
            until = time.monotonic() + _TOO_EXPENSIVE_S
            self._too_expensive.put((key, payer.is_known), (until, reason.detail))
        elif reason.code not in ("runner-failed", "compute-limit"):
            self._refused.put(key, reason)

    def _keep(self, key: str, file: int, payer: Payer) -> None:
        """Cache a compiled program, and evict others if necessary (RN167)."""
        self._files[key] = _Artefact(
            file=file,
            size_bytes=os.fstat(file).st_size,
            counted_to=payer if payer.is_known else None,
        )
        # A small program counts as this much, which bounds the number of programs.
        least_bytes = self._most_bytes // _MOST_ARTEFACTS
        # The new one stays, however large it is, because a call waits for it.
        while len(self._files) > 1:
            used_bytes = Counter[Payer | None]()
            for one in self._files.values():
                used_bytes[one.counted_to] += max(one.size_bytes, least_bytes)
            if used_bytes.total() <= self._most_bytes:
                return
            displaced = self._least_needed(key, used_bytes)
            os.close(self._files.pop(displaced).file)

    def _least_needed(self, kept: str, used_bytes: Counter[Payer | None]) -> str:
        """Return the least recently used program of the payer that uses most of the cache (RN167).

        Otherwise one payer with many small programs would evict those of all others. The program
        `kept` is not returned; there is another one.
        """
        for largest, _ in used_bytes.most_common():
            for key, one in self._files.items():
                if key != kept and one.counted_to == largest:
                    return key
        raise AssertionError("the cache has no other program")

    async def _open_python(self, program: bytes, payer: Payer) -> int:
        """Check a Python program, and return the descriptor of a new sealed file with it.

        The caller has a place of the compiler, of which unknown payers have one.

        Raises:
            RunRefused: `program-too-large`, `program-invalid` or `python-base-unknown`.
        """
        if len(program) > MAX_ARCHIVE_BYTES:  # PY2: before it is parsed
            raise RunRefused(
                "program-too-large", f"{len(program)} bytes; at most {MAX_ARCHIVE_BYTES}"
            )
        try:
            # In a thread: parsing the longest one takes some 100 ms. It holds the interpreter's
            # lock, so strangers with many long programs would delay all others.
            async with self._pauses.work(payer):  # RN164
                parsed = await asyncio.to_thread(parse_python_program, program)
        except InvalidInput as exc:
            raise RunRefused("program-invalid", exc.message) from exc
        if parsed.base not in self._bases:  # PY12: before anything is charged
            known = ", ".join(sorted(self._bases)) or "none"
            raise RunRefused("python-base-unknown", f"it is {parsed.base}; this runner: {known}")
        archive = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(archive, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
                stream.write(program)
            await seal(archive)
        except BaseException:
            os.close(archive)
            raise
        return archive

    async def compile(self, program: bytes, request: RunRequest, used_s: list[float]) -> int:
        """Compile a program in its own child process (RN18).

        Returns the descriptor of a new sealed file. The CPU seconds of the child are appended to
        `used_s`. The program of a request for Python is a base.
        """
        kind = PYTHON_BASE if request.target == "python" else request.target
        source = os.memfd_create("program")
        artefact = os.memfd_create("artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(source, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
                stream.write(program)
            child = await self._pool.start("_compile_child")
            try:
                answer = await child.request(
                    f"{kind} {request.compile_s}".encode(),
                    [source, artefact],
                    most_bytes=1 + MAX_DETAIL_BYTES,
                    within_s=_COMPILE_S,
                )
            except ChildEnded as ended:
                raise _uncompiled(ended, request) from ended
            finally:
                await self._pool.end_and_wait(child)  # before sealing, so that no writer is left
                used_s.append(child.cpu_s)
            # The answer is the index of a code, and a detail for people.
            if not answer or answer[0] >= len(COMPILED):
                raise RunRefused("runner-failed")
            code = COMPILED[answer[0]]
            if code:  # the code of a success is empty
                raise RunRefused(code, answer[1:].decode("utf-8", "replace"))
            await seal(artefact)
        except BaseException:
            os.close(artefact)
            raise
        finally:
            os.close(source)
        return artefact


def _uncompiled(ended: ChildEnded, request: RunRequest) -> RunRefused:
    """Return the refusal for a program whose compilation ended without an answer."""
    if ended.signal == signal.SIGXCPU and request.compile_s < MAX_COMPILE_S:
        # RN166: the payer's budget was lower than the runner's limit, and ended the compilation
        return RunRefused(
            "compute-limit",
            f"the compute limit pays for only {request.compile_s} s of compilation",
        )
    limit = _TIME_LIMIT if ended.late else _LIMITS.get(ended.signal)
    if limit is not None:
        return RunRefused("compile-limit", f"more than {limit}")
    if ended.signal:
        # The child was killed for another reason, which says nothing about the program.
        return RunRefused("runner-failed")
    return RunRefused("program-invalid")


def _require_called(program: bytes, request: RunRequest) -> None:
    """Check that loaded bytes are the program of a call (RN8).

    They come from a node or a publisher.

    Raises:
        RunRefused: `program-too-large` or `program-mismatch`.
    """
    if len(program) > MAX_PROGRAM_BYTES:
        raise RunRefused("program-too-large", f"{len(program)} bytes; at most {MAX_PROGRAM_BYTES}")
    if hashlib.sha256(program).hexdigest() != request.wasm_sha256:
        raise RunRefused("program-mismatch")


async def seal(artefact: int) -> None:
    """Make an anonymous file permanently read-only (RN27).

    The kernel refuses with EBUSY while a page of the file is in use elsewhere. On a busy machine
    the kernel itself holds such pages for a moment, so sealing is retried for some seconds.

    Raises:
        OSError: EBUSY, after all attempts.
    """
    for pause_s in _SEAL_PAUSES_S:
        try:
            fcntl.fcntl(artefact, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            await asyncio.sleep(pause_s)
        else:
            return
    fcntl.fcntl(artefact, fcntl.F_ADD_SEALS, _SEALS)
