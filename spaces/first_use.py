"""First use: what may be used once, and under which name it is claimed (ST4).

The claim goes with the first read of an operation, and again, durably, with its commit. It is kept under the minute of
the token's own expiry, never under a minute of now: otherwise a token could be used again after a sweep.

Example:
    claim = claim_of(invocation.replay_key, expires_at=invocation.expires_at)
    snapshot = await store.read(keys, claim=claim)
"""

import math
from typing import Final

from .store.contract import Claim

NEVER_FORGOTTEN: Final = (60 << 32) - 60
"""The last minute that a claim can be kept under: for what may be used once for good."""


def claim_of(replay_key: bytes, *, expires_at: float) -> Claim:
    """Claim the first use of a token.

    Args:
        replay_key: 32 bytes, BLAKE3 of issuer and signing input.
        expires_at: the token's own expiry, epoch seconds.
    """
    return Claim(key=replay_key, expires_at=math.ceil(expires_at))
