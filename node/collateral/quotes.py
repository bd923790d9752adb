"""Verifying quotes: one at a time in a worker, behind a bounded queue, with a rest after each that
was refused.

The library holds the interpreter lock for the millisecond that a quote takes. In a thread it would
stop all other requests all the same, and take the lock again whenever a signature check of another
request releases it; so it is called in the event loop's thread, between two iterations of the loop.
The rests slow a flood of junk: the remaining time of the worker is for honest requests.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from encryption_network.policy import Evidence
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.collateral import Collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.trust_root import TrustRoot

from ..refusal import Refusal

REST: Final = 5
"""The next quote waits this many times as long as a refused one took: junk gets a sixth of a worker
at the most."""

MOST_REST_S: Final = 0.1
"""Upper bound of a rest, however slow the machine was at that moment."""


class Quotes:
    """The one place where quotes are verified."""

    def __init__(
        self,
        *,
        most_waiting: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the bound of the queue, including the quote under way; the wait function; and the
        timer."""
        self._most_waiting = most_waiting
        self._pause, self._time_s = pause, time_s
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._rests_until_s = 0.0

    async def examine(
        self,
        bound: BoundQuote,
        collateral: Collateral,
        *,
        root: TrustRoot,
        now: float,
        ttl_s: float,
    ) -> Evidence:
        """Examine a quote when its turn comes."""
        if self._waiting >= self._most_waiting:
            raise Refusal("quotes-busy")
        self._waiting += 1
        try:
            async with self._turn:
                # Let everything that is ready run first, then wait for the rest that the last
                # refusal requires.
                await self._pause(max(0.0, self._rests_until_s - self._time_s()))
                began_s = self._time_s()
                try:
                    return examine(bound, collateral, root=root, now=now, ttl_s=ttl_s)
                except AttestationError:
                    ended_s = self._time_s()
                    self._rests_until_s = ended_s + min(REST * (ended_s - began_s), MOST_REST_S)
                    raise
        finally:
            self._waiting -= 1
