"""Scheduling of concurrent requests in batches, one processing stage after another.

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
    """The unanswered requests of one process."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0

    def arrived(self, requests: int) -> None:
        """Add new requests to the number of open ones.

        A request has arrived when its headers are complete.
        """
        self._due += requests

    def answered(self, requests: int) -> None:
        """Subtract answered or abandoned requests from the number of open ones."""
        self._due -= requests

    @types.coroutine
    def yield_to_cohort(self) -> Generator[None, None, None]:
        """Let other open requests run before this one continues.

        They then reach the same stage of processing. This is cheaper than `asyncio.sleep(0)`.
        """
        if self._due > 1:
            yield


COHORT = web.AppKey("cohort", Cohort)
