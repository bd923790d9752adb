"""Compiled programs: made by a compiling child, kept in this process's memory, handed to children read-only.

wasmtime does not notice a byte that was changed in an artefact, so that none is ever read from a disk: an artefact is
an anonymous file that nobody can write to any more, the parent included.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
from collections import OrderedDict
from typing import Final

from ._child import ChildEnded
from ._frames import COMPILED, MAX_DETAIL_BYTES
from ._pool import Pool
from .reasons import RunRefused
from .runs import MAX_PROGRAM_BYTES, Load, Target

_COMPILE_S: Final = 40.0
"""By the clock, for a machine that is too busy; the child's own bound is 20 s of processor time."""
_MOST_LOADING: Final = 4
"""Programs whose bytes are in memory at one time."""
_MOST_ARTEFACTS: Final = 256
"""Each is an open file of this process."""
_MOST_REFUSED: Final = 256
_MAGIC: Final = {Target.WASIP1: b"\0asm\x01\0\0\0", Target.WASIP2: b"\0asm\x0d\0\x01\0"}
"""First eight bytes of a module and of a component."""
_SEAL_PAUSES_S: Final = (0.01, 0.1, 0.5, 2.0)
"""Between one attempt to seal and the next, each of which the kernel itself gives some 150 ms."""
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Artefacts:
    """The artefacts that are kept, bounded in bytes and number; the least recently used go first."""

    def __init__(self, pool: Pool, most_bytes: int) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self._files: OrderedDict[str, tuple[int, int]] = OrderedDict()  # descriptor and size
        self._bytes = 0
        # A program that was refused once is refused again without a child: a compile bomb costs its time once.
        self._refused: OrderedDict[str, RunRefused] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loading = asyncio.Semaphore(_MOST_LOADING)
        self._compiling = asyncio.Semaphore(1)

    async def open(self, wasm_sha256: str, target: Target, load: Load, origin: str = "") -> int:
        """Return a descriptor of the artefact, which the caller closes; compile it if it is not there.

        Several callers who want one program of one origin wait for one compilation, and `load` of the first is awaited:
        all of them get what it raises.

        Raises:
            RunRefused: a `program-…` reason, `compile-limit`, or `runner-failed`.
        """
        key = f"{target.value}:{wasm_sha256}:{origin}"
        while key not in self._files:
            if known := self._refused.get(key):
                raise RunRefused(known.reason.code, known.detail)
            if (task := self._tasks.get(key)) is None:
                task = self._tasks[key] = asyncio.create_task(self._make(key, wasm_sha256, target, load))
                task.add_done_callback(lambda done: self._done(key, done))
            try:
                await asyncio.shield(task)  # a caller who is cancelled leaves the others their compilation
            except asyncio.CancelledError:
                if task.cancelled():
                    raise RunRefused("runner-closed") from None
                raise
        self._files.move_to_end(key)
        try:
            return os.dup(self._files[key][0])
        except OSError as exc:  # no file is free
            raise RunRefused("runner-failed") from exc

    async def close(self) -> None:
        """Forget everything."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for file, _size in self._files.values():
            os.close(file)
        self._files.clear()

    def _done(self, key: str, task: "asyncio.Task[None]") -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, even where every caller was cancelled

    async def _make(self, key: str, wasm_sha256: str, target: Target, load: Load) -> None:
        async with self._loading:
            program = await load()
            if len(program) > MAX_PROGRAM_BYTES:  # RN8
                raise RunRefused("program-too-large")
            if hashlib.sha256(program).hexdigest() != wasm_sha256:  # RN8
                raise RunRefused("program-mismatch")
            try:
                _check_target(program, target)
                async with self._compiling:
                    file = await self._compile(program, target)
            except OSError as exc:  # this machine's lack of descriptors or memory, and nothing about the program
                raise RunRefused("runner-failed") from exc
            except RunRefused as refused:
                if refused.reason.code != "runner-failed":
                    self._refused[key] = refused
                    while len(self._refused) > _MOST_REFUSED:
                        self._refused.popitem(last=False)
                raise
        self._keep(key, file)

    async def _compile(self, program: bytes, target: Target) -> int:
        """Compile in a child of its own, which sees this program and no other (RN18)."""
        source = os.memfd_create("program")
        artefact = os.memfd_create("artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(source, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
                stream.write(program)
            await self._ask_compiler(target.value.encode(), [source, artefact])
            await seal(artefact)
        except BaseException:
            os.close(artefact)
            raise
        finally:
            os.close(source)
        return artefact

    async def _ask_compiler(self, target: bytes, files: list[int]) -> None:
        try:
            child = await self._pool.start("_compile_child")
        except ChildEnded as ended:
            raise RunRefused("runner-failed") from ended
        try:
            answer = await child.ask(target, files, most_bytes=1 + MAX_DETAIL_BYTES, within_s=_COMPILE_S)
        except ChildEnded as ended:
            raise RunRefused(_code_of(ended)) from ended
        finally:
            await self._pool.ended(child)  # before its file is sealed
        if not answer or answer[0] >= len(COMPILED):
            raise RunRefused("runner-failed")
        if code := COMPILED[answer[0]]:
            raise RunRefused(code, answer[1:].decode("utf-8", "replace"))

    def _keep(self, key: str, file: int) -> None:
        size = os.fstat(file).st_size
        self._files[key] = (file, size)
        self._bytes += size
        # The newest stays, however large it is: somebody waits for it.
        while len(self._files) > 1 and (self._bytes > self._most_bytes or len(self._files) > _MOST_ARTEFACTS):
            _key, (oldest, oldest_size) = self._files.popitem(last=False)
            os.close(oldest)
            self._bytes -= oldest_size


async def seal(artefact: int) -> None:
    """Take the right to write to a file in memory from everybody, this process included (RN27).

    The kernel refuses while anything beside the file holds one of its pages, which on a busy machine it does itself.

    Raises:
        OSError: EBUSY, for seconds.
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


def _check_target(program: bytes, target: Target) -> None:
    """Refuse what is no binary of its declared kind, before anything parses it (RN9)."""
    if program[:8] == _MAGIC[target]:
        return
    raise RunRefused("program-target" if program[:8] in _MAGIC.values() else "program-not-wasm")


def _code_of(ended: ChildEnded) -> str:
    """Return what the end of a compiling child says about the program; what was killed, late or not, says nothing."""
    if ended.signal in (signal.SIGXCPU, signal.SIGABRT, signal.SIGXFSZ):  # out of memory, it aborts
        return "compile-limit"
    return "runner-failed" if ended.signal else "program-invalid"
