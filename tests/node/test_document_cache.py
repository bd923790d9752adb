"""Tests of the cache of stored documents: its spans and its size limit."""

import pytest

from encryption_network.receipt import Digest, QuoteVerdict
from node import document_cache as document_cache
from node.document_cache import DocumentCache


def judged(number: int) -> QuoteVerdict:
    """Return evidence and the verdict on it."""
    return QuoteVerdict(
        record=Digest(number.to_bytes(32, "big")),
        quote=Digest(b"q" * 32),
        event_log=None,
        collateral=Digest(b"c" * 32),
        nonce=Digest(b"n" * 32),
    )


def test_another_span_knows_nothing() -> None:
    """A new span clears the cache, and late notes of an earlier span are ignored."""
    kept = DocumentCache()
    kept.enter(7)
    kept.note(7, policies=["one"], judged=judged(1))
    kept.enter(7)
    assert kept.has_policy("one")
    assert kept.judged(judged(1).record) == judged(1)
    kept.enter(8)
    kept.note(7, policies=["two"], judged=judged(2))
    assert [kept.has_policy(name) for name in ("one", "two")] == [False, False]
    assert [kept.judged(judged(number).record) for number in (1, 2)] == [None, None]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the oldest entry is evicted, and can be added again."""
    monkeypatch.setattr(document_cache, "MAX_POLICIES", 2)
    monkeypatch.setattr(document_cache, "MAX_EVIDENCE", 2)
    kept = DocumentCache()
    for number in range(5):
        kept.note(0, policies=[f"policy {number}"], judged=judged(number))
        assert kept.has_policy(f"policy {number}")
        assert kept.judged(judged(number).record) is not None
        assert sum(kept.has_policy(f"policy {at}") for at in range(5)) <= 2
        assert sum(kept.judged(judged(at).record) is not None for at in range(5)) <= 2
