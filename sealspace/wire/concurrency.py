"""Coroutines that run concurrently."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def all_of(
    call: Callable[[Item], Awaitable[Result]], items: Iterable[Item], *, at_once: int
) -> list[Result]:
    """Return the results of a coroutine function for several items, or raise the first error.

    At most `at_once` calls run at the same time.
    """
    gate = asyncio.Semaphore(at_once)

    async def behind_gate(item: Item) -> Result:
        async with gate:
            return await call(item)

    tasks = [asyncio.create_task(behind_gate(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # After an error, `gather` leaves the other tasks running. Their results are not needed.
        for task in tasks:
            task.cancel()
