"""Cohort scheduling: requests that arrived together are processed stage by stage, each stage for
all of them.

A request runs a hundred small functions between the kernel and libsodium, and finds little of what
they need in the processor's caches when it runs from start to end at once. Where several wait, it
costs less to read all of their tokens, then to read and judge for all of them, then to send all
answers. So a request yields until the others are as far as it is at three places: before its token
is read, before the store is read, before its answer is sent. A request that is alone continues at
once.

This changes the time at which something happens and nothing else: no stage relies on what was read
before a yield.
"""

import types
from collections.abc import Generator

from aiohttp import web


class Cohort:
    """The requests of one process that arrived and are not answered yet."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0

    def arrived(self, requests: int) -> None:
        """Count requests whose heads have arrived."""
        self._due += requests

    def answered(self, requests: int) -> None:
        """Discount requests that were answered, or never will be."""
        self._due -= requests

    @types.coroutine
    def yield_to_cohort(self) -> Generator[None, None, None]:
        """Let the other requests, if any, finish the stage that ends here; does less than
        `asyncio.sleep(0)`."""
        if self._due > 1:
            yield


COHORT: web.AppKey[Cohort] = web.AppKey("cohort", Cohort)
