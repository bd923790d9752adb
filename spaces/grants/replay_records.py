"""Replay records: what may be used once, and under which name it is claimed (ST4).

The claim is made with the first read of an operation, and again, durably, with its commit. It is
stored under the minute of the token's own expiry, never under the current minute: otherwise a token
could be used again after a sweep.
"""

import math

from ..store.contract import ReplayRecord


def replay_record_of(key: bytes, *, expires_at: float) -> ReplayRecord:
    """Claim the first use of a token."""
    return ReplayRecord(key=key, expires_at=math.ceil(expires_at))


def replay_records_whenever(
    key: bytes, *, expires_at: float, max_lifetime_s: int
) -> tuple[ReplayRecord, ReplayRecord]:
    """Claim the first use of something that tokens of different expiry could contain, such as a
    nonce (EN15).

    A claim is stored under its minute and does not block a token that expires in another one. Time
    is therefore cut into spans of the longest lifetime of a token, and two are claimed: the one in
    which the token expires, and the next. The expiries of two tokens that are valid at one moment
    are at most one span apart, so they have a span in common. Both claims have to be first uses.

    Args:
        key: 32 bytes.
        expires_at: the token's own expiry, epoch seconds, or what counts as it: at most
            `max_lifetime_s` ahead.
        max_lifetime_s: how long a token is valid at most.
    """
    ends_at = (math.floor(expires_at) // max_lifetime_s + 1) * max_lifetime_s
    return ReplayRecord(key=key, expires_at=ends_at), ReplayRecord(
        key=key, expires_at=ends_at + max_lifetime_s
    )
