"""Requests that came together go in step: each takes a step, then the next one takes the same.

A request is a hundred small functions between the kernel and libsodium, and finds little of what they need in the
processor's caches when it goes all of its way at once. Where several wait, it costs less to read all of their tokens,
then to read and judge for all of them, then to send all answers. So a request lets the others come as far as it is at
three places: before its token is read, before the store is read, before its answer is sent. One that is alone goes on
at once.

This changes when something happens and nothing else: no step relies on what was read before a turn.

Example:
    cohort.came(1)
    await cohort.turn()
    cohort.went(1)
"""

import types
from collections.abc import Generator

from aiohttp import web


class Cohort:
    """The requests of one process that came and were not answered yet."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0

    def arrived(self, requests: int) -> None:
        """Hear of requests whose heads are there."""
        self._due += requests

    def answered(self, requests: int) -> None:
        """Hear of requests that were answered, or never will be."""
        self._due -= requests

    @types.coroutine
    def yield_to_cohort(self) -> Generator[None, None, None]:
        """Let the others take the step that ends here, where there are any: what `asyncio.sleep(0)` does, and less."""
        if self._due > 1:
            yield


COHORT: web.AppKey[Cohort] = web.AppKey("cohort", Cohort)
