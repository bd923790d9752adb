"""A pool of child processes that run programs.

A run with secrets gets an unused child, unless one is kept for it (`kept_children`). Other runs
prefer a used child that has the program loaded. The executor limits how many children run programs
at one time.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import NamedTuple

from ..reasons import RunRefused
from .child import Child, ChildEnded, Module, Template
from .runs import TaskFolders

_FIRST_UID = 60_706
_BLOCKS = 29
_BLOCK_UIDS = 16
"""Uids of children are 60706 to 61169, which neither distributions nor systemd assign."""
_BLOCK_NAME = "\0sealspace-runner-uids-{}"
_MOST_RUNS = 1_000
"""Runs of one child before it is replaced, which bounds the effect of memory leaks."""
_MOST_FORKS = 1_000
"""Forks of one template before it is replaced, because its children share one address layout.

A new template takes 70 ms, which is little for so many children.
"""


class PoolUse(NamedTuple):
    """The use of a pool of child processes.

    Attributes:
        alive: child processes that have not ended.
        unused: those that wait, and have run no program.
        private_bytes: memory of all children that no file backs; see `Child.private_bytes`.
    """

    alive: int
    unused: int
    private_bytes: int


class Pool:
    """A pool of child processes."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._unused: deque[Child] = deque()
        self._used: list[Child] = []
        # Under root each child gets its own uid, so that it can signal or trace no process (RN20).
        self._has_own_uids = os.geteuid() == 0
        self._uids: deque[int] = deque()
        self._blocks: list[socket.socket] = []
        self._alive: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fill_lock = asyncio.Lock()
        self._template: Template | None = None
        self._template_lock = asyncio.Lock()
        self._closed = False
        self._bases: dict[str, int] = {}

    async def fill(self) -> None:
        """Start child processes until enough are ready.

        Raises the same errors as `start`.
        """
        async with self._fill_lock:
            # RN135: the template is replaced during a refill, for which no call waits
            if self._template is not None and self._template.forks >= _MOST_FORKS:
                await self._replace_template(self._template)
            while len(self._unused) < self._spare and not self._closed:
                self._unused.append(await self.start("_run_child"))

    async def preload(self, base: str, artefact: int) -> None:
        """Give a compiled Python base to all children that are started from now on (PY11).

        Args:
            base: its SHA-256.
            artefact: descriptor of the compiled base; the pool closes it.
        Raises:
            RunRefused: `runner-failed`: no template starts.
        """
        self._bases[base] = artefact
        try:
            # While this call waits for its turn, another one may have started a template without
            # this base. Then it is returned, and has to be replaced too.
            while self._template is None or base not in self._template.bases:
                await self._replace_template(self._template)
        except RunRefused:
            # With the base that failed, no template would start any more, for any program.
            os.close(self._bases.pop(base))
            raise
        # Those that were forked from the former template do not have it.
        while self._unused:
            self.end(self._unused.popleft())
        await self.fill()

    async def start(self, module: Module, folders: TaskFolders | None = None) -> Child:
        """Start a child process, and wait until it is ready.

        The caller must end the child.

        Raises:
            RunRefused: `runner-failed`: it does not start.
        """
        template = self._template
        # RN134: the template may have ended while the runner goes on
        if template is None or not template.is_alive():
            template = await self._replace_template(template)
        try:
            if self._closed:
                raise EOFError
            if self._has_own_uids and not self._uids:
                self._reserve_uids()
            uid = self._uids[0] if self._has_own_uids else None
            child = template.fork(module, uid, folders)
        except (EOFError, OSError, IndexError) as exc:
            # IndexError: all uids belong to children that have not ended yet.
            raise RunRefused("runner-failed") from exc
        if uid is not None:
            self._uids.popleft()
        self._alive.add(child)
        try:
            await child.ready()
        except BaseException as failed:
            self.end(child)
            if isinstance(failed, ChildEnded):
                raise RunRefused("runner-failed") from failed
            raise
        if module == "_run_child":
            template.is_tried = True  # the child has run the test program (RN138)
        return child

    async def take(self, *, unused: bool, program: str, base: str = "") -> Child:
        """Return a child process for one program run (RN26).

        With `unused`, the process has never run a program. With `base`, it has this Python base.
        Raises the same errors as `start`.
        """
        while self._used and not unused:
            child = self._used.pop(self._index_of_used(program))
            if child.is_waiting() and (not base or base in child.bases):
                return child
            self.end(child)
        while self._unused:
            child = self._unused.popleft()
            self._run_in_background(self._refill())
            if child.is_alive() and (not base or base in child.bases):
                return child
            self.end(child)
        return await self.start("_run_child")

    def _index_of_used(self, program: str) -> int:
        """Return the place in `_used` of a child with the program loaded, or of the last child."""
        for index, child in enumerate(self._used):
            if program in child.loaded:
                return index
        return -1

    def give_back(self, child: Child) -> None:
        """Return a child process to the pool for reuse.

        Only for use after a run without secrets and storage.
        """
        child.runs += 1
        if self._closed or child.runs >= _MOST_RUNS:
            self.end(child)
        else:
            self._used.append(child)

    def end(self, child: Child) -> None:
        """Kill and reap a child process in the background."""
        self._run_in_background(self.end_and_wait(child))

    @property
    def use(self) -> PoolUse:
        """The present use of the pool, for metrics."""
        return PoolUse(
            alive=len(self._alive),
            unused=len(self._unused),
            private_bytes=sum(child.private_bytes() for child in self._alive),
        )

    async def end_and_wait(self, child: Child) -> None:
        """Kill a child process, and wait until it has ended."""
        await child.end()
        if child in self._alive:
            self._alive.remove(child)
            if child.uid is not None:
                self._uids.append(child.uid)

    async def close(self) -> None:
        """Kill all child processes, and wait until they have ended."""
        self._closed = True
        async with self._template_lock:
            pass  # waits for a template that is being started; no child starts after that
        # `end` starts a task for each child, which takes it out of those that are alive.
        while self._alive or self._tasks:
            for child in list(self._alive):
                self.end(child)
            await asyncio.wait(self._tasks)
        if self._template is not None:
            await self._template.end()
        for block in self._blocks:
            block.close()
        for artefact in self._bases.values():
            os.close(artefact)

    async def _replace_template(self, former: Template | None) -> Template:
        """Start a new fork server process, and end the old one.

        If another task has already done so, its new process is returned. Raises RunRefused if no
        process starts.
        """
        async with self._template_lock:
            if self._template is not None and self._template is not former:
                return self._template
            if self._closed:
                raise RunRefused("runner-failed")
            try:
                template = Template.start(self._bases)
                await template.ready()
            except (EOFError, OSError) as exc:
                raise RunRefused("runner-failed") from exc
            self._template = template
        if former is not None:
            self._run_in_background(former.end())
        return template

    def _reserve_uids(self) -> None:
        """Reserve a block of user ids for child processes.

        An abstract socket name reserves the block until this process ends, even by a crash. A lock
        file would need a writable folder, which a container with a read-only root lacks. The name
        belongs to the network namespace: a process there could take all names first, and the runner
        would then start no child.
        """
        for block in range(_BLOCKS):
            reserved = socket.socket(socket.AF_UNIX)
            with suppress(OSError):  # another runner has reserved this block (RN184)
                reserved.bind(_BLOCK_NAME.format(block))
                self._blocks.append(reserved)
                first = _FIRST_UID + block * _BLOCK_UIDS
                self._uids.extend(range(first, first + _BLOCK_UIDS))
                return
            reserved.close()

    async def _refill(self) -> None:
        # If no child starts, the next run that needs one tries again and reports the failure.
        with suppress(RunRefused):
            await self.fill()

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
