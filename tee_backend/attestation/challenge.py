"""Nonces that the node makes and recognises without storing them.

    nonce := random(16) ‖ expiry(4, big-endian epoch seconds) ‖ mac(12)
    mac   := first 12 bytes of HMAC-SHA256( key, fields )
    fields: label, random, expiry, holder DID, audience, store id; each preceded by its length as u32, big-endian

A nonce is valid for one holder, one audience and one store. The store ensures that it is used once:
the code that accepts it claims it under its expiry. Twelve bytes of MAC cannot be guessed within a
nonce's minutes.

Example:
    scope = ChallengeScope(holder=did, audience=node_did, store_id=store_id)
    nonce = issue_challenge(key, scope, random=entropy.token(16), now=clock.now())
    expires_at = check_challenge(key, scope, nonce, now=clock.now())
"""

import hashlib
import hmac
from dataclasses import dataclass

from encryption_network.judgement import CLOCK_SKEW_S

from .attestation_errors import QuoteRefused
from .report_data import joined

LABEL = b"sealspace/attestation-challenge/1"
NONCE_BYTES = 32
RANDOM_BYTES = 16
MIN_KEY_BYTES = 32
CHALLENGE_TTL_S = 120
"""Generating a quote takes tens of milliseconds; two minutes leave room for a slow platform and a
retry."""

_EXPIRY_BYTES = 4
_MAC_BYTES = NONCE_BYTES - RANDOM_BYTES - _EXPIRY_BYTES


@dataclass(frozen=True, slots=True)
class ChallengeScope:
    """The holder, audience and store for which a nonce is valid."""

    holder: str
    audience: str
    store_id: bytes


def issue_challenge(
    key: bytes, scope: ChallengeScope, *, random: bytes, now: float, ttl_s: int = CHALLENGE_TTL_S
) -> bytes:
    """Make a nonce."""
    if len(random) != RANDOM_BYTES or ttl_s <= 0:
        raise ValueError("a challenge needs 16 random bytes and a positive lifetime")
    expiry = (int(now) + ttl_s).to_bytes(_EXPIRY_BYTES, "big")
    return random + expiry + _mac(key, scope, random=random, expiry=expiry)


def check_challenge(
    key: bytes, scope: ChallengeScope, nonce: bytes, *, now: float, ttl_s: int = CHALLENGE_TTL_S
) -> int:
    """Check that a nonce was made here for this scope and is still valid.

    Args:
        key: the secret it was made with.
        scope: for whom and where it has to be valid.
        nonce: untrusted.
        now: epoch seconds.
        ttl_s: how long nonces that are made here are valid.
    Returns:
        Its expiry, epoch seconds: the minute under which its use is claimed.
    Raises:
        QuoteRefused: `challenge-invalid`, another size, key, holder, audience or store, or a
            changed byte.
        QuoteRefused: `challenge-expired`, made here for this scope, and expired; or it ends later
            than one that is made now, and so was made by a clock that was ahead.
    Does not check:
        Whether it was used before.
    """
    if len(nonce) != NONCE_BYTES:
        raise QuoteRefused("challenge-invalid", f"nonce of {len(nonce)} bytes")
    random, expiry = nonce[:RANDOM_BYTES], nonce[RANDOM_BYTES : RANDOM_BYTES + _EXPIRY_BYTES]
    # The expiry is trusted only after the MAC: an unauthenticated client learns nothing from the
    # kind of refusal.
    if not hmac.compare_digest(nonce[-_MAC_BYTES:], _mac(key, scope, random=random, expiry=expiry)):
        raise QuoteRefused("challenge-invalid", "nonce was not made here for this holder")
    expires_at = int.from_bytes(expiry, "big")
    if not now < expires_at:  # also refuses a `now` that is no number
        raise QuoteRefused("challenge-expired", "nonce is over")
    if expires_at > now + ttl_s + CLOCK_SKEW_S:
        raise QuoteRefused("challenge-expired", "nonce was made by a clock that stands ahead")
    return expires_at


def _mac(key: bytes, scope: ChallengeScope, *, random: bytes, expiry: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ValueError("a challenge key has at least 32 bytes")
    text = joined(LABEL, random, expiry, scope.holder, scope.audience, scope.store_id)
    return hmac.digest(key, text, hashlib.sha256)[:_MAC_BYTES]
