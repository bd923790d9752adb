"""Authenticated nonces for attestation.

The node can verify a nonce without having stored it.

    nonce := random(16) ‖ expiry(4, big-endian epoch seconds) ‖ mac(12)
    mac   := first 12 bytes of HMAC-SHA256( key, fields )
    fields: label, random, expiry, holder DID, audience, store id;
            each preceded by its length as u32, big-endian

A nonce is valid for one holder, one audience and one store. The store ensures that it is used once:
the caller that accepts it writes a replay record under its expiry. Twelve bytes of MAC cannot be
guessed within the minutes of a nonce's life.

Example:
    scope = ChallengeScope(holder=did, audience=node_did, store_id=store_id)
    nonce = issue_challenge(key, scope, random=entropy.token(16), now=clock.now())
    expires_at = check_challenge(key, scope, nonce, now=clock.now())
"""

import hashlib
import hmac
from typing import NamedTuple

from encryption_network.judgement import CLOCK_SKEW_S

from .attestation_errors import QuoteRefused
from .report_data import joined

LABEL = b"sealspace/attestation-challenge/1"
NONCE_BYTES = 32
RANDOM_BYTES = 16
MIN_KEY_BYTES = 32
CHALLENGE_TTL_S = 120
"""Making a quote takes tens of milliseconds; two minutes allow for a slow platform and a retry."""

_EXPIRY_BYTES = 4
_MAC_BYTES = NONCE_BYTES - RANDOM_BYTES - _EXPIRY_BYTES


class ChallengeScope(NamedTuple):
    """The parties and the store for which a nonce is valid.

    `holder` is the DID that attests, and `audience` is the DID of the node.
    """

    holder: str
    audience: str
    store_id: bytes


def issue_challenge(
    key: bytes, scope: ChallengeScope, *, random: bytes, now: float, ttl_s: int = CHALLENGE_TTL_S
) -> bytes:
    """Return a new attestation nonce.

    The nonce is valid in one scope until it expires.
    """
    if len(random) != RANDOM_BYTES or ttl_s <= 0:
        raise ValueError("a challenge needs 16 random bytes and a positive lifetime")
    expiry = (int(now) + ttl_s).to_bytes(_EXPIRY_BYTES, "big")
    return random + expiry + _mac(key, scope, random=random, expiry=expiry)


def check_challenge(
    key: bytes, scope: ChallengeScope, nonce: bytes, *, now: float, ttl_s: int = CHALLENGE_TTL_S
) -> int:
    """Check that an attestation nonce is genuine and has not expired.

    Args:
        key: the secret with which nonces are made, at least 32 bytes.
        scope: the holder, audience and store for which the nonce has to be valid.
        nonce: untrusted.
        now: epoch seconds.
        ttl_s: lifetime of nonces that are made here, seconds.
    Returns:
        The expiry in epoch seconds; the replay record is stored under its minute.
    Raises:
        QuoteRefused: `challenge-invalid`, wrong size, key, holder, audience or store, or a changed
            byte.
        QuoteRefused: `challenge-expired`, made here for this scope and expired; or it ends later
            than one made now, so the clock that made it was ahead.
    Does not check:
        Whether the nonce was used before.
    """
    if len(nonce) != NONCE_BYTES:
        raise QuoteRefused(
            "challenge-invalid", f"the nonce must be {NONCE_BYTES} bytes long, but is {len(nonce)}"
        )
    random = nonce[:RANDOM_BYTES]
    expiry = nonce[RANDOM_BYTES:-_MAC_BYTES]
    mac = nonce[-_MAC_BYTES:]
    # The MAC is checked before the expiry: otherwise the kind of refusal would tell an
    # unauthenticated client which nonces are genuine.
    expected_mac = _mac(key, scope, random=random, expiry=expiry)
    if not hmac.compare_digest(mac, expected_mac):
        raise QuoteRefused(
            "challenge-invalid", "this node did not issue the nonce to the sender of this request"
        )
    expires_at = int.from_bytes(expiry, "big")
    if not now < expires_at:  # written so that NaN is refused too
        raise QuoteRefused("challenge-expired", "the nonce has expired")
    if expires_at > now + ttl_s + CLOCK_SKEW_S:
        raise QuoteRefused(
            "challenge-expired",
            "the nonce expires too late: the node's clock was ahead when the nonce was issued",
        )
    return expires_at


def _mac(key: bytes, scope: ChallengeScope, *, random: bytes, expiry: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ValueError("a challenge key must be at least 32 bytes long")
    text = joined(LABEL, random, expiry, scope.holder, scope.audience, scope.store_id)
    return hmac.digest(key, text, hashlib.sha256)[:_MAC_BYTES]
