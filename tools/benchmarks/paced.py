"""An honest caller that asks at a fixed rate, whatever the answers take.

A caller that waits for each answer before it asks again sends nothing while a server stands still,
so its percentiles hide the worst. Here each request is sent at its time.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from measuring import quantile

WAIT_S = 60.0
"""A request without an answer by then counts as failed, with this time."""

Ask = Callable[[aiohttp.ClientSession, int], Awaitable[bool]]
"""Send the request with a number; return whether it was answered as it should be."""


@dataclass(frozen=True, slots=True)
class Paced:
    """The answers of one cell of a table."""

    latencies_s: tuple[float, ...]
    failed: int

    def milliseconds(self, share: float) -> float:
        """Return the time that this share of the requests did not exceed."""
        return quantile(self.latencies_s, share) * 1e3


async def paced(
    ask: Ask,
    *,
    samples: int,
    per_s: float,
    most_s: float,
) -> Paced:
    """Send so many requests at a rate, and wait for their answers.

    Args:
        ask: sends one request.
        samples: how many.
        per_s: rate.
        most_s: seconds after which no further request is sent.
    """
    latencies: list[float] = []
    failed = 0

    async def one(http: aiohttp.ClientSession, number: int) -> None:
        nonlocal failed
        sent_at = time.perf_counter()
        is_answered = False
        try:
            async with asyncio.timeout(WAIT_S):
                is_answered = await ask(http, number)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            is_answered = False
        latencies.append(time.perf_counter() - sent_at)
        if not is_answered:
            failed += 1

    connector = aiohttp.TCPConnector(limit=0)
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as asking:
        for number in range(samples):
            due = began + number / per_s
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            if time.perf_counter() - began > most_s:
                break
            asking.create_task(one(http, number))
    return Paced(tuple(latencies), failed)


# --- cores ----------------------------------------------------------------------------------------


def cores() -> tuple[Sequence[int], Sequence[int]]:
    """Return the cores of servers and those of generators: the last one, if there are several."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[:-1] or usable, usable[-1:]
