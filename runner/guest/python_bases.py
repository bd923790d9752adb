"""The Python bases of a runner: components that run Python programs (PY11).

A base is part of the runner. It is compiled when the runner starts, on the operator's account, and
is then loaded into the template, so that each child has it from its first moment on.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sealspace.apps.programs import MAX_PROGRAM_BYTES
from sealspace.private_files import replace_file

from ..reasons import RunRefused
from .artefacts import Artefacts, seal
from .pool import Pool
from .runs import RunRequest

MAX_BASES = 8
_log = logging.getLogger(__name__)


def read_bases(paths: Sequence[Path]) -> dict[str, bytes]:
    """Read Python bases, and return them by their SHA-256.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is larger than a program may be, or there are too many.
    """
    if len(paths) > MAX_BASES:
        raise ValueError(f"at most {MAX_BASES} Python bases")
    bases = {}
    for path in paths:
        with path.open("rb") as file:
            data = file.read(MAX_PROGRAM_BYTES + 1)
        if len(data) > MAX_PROGRAM_BYTES:
            raise ValueError(f"{path} is larger than {MAX_PROGRAM_BYTES} bytes")
        bases[hashlib.sha256(data).hexdigest()] = data
    return bases


class PythonBases:
    """Compiles the Python bases in the background, one after another.

    Args:
        bases: the bases by their SHA-256.
        artefacts: compiles them.
        pool: gives the compiled ones to the children.
        cache: a folder for the compiled bases of trials; None: no cache.
    """

    def __init__(
        self, bases: Mapping[str, bytes], artefacts: Artefacts, pool: Pool, cache: Path | None
    ) -> None:
        self._bases = bases
        self._artefacts = artefacts
        self._pool = pool
        self._cache = cache
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()

    def start(self) -> None:
        """Start to compile the bases."""
        for sha256, data in self._bases.items():
            self._tasks[sha256] = asyncio.create_task(self._prepare(sha256, data))

    async def wait_until_loaded(self, sha256: str) -> None:
        """Wait until a base is compiled and loaded.

        Raises:
            RunRefused: `runner-failed`: the base could not be compiled.
        """
        # A cancelled call must not cancel what the others wait for.
        await asyncio.shield(self._tasks[sha256])

    async def close(self) -> None:
        """Stop compiling."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _prepare(self, sha256: str, data: bytes) -> None:
        """Compile a base, and load it into the template.

        Raises:
            RunRefused: `runner-failed`: it was not compiled or not loaded. The log says which.
        """
        async with self._lock:  # one at a time, because the machine has other work too
            try:
                artefact = await self._compile_or_read_cached(sha256, data)
            except RunRefused as refused:
                reason = refused.reason
                _log.error(
                    "the Python base %s was not compiled: %s %s; its programs are refused",
                    sha256,
                    reason.sentence,
                    reason.detail,
                )
                raise RunRefused("runner-failed") from refused
            try:
                await self._pool.preload(sha256, artefact)  # the pool closes it
            except RunRefused:
                _log.error(
                    "the compiled Python base %s was not loaded; its programs are refused", sha256
                )
                if self._cache is not None:  # it may be damaged, or of another processor
                    (self._cache / f"{sha256}.cwasm").unlink(missing_ok=True)
                raise

    async def _compile_or_read_cached(self, sha256: str, data: bytes) -> int:
        """Return the descriptor of a compiled base, from the cache if there is one.

        A runner has no cache, because wasmtime does not notice a changed byte (RN27).
        """
        if self._cache is None:
            return await self._compile(sha256, data)
        file = self._cache / f"{sha256}.cwasm"
        if file.exists():
            return await _sealed_copy(file.read_bytes())  # a trial has no other work
        artefact = await self._compile(sha256, data)
        replace_file(file, os.pread(artefact, os.fstat(artefact).st_size, 0))
        return artefact

    async def _compile(self, sha256: str, data: bytes) -> int:
        """Compile a base, and return the descriptor of the compiled one."""
        uncounted_s: list[float] = []  # the operator's own work counts on no payer
        return await self._artefacts.compile(data, RunRequest(sha256, "python"), uncounted_s)


async def _sealed_copy(compiled_base: bytes) -> int:
    """Write a compiled base to a sealed file in memory, and return its descriptor."""
    artefact = os.memfd_create("artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(artefact, "wb", closefd=False) as stream:  # noqa: ASYNC230  # it is in memory
        stream.write(compiled_base)
    await seal(artefact)
    return artefact
