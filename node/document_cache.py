"""A cache of digests of stored receipt documents (RC26).

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
    """A cache of the digests of stored policies and evidence."""

    def __init__(self) -> None:
        self._span = 0
        self._policies = Recent[str, None](MAX_POLICIES)
        self._judged = Recent[bytes, QuoteVerdict](MAX_EVIDENCE)

    def enter(self, span: int) -> None:
        """Clear the cache at the start of a new 30-day period.

        Documents are retained by period, so each period stores them again.
        """
        if span != self._span:
            self._span = span
            self._policies.clear()
            self._judged.clear()

    def has_policy(self, sha256: str) -> bool:
        """Return whether a policy is cached.

        `sha256` is in hexadecimal.
        """
        return sha256 in self._policies

    def judged(self, evidence_sha256: bytes) -> QuoteVerdict | None:
        """Return the cached verdict on attestation evidence, or None."""
        return self._judged.get(evidence_sha256)

    def note(self, span: int, *, policies: Iterable[str], judged: QuoteVerdict | None) -> None:
        """Add newly stored policies and an evidence verdict to the cache."""
        if span == self._span:  # a later period has to store its documents again
            for sha256 in policies:
                self._policies.put(sha256, None)
            if judged is not None:
                self._judged.put(judged.record, judged)
