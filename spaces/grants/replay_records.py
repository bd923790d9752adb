"""First use: what may be used once, and under which name it is claimed (ST4).

The claim goes with the first read of an operation, and again, durably, with its commit. It is kept under the minute of
the token's own expiry, never under a minute of now: otherwise a token could be used again after a sweep.

Example:
    claim = claim_of(invocation.content_key, expires_at=invocation.expires_at)
    snapshot = await store.read(keys, claim=claim)
"""

import math

from ..store.contract import Claim


def claim_of(key: bytes, *, expires_at: float) -> Claim:
    """Claim the first use of a token.

    Args:
        key: 32 bytes, of a token its content key.
        expires_at: the token's own expiry, epoch seconds.
    """
    return Claim(key=key, expires_at=math.ceil(expires_at))


def claims_whenever(key: bytes, *, expires_at: float, max_lifetime_s: int) -> tuple[Claim, Claim]:
    """Claim the first use of something that tokens of different expiry could bear, such as a nonce (EN15).

    A claim is filed under its minute, and is no obstacle to a token that ends in another one. Time is therefore cut
    into spans as long as a token lives at most, and two are claimed: the one in which the token ends, and the next.
    The ends of two tokens that live at one moment are at most one span apart, so they have a span in common. Both
    claims have to be first uses.

    Args:
        key: 32 bytes.
        expires_at: the token's own expiry, epoch seconds, or what counts for it: at most `max_lifetime_s` ahead.
        max_lifetime_s: how long a token counts at most.
    """
    ends_at = (math.floor(expires_at) // max_lifetime_s + 1) * max_lifetime_s
    return Claim(key=key, expires_at=ends_at), Claim(key=key, expires_at=ends_at + max_lifetime_s)
