"""A cache of the digests of documents that are already stored for receipts (RC26).

A release that finds all of its documents here neither reads nor writes a document (RC8, RC13). The
cache contains only digests of durable documents, nothing that a decision depends on. Each process
has its own cache. Documents are retained by periods of 30 days, so the cache is cleared when a new
period begins.
"""

from collections.abc import Iterable

from capabilities.cache import Recent
from encryption_network.receipt import QuoteVerdict

MAX_POLICIES = 4096
MAX_EVIDENCE = 4096


class DocumentCache:
    """Digests of stored policies, and verdicts on evidence whose documents are stored."""

    def __init__(self) -> None:
        self._span = 0
        self._policies = Recent[str, None](MAX_POLICIES)
        self._judged = Recent[bytes, QuoteVerdict](MAX_EVIDENCE)

    def enter(self, span: int) -> None:
        """Set the current 30-day retention period. A new period clears the cache."""
        if span != self._span:
            self._span = span
            self._policies.clear()
            self._judged.clear()

    def has_policy(self, sha256: str) -> bool:
        """Return whether the policy with this hex SHA-256 is known to be stored."""
        return sha256 in self._policies

    def judged(self, evidence_sha256: bytes) -> QuoteVerdict | None:
        """Return the cached verdict on this evidence. None means that the documents of the evidence
        are not known to be stored."""
        return self._judged.get(evidence_sha256)

    def note(self, span: int, *, policies: Iterable[str], judged: QuoteVerdict | None) -> None:
        """Cache the digests of newly stored documents. Digests from an earlier retention period are
        ignored."""
        if span == self._span:  # a later period has to store its documents again
            for sha256 in policies:
                self._policies.put(sha256, None)
            if judged is not None:
                self._judged.put(judged.record, judged)
