"""A cache of the digests of documents that are already stored for receipts (RC26).

A release that finds all of its documents here neither reads nor writes a document (RC8, RC13). The
cache contains only digests of durable documents, nothing that a decision depends on, and each
process fills its own. Documents are retained by spans of 30 days, so the cache is cleared when a
new span begins.
"""

from collections.abc import Iterable

from capabilities.cache import Recent
from encryption_network.receipt import QuoteVerdict

MAX_POLICIES = 4096
MAX_EVIDENCE = 4096


class DocumentCache:
    """Remembers which policies and which documents about evidence are already stored."""

    def __init__(self) -> None:
        self._span = 0
        self._policies = Recent[str, None](MAX_POLICIES)
        self._judged = Recent[bytes, QuoteVerdict](MAX_EVIDENCE)

    def enter(self, span: int) -> None:
        """Begin a 30-day retention period. Clear the cache if its entries are from another one."""
        if span != self._span:
            self._span = span
            self._policies.clear()
            self._judged.clear()

    def has_policy(self, sha256: str) -> bool:
        """Return whether the policy with this hex SHA-256 is known to be stored."""
        return sha256 in self._policies

    def judged(self, evidence_sha256: bytes) -> QuoteVerdict | None:
        """Return the verdict on this evidence, or None if its documents may not be stored yet."""
        return self._judged.get(evidence_sha256)

    def note(self, span: int, *, policies: Iterable[str], judged: QuoteVerdict | None) -> None:
        """Add documents that are now stored, unless the retention period has changed."""
        if span == self._span:  # a later span has to store its documents again
            for sha256 in policies:
                self._policies.put(sha256, None)
            if judged is not None:
                self._judged.put(judged.record, judged)
