"""An event loop in a separate thread, for tests that are not coroutines.

Example:
    with loop_thread() as loop, loop.entered(embedded_node(config)) as node:
        loop.run(used(node))
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from patience import PATIENCE_S

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Await something on the loop."""
        return asyncio.run_coroutine_threadsafe(awaited, self.loop).result(4 * PATIENCE_S)

    @contextmanager
    def entered(self, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context on the loop, for example a node in this process."""
        entered, leave, ended = asyncio.Event(), asyncio.Event(), list[T]()

        async def hold() -> None:
            # in one task: some contexts may not be left by another one
            async with context as value:
                ended.append(value)
                entered.set()
                await leave.wait()

        task = self.run(_started(hold))
        self.run(_until(task, entered))
        try:
            yield ended[0]
        finally:
            self.loop.call_soon_threadsafe(leave.set)
            self.run(_joined(task))


@contextmanager
def loop_thread() -> Iterator[LoopThread]:
    """Run a loop in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop", daemon=True)
    thread.start()
    try:
        yield LoopThread(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


async def _started(work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
    return asyncio.create_task(work())


async def _until(task: "asyncio.Task[None]", entered: asyncio.Event) -> None:
    waiting = asyncio.create_task(entered.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()


async def _joined(task: "asyncio.Task[None]") -> None:
    await task
