"""First use: what may be used once, and under which name it is claimed (ST4).

The claim goes with the first read of an operation, and again, durably, with its commit. It is kept under the minute of
the token's own expiry, never under a minute of now: otherwise a token could be used again after a sweep.

Example:
    claim = claim_of(invocation.replay_key, expires_at=invocation.expires_at)
    snapshot = await store.read(keys, claim=claim)
"""

import math
from typing import Final

from blake3 import blake3

from .store.contract import Claim

_NONCE_LABEL: Final = b"sealspace/first-use/nonce/v1\0"


def claim_of(replay_key: bytes, *, expires_at: float) -> Claim:
    """Claim the first use of a token.

    Args:
        replay_key: 32 bytes, BLAKE3 of issuer and signing input.
        expires_at: the token's own expiry, epoch seconds.
    """
    return Claim(key=replay_key, expires_at=math.ceil(expires_at))


def nonce_claim(issuer: str, nonce: str, *, expires_at: float) -> Claim:
    """Claim the first use of an issuer's nonce, whatever token carries it (network create and revoke)."""
    text = issuer.encode("utf-8", "surrogatepass")
    key = blake3(_NONCE_LABEL + len(text).to_bytes(4, "big") + text + nonce.encode("utf-8", "surrogatepass")).digest()
    return Claim(key=key, expires_at=math.ceil(expires_at))
