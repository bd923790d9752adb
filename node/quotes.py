"""Verifying quotes: one at a time in a worker, in a thread, with a bounded queue.

The library holds the interpreter lock for about a millisecond a quote, so a second thread would bring nothing and a
flood of quotes must not pile up behind honest requests.
"""

import asyncio

from tee_backend.attestation.collateral import Collateral
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.attestation.verify import VerifiedQuote, verify_quote


class QuotesBusy(Exception):
    """As many quotes wait as may."""

    code = "quotes-busy"


class Quotes:
    """The one place where quotes are verified."""

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def verify(self, quote: bytes, collateral: Collateral, *, root: TrustRoot, now: float) -> VerifiedQuote:
        """Verify a quote when its turn comes.

        Raises:
            QuotesBusy: the queue is full; nothing was verified.
            AttestationError: as `verify_quote` says.
        """
        if self._waiting >= self._most_waiting:
            raise QuotesBusy
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(verify_quote, quote, collateral, root=root, now=now)
        finally:
            self._waiting -= 1
