"""A cache of the documents known to be stored beside receipts, in the current span of 30 days
(RC26).

A release that finds everything here neither reads nor writes a document (RC8, RC13). Nothing that a
decision depends on is cached, only digests of what is already durable; every process fills its own
cache. A document is kept as long as the receipts of the last span in which it was referred to, so
the cache is cleared at each new span and filled again.
"""

from collections.abc import Iterable
from typing import Final

from capabilities.cache import Recent
from encryption_network.receipt import QuoteVerdict

MAX_POLICIES: Final = 4096
MAX_EVIDENCE: Final = 4096


class DocumentCache:
    """Digests of policies, and evidence with all that it was judged from, whose documents are all
    in the store."""

    def __init__(self) -> None:
        self._span = 0
        self._policies = Recent[str, None](MAX_POLICIES)
        self._judged = Recent[bytes, QuoteVerdict](MAX_EVIDENCE)

    def enter(self, span: int) -> None:
        """Clear the cache unless it is of this span."""
        if span != self._span:
            self._span = span
            self._policies.clear()
            self._judged.clear()

    def has_policy(self, sha256: str) -> bool:
        """Return whether the policy with this SHA-256 in hex is known to be stored."""
        return sha256 in self._policies

    def judged(self, evidence_sha256: bytes) -> QuoteVerdict | None:
        """Return what evidence was judged from, if all of it is known to be stored."""
        return self._judged.get(evidence_sha256)

    def note(self, span: int, *, policies: Iterable[str], judged: QuoteVerdict | None) -> None:
        """Remember what is durable now."""
        if span == self._span:
            for sha256 in policies:
                self._policies.put(sha256, None)
            if judged is not None:
                self._judged.put(judged.record, judged)
