"""Compiled programs: made by a compiling child, kept in this process's memory, handed to children
read-only.

wasmtime does not notice a byte that was changed in an artefact, so that none is ever read from a
disk: an artefact is an anonymous file that nobody can write to any more, the parent included.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
import time
from collections import Counter, OrderedDict
from typing import Final
from weakref import WeakValueDictionary

from capabilities.cache import Recent
from capabilities.limits import Rates

from ..reasons import Reason, RunRefused
from ..shares import Payer, Turns
from .child import ChildEnded
from .frames import COMPILED, MAX_DETAIL_BYTES
from .pool import Pool
from .runs import MAX_COMPILE_S, MAX_PROGRAM_BYTES, Load, RunRequest, Target

_COMPILE_S: Final = 40.0
"""By the clock, for a machine that is too busy; the child's own bound is 20 s of processor time."""
_AT_ONCE: Final = 2
"""Compilations at one time: a small program does not wait for a heavy one of another payer."""
_DEVELOPER_S: Final = 120.0
_BACK_PER_S: Final = _DEVELOPER_S / 3600
"""Compile seconds of one developer in an hour."""
_GAVE_UP_S: Final = 600.0
"""How long a program is refused at once after its compilation took too much time or memory."""
_MOST_ARTEFACTS: Final = 256
"""Each is an open file of this process."""
_MOST_REFUSED: Final = 256
_MOST_GAVE_UP: Final = 4096
_MAGIC: Final = {Target.WASIP1: b"\0asm\x01\0\0\0", Target.WASIP2: b"\0asm\x0d\0\x01\0"}
"""First eight bytes of a module and of a component."""
_SEAL_PAUSES_S: Final = (0.01, 0.1, 0.5, 2.0)
"""Between one attempt to seal and the next, each of which the kernel itself gives some 150 ms."""
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Artefacts:
    """The artefacts that are kept, bounded in bytes and number; of the payer with most, the least
    recently used go."""

    def __init__(self, pool: Pool, most_bytes: int) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        # Descriptor, size, and the payer that it is counted to: the first that is known; None:
        # strangers.
        self._files: OrderedDict[str, tuple[int, int, Payer | None]] = OrderedDict()
        # A program that was refused once is refused again without a child: a compile bomb costs its
        # time once.
        self._refused = Recent[str, Reason](_MOST_REFUSED)
        # Apart from those above, which cost little: many of them would have the heavy ones
        # forgotten.
        self._gave_up = Recent[tuple[str, bool], float](_MOST_GAVE_UP)
        self._spent = Rates[tuple[str, bool]]()
        self._tasks: dict[tuple[str, Payer, int], asyncio.Task[None]] = {}
        self._turns = Turns(_AT_ONCE, beside=False)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self, asked: RunRequest, load: Load, compile_s: list[float]) -> int:
        """Return a descriptor of the artefact, which the caller closes; compile it if it is not
        there.

        Several calls of one payer who want one program of one origin wait for one compilation, and
        `load` of the first is awaited: all of them get what it raises. Calls of other payers wait
        for their own turn, so that no payer waits behind what another one has compiled.

        Args:
            asked: program, payer and what may be spent.
            load: returns the bytes, untrusted.
            compile_s: gets the processor seconds that were spent for this call.
        Raises:
            RunRefused: a `program-…` reason, `compile-limit`, `compute-limit`, `runner-busy` or
                `runner-failed`.
        """
        key = f"{asked.target}:{asked.wasm_sha256}:{asked.origin}"
        wanted = (key, asked.payer, asked.compile_s)
        while key not in self._files:  # RN167
            self._require_promising(key, asked.payer)
            if (task := self._tasks.get(wanted)) is None:
                task = self._tasks[wanted] = asyncio.create_task(
                    self._make(key, asked, load, compile_s)
                )
                task.add_done_callback(lambda _: self._tasks.pop(wanted))
                # Its exception is read even where every caller was cancelled.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                # a caller who is cancelled leaves the others their compilation
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise RunRefused("runner-closed") from None
                raise
        self._files.move_to_end(key)
        file, size, counted_to = self._files[key]
        if counted_to is None and asked.payer.is_known:
            self._files[key] = file, size, asked.payer
        try:
            return os.dup(file)
        except OSError as exc:  # no file is free
            raise RunRefused("runner-failed") from exc

    async def close(self) -> None:
        """Forget everything."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for file, _, _ in self._files.values():
            os.close(file)
        self._files.clear()

    def _require_promising(self, key: str, payer: Payer) -> None:
        """Refuse at once what was refused before."""
        if known := self._refused.get(key):
            raise RunRefused(known.code, known.detail)
        # Each share by itself: strangers who slow the machine down do not have a program refused to
        # key holders.
        if self._gave_up.get((key, payer.is_known), 0.0) > time.monotonic():  # RN165
            raise RunRefused("compile-limit")

    async def _make(self, key: str, asked: RunRequest, load: Load, compile_s: list[float]) -> None:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with self._turns.place(asked.payer), lock:  # RN164
            if key in self._files:  # the call of another payer had it compiled meanwhile
                return
            self._require_promising(key, asked.payer)
            # Strangers spend apart: they cannot use up what key holders need of the same developer.
            developer = (asked.developer, asked.payer.is_known)
            # RN165
            if (
                self._spent.spent(developer, per_s=_BACK_PER_S, now=time.monotonic())
                >= _DEVELOPER_S
            ):
                raise RunRefused("runner-busy", "compile seconds of the developer")
            program, before_s = await load(), sum(compile_s)
            if len(program) > MAX_PROGRAM_BYTES:  # RN8
                raise RunRefused("program-too-large")
            if hashlib.sha256(program).hexdigest() != asked.wasm_sha256:  # RN8
                raise RunRefused("program-mismatch")
            try:
                if program[:8] != _MAGIC[asked.target]:  # RN9: before anything parses it
                    raise RunRefused(
                        "program-target" if program[:8] in _MAGIC.values() else "program-not-wasm"
                    )
                file = await self._compile(program, asked, compile_s)
            except OSError as exc:
                # this machine's lack of descriptors or memory, and nothing about the program
                raise RunRefused("runner-failed") from exc
            except RunRefused as refused:
                if refused.reason.code == "compile-limit":
                    # RN165
                    self._gave_up.put((key, asked.payer.is_known), time.monotonic() + _GAVE_UP_S)
                elif refused.reason.code not in ("runner-failed", "compute-limit"):
                    self._refused.put(key, refused.reason)
                raise
            finally:
                self._spent.add(
                    developer, sum(compile_s) - before_s, per_s=_BACK_PER_S, now=time.monotonic()
                )
            self._keep(key, file, asked.payer)

    def _keep(self, key: str, file: int, payer: Payer) -> None:
        """Keep a compiled program, in the place of others of the payer that has most (RN167)."""
        self._files[key] = file, os.fstat(file).st_size, payer if payer.is_known else None
        # The newest stays, however large it is: somebody waits for it.
        while len(self._files) > 1:
            held = Counter[Payer | None]()
            for _, size, one in self._files.values():
                held[one] += max(size, self._most_bytes // _MOST_ARTEFACTS)
            if held.total() <= self._most_bytes:
                return
            # RN167: strangers, or one key, would have all programs of others compiled again by many
            # small ones.
            displaced = next(
                other
                for most, _ in held.most_common()
                for other in self._files
                if other != key and self._files[other][2] == most
            )
            os.close(self._files.pop(displaced)[0])

    async def _compile(self, program: bytes, asked: RunRequest, compile_s: list[float]) -> int:
        """Compile in a child of its own, which sees this program and no other (RN18)."""
        source = os.memfd_create("program")
        artefact = os.memfd_create("artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(source, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
                stream.write(program)
            child = await self._pool.start("_compile_child")
            try:
                request, most_bytes = (
                    f"{asked.target} {asked.compile_s}".encode(),
                    1 + MAX_DETAIL_BYTES,
                )
                answer = await child.ask(
                    request, [source, artefact], most_bytes=most_bytes, within_s=_COMPILE_S
                )
            except ChildEnded as ended:
                if ended.signal == signal.SIGXCPU and asked.compile_s < MAX_COMPILE_S:  # RN166
                    raise RunRefused(
                        "compute-limit", f"{asked.compile_s} s of compilation"
                    ) from ended
                # Out of memory, it aborts.
                if ended.late or ended.signal in (signal.SIGXCPU, signal.SIGABRT, signal.SIGXFSZ):
                    raise RunRefused("compile-limit") from ended
                # That another process killed it says nothing about the program.
                raise RunRefused("runner-failed" if ended.signal else "program-invalid") from ended
            finally:
                await self._pool.ended(child)  # before its file is sealed
                compile_s.append(child.cpu_s)
            if not answer or answer[0] >= len(COMPILED):
                raise RunRefused("runner-failed")
            if code := COMPILED[answer[0]]:
                raise RunRefused(code, answer[1:].decode("utf-8", "replace"))
            await seal(artefact)
        except BaseException:
            os.close(artefact)
            raise
        finally:
            os.close(source)
        return artefact


async def seal(artefact: int) -> None:
    """Take the right to write to a file in memory from everybody, this process included (RN27).

    The kernel refuses while anything beside the file holds one of its pages, which on a busy
    machine it does itself.

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
