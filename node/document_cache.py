"""A cache that remembers which receipt documents are already stored (RC26).

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
    """A cache of the policies and evidence that are already in the store."""

    def __init__(self) -> None:
        self._span = 0
        self._policies = Recent[str, None](MAX_POLICIES)
        self._judged = Recent[bytes, QuoteVerdict](MAX_EVIDENCE)

    def enter(self, span: int) -> None:
        """Set the current 30-day retention period, and clear the cache when a new period begins."""
        if span != self._span:
            self._span = span
            self._policies.clear()
            self._judged.clear()

    def has_policy(self, sha256: str) -> bool:
        """Return whether the cache contains the policy with this hex SHA-256."""
        return sha256 in self._policies

    def judged(self, evidence_sha256: bytes) -> QuoteVerdict | None:
        """Return the cached verdict on this evidence, or None if no verdict is cached."""
        return self._judged.get(evidence_sha256)

    def note(self, span: int, *, policies: Iterable[str], judged: QuoteVerdict | None) -> None:
        """Add newly stored documents to the cache, if `span` is the current retention period."""
        if span == self._span:  # a later period has to store its documents again
            for sha256 in policies:
                self._policies.put(sha256, None)
            if judged is not None:
                self._judged.put(judged.record, judged)
