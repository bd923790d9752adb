"""Children that are ready: some that have run nothing, and some that ran programs without secrets.

A run with secrets gets a child that has run nothing, and that child runs nothing else. Other runs
prefer a child that has the program loaded. The executor bounds how many run at one time.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Final, Literal

from ..reasons import RunRefused
from .child import Child, ChildEnded, Template

_FIRST_UID: Final = 60_706
_BLOCKS: Final = 29
_BLOCK_UIDS: Final = 16
"""60706 to 61169: ids that neither distributions nor systemd assign."""
_BLOCK_NAME: Final = "\0sealspace-runner-uids-{}"
_MOST_RUNS: Final = 1_000
"""After so many runs a child is replaced, whatever it may have leaked."""
_MOST_FORKS: Final = 1_000
"""Children of one template have one layout of their address space; 70 ms for another are little for
so many."""


class Pool:
    """Starts, hands out and ends children."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._fresh: deque[Child] = deque()
        self._used: list[Child] = []
        # As root each child has a uid of its own (RN20), so that it can signal and trace nobody.
        self._separate = os.geteuid() == 0
        self._uids: deque[int] = deque()
        self._blocks: list[socket.socket] = []
        self._alive: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling = asyncio.Lock()
        self._template: Template | None = None
        self._exchanging = asyncio.Lock()
        self._closed = False

    async def fill(self) -> None:
        """Start children one after the other until enough are spare; as `start`."""
        async with self._filling:
            # RN135; no call waits for it here
            if self._template is not None and self._template.forks >= _MOST_FORKS:
                await self._exchange(self._template)
            while len(self._fresh) < self._spare and not self._closed:
                self._fresh.append(await self.start("_run_child"))

    async def start(self, module: Literal["_run_child", "_compile_child"]) -> Child:
        """Start a child and wait until it is confined; the caller ends it.

        Raises:
            RunRefused: `runner-failed`: it does not start.
        """
        if (template := self._template) is None or not template.is_alive():  # RN134
            template = await self._exchange(template)
        try:
            if self._closed:
                raise EOFError
            if self._separate and not self._uids:
                self._reserve_uids()
            uid = self._uids[0] if self._separate else None
            child = template.fork(module, uid)
        except (EOFError, OSError, IndexError) as exc:
            # every uid is in use, by children that take their time to end
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
        return child

    async def take(self, *, unused: bool, program: str) -> Child:
        """Return a child for one run, one that has run nothing or any (RN26); as `start`."""
        used = [] if unused else self._used
        while used:
            index = next((i for i, child in enumerate(used) if program in child.held), -1)
            if (child := used.pop(index)).is_alive():
                return child
            self.end(child)
        while self._fresh:
            child = self._fresh.popleft()
            self._begin(self._refill())
            if child.is_alive():
                return child
            self.end(child)
        return await self.start("_run_child")

    def give_back(self, child: Child) -> None:
        """Take a child back that ran without secrets and answered."""
        child.runs += 1
        if self._closed or child.runs >= _MOST_RUNS:
            self.end(child)
        else:
            self._used.append(child)

    def end(self, child: Child) -> None:
        """Kill a child; it is reaped beside whatever else happens."""
        self._begin(self.ended(child))

    async def ended(self, child: Child) -> None:
        """Kill a child, and wait until nothing of it is left."""
        await child.end()
        if child in self._alive:
            self._alive.remove(child)
            if child.uid is not None:
                self._uids.append(child.uid)

    async def close(self) -> None:
        """End every child, also those that run something, and wait until all are gone."""
        self._closed = True
        async with self._exchanging:
            pass  # whoever waits for a template starts a child of it first, and nobody after that
        while self._alive or self._tasks:
            for child in list(self._alive):
                self.end(child)
            await asyncio.wait(self._tasks)
        if self._template is not None:
            await self._template.end()
        for block in self._blocks:
            block.close()

    async def _exchange(self, former: Template | None) -> Template:
        """Return a template in the place of one, unless another did so meanwhile; RunRefused where
        none starts."""
        async with self._exchanging:
            if self._template is not None and self._template is not former:
                return self._template
            try:
                if self._closed:
                    raise EOFError
                template = Template.start()
                await template.ready()
            except (EOFError, OSError) as exc:
                raise RunRefused("runner-failed") from exc
            self._template = template
        if former is not None:
            self._begin(former.end())
        return template

    def _reserve_uids(self) -> None:
        """Reserve a block of uids that no other runner of this machine has, if one is left.

        The name of a socket reserves it until this process ends, however it ends. A lock on a file
        would need a folder to write to, which a container with a read-only root lacks. The name
        belongs to a network namespace; in it any process could take all names first, and the runner
        would then start no child.
        """
        for block in range(_BLOCKS):
            reserved = socket.socket(socket.AF_UNIX)
            with suppress(OSError):  # another runner has it
                reserved.bind(_BLOCK_NAME.format(block))  # RN184
                self._blocks.append(reserved)
                first = _FIRST_UID + block * _BLOCK_UIDS
                self._uids.extend(range(first, first + _BLOCK_UIDS))
                return
            reserved.close()

    async def _refill(self) -> None:
        # Where no child starts, the next run that needs one tries again, and says so.
        with suppress(RunRefused):
            await self.fill()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
