"""A bounded queue for the verification of attestation quotes.

Quotes are verified one at a time, with a pause after each failure. The library holds the
interpreter lock for the millisecond that a quote takes. In a thread it would block other requests
just the same, and contend for the lock whenever one of them checks a signature. So quotes are
verified in the event loop's thread, between two iterations of the loop. The pauses limit how much
of the worker a flood of invalid quotes can take from valid requests.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from encryption_network.policy import Evidence
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.collateral import Collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.trust_root import TrustRoot

from ..refusal import Refusal

REST = 5
"""Length of the pause after a refused quote, as a multiple of the time that its verification took.

Invalid quotes thus take at most a sixth of a worker.
"""

MOST_REST_S = 0.1
"""Upper limit of one pause, however slow the machine was at that moment."""


class Quotes:
    """A queue of attestation quotes to verify.

    Each process has one queue.
    """

    def __init__(
        self,
        *,
        most_waiting: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an empty queue.

        Args:
            most_waiting: maximum length of the queue, including the quote being verified.
            pause: the wait function.
            time_s: the timer.
        """
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
        """Verify an attestation quote after those already in the queue.

        Raises:
            Refusal: `quotes-busy`, the queue is full.
            AttestationError: the quote is not acceptable.
        """
        if self._waiting >= self._most_waiting:
            raise Refusal("quotes-busy")
        self._waiting += 1
        try:
            async with self._turn:
                # Yields to the loop even when there is no pause left to wait for.
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
