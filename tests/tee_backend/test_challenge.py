"""Nonces that are verified without being stored."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, FixedClock

from encryption_network.judgement import CLOCK_SKEW_S
from tee_backend.attestation.attestation_errors import QuoteRefused
from tee_backend.attestation.challenge import (
    CHALLENGE_TTL_S,
    NONCE_BYTES,
    ChallengeScope,
    check_challenge,
    issue_challenge,
)

KEY = b"k" * 32
SCOPE = ChallengeScope(holder="did:key:z6MkHolder", audience="did:key:z6MkNode", store_id=b"s" * 16)
NOW = 1_795_000_000.5
NONCE = issue_challenge(KEY, SCOPE, random=bytes(range(16)), now=NOW)


def test_layout() -> None:
    """A nonce is 16 random bytes, the expiry and twelve bytes of MAC."""
    assert len(NONCE) == NONCE_BYTES
    assert bytes(range(16)) == NONCE[:16]
    assert int.from_bytes(NONCE[16:20], "big") == 1_795_000_000 + CHALLENGE_TTL_S


def test_good_until_its_expiry(clock: FixedClock, entropy: CountingEntropy) -> None:
    """A nonce is valid until just before its expiry, which the check returns."""
    nonce = issue_challenge(KEY, SCOPE, random=entropy.token(16), now=clock.now(), ttl_s=60)
    expires_at = int(clock.now()) + 60
    assert expires_at == check_challenge(KEY, SCOPE, nonce, now=clock.now())
    assert expires_at == check_challenge(KEY, SCOPE, nonce, now=expires_at - 0.5)
    for late in (expires_at, expires_at + 1, math.nan, math.inf):
        with pytest.raises(QuoteRefused, match=r"^challenge-expired$"):
            check_challenge(KEY, SCOPE, nonce, now=late)


@pytest.mark.parametrize("ahead_s", [CLOCK_SKEW_S + 1, 300, 365 * 86_400])
def test_made_by_a_clock_that_stood_ahead(ahead_s: int) -> None:
    """A nonce that ends later than one made now is refused, apart from allowed clock skew
    (AT17)."""
    nonce = issue_challenge(KEY, SCOPE, random=bytes(16), now=NOW + ahead_s)
    with pytest.raises(QuoteRefused, match=r"^challenge-expired$"):
        check_challenge(KEY, SCOPE, nonce, now=NOW)
    assert check_challenge(KEY, SCOPE, nonce, now=NOW + ahead_s)
    assert check_challenge(KEY, SCOPE, nonce, now=NOW, ttl_s=CHALLENGE_TTL_S + ahead_s)


@pytest.mark.parametrize(
    "scope",
    [
        SCOPE._replace(holder="did:key:z6MkOther"),
        SCOPE._replace(audience="did:key:z6MkOther"),
        SCOPE._replace(store_id=b"t" * 16),
        SCOPE._replace(holder=SCOPE.holder + SCOPE.audience[:1], audience=SCOPE.audience[1:]),
        SCOPE._replace(holder="", audience=SCOPE.holder + SCOPE.audience),
    ],
)
def test_good_for_one_scope(scope: ChallengeScope) -> None:
    """A nonce for one holder, node and store is refused for another."""
    with pytest.raises(QuoteRefused, match=r"^challenge-invalid$"):
        check_challenge(KEY, scope, NONCE, now=NOW)


def test_another_key() -> None:
    """A nonce made with another key is refused."""
    with pytest.raises(QuoteRefused, match=r"^challenge-invalid$"):
        check_challenge(b"K" * 32, SCOPE, NONCE, now=NOW)


def test_any_flipped_bit() -> None:
    """A nonce with any changed bit is `challenge-invalid`, even if it has expired."""
    for position in range(8 * NONCE_BYTES):
        flipped = bytearray(NONCE)
        flipped[position // 8] ^= 1 << position % 8
        for now in (NOW, NOW + 10 * CHALLENGE_TTL_S):
            with pytest.raises(QuoteRefused, match=r"^challenge-invalid$"):
                check_challenge(KEY, SCOPE, bytes(flipped), now=now)


@given(st.binary(max_size=64))
def test_any_bytes(nonce: bytes) -> None:
    """Arbitrary bytes are refused as a nonce."""
    with pytest.raises(QuoteRefused, match=r"^challenge-invalid$"):
        check_challenge(KEY, SCOPE, nonce, now=NOW)


def test_mistakes_of_the_calling_code() -> None:
    """Short keys, a wrong number of random bytes and non-positive lifetimes raise ValueError."""
    for make in (
        lambda: issue_challenge(b"short", SCOPE, random=bytes(16), now=NOW),
        lambda: issue_challenge(KEY, SCOPE, random=bytes(15), now=NOW),
        lambda: issue_challenge(KEY, SCOPE, random=bytes(16), now=NOW, ttl_s=0),
    ):
        with pytest.raises(ValueError, match="challenge"):
            make()
