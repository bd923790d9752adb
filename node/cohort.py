"""Cohort scheduling: concurrent requests pass each stage of processing together.

A request runs a hundred small functions between the kernel and libsodium. Run from start to end on
its own, it finds little of their code and data in the processor's caches. When several requests
wait, it is cheaper to parse all tokens, then read and judge for all, then send all answers. So each
request yields to the others at three points: before its token is parsed, before the store is read,
and before its answer is sent. A request that is alone continues at once.

Yielding changes only when something happens. No stage relies on data that was read before a yield.
"""

import types
from collections.abc import Generator

from aiohttp import web


class Cohort:
    """The requests of one process that have arrived and have no response yet."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0

    def arrived(self, requests: int) -> None:
        """Add requests to the number of open requests, once their headers have arrived."""
        self._due += requests

    def answered(self, requests: int) -> None:
        """Subtract answered or abandoned requests from the number of open requests."""
        self._due -= requests

    @types.coroutine
    def yield_to_cohort(self) -> Generator[None, None, None]:
        """Pause the current request so that others can reach the same stage.

        This is cheaper than `asyncio.sleep(0)`.
        """
        if self._due > 1:
            yield


COHORT: web.AppKey[Cohort] = web.AppKey("cohort", Cohort)
