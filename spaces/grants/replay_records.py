"""Records of used tokens and nonces, for replay protection (ST4).

A record is written with the first read of an operation, and again, durably, with its commit. It is
stored under the minute of the token's own expiry, never under the current minute. Otherwise a token
could be used again after a sweep.
"""

import math
from datetime import UTC, datetime

from .._codec import value_or_empty
from ..keyspace import REPLAY_FLOOR_KEY, RESTORED_KEY, acceptance_delay_s
from ..store.contract import ReplayRecord, Store


def replay_record_of(key: bytes, *, expires_at: float) -> ReplayRecord:
    """Return the replay record that prevents a second use of a token."""
    return ReplayRecord(key, math.ceil(expires_at))


def nonce_replay_records(
    key: bytes, *, expires_at: float, max_lifetime_s: int
) -> tuple[ReplayRecord, ReplayRecord]:
    """Return the replay records that prevent reuse of a nonce (EN15).

    Several tokens with different expiries may contain the same nonce. A record is stored under its
    minute and does not block a token that expires in another minute. Time is therefore divided into
    spans of the longest lifetime of a token, and two records are written: for the span in which the
    token expires, and for the next. The expiries of two tokens that are valid at one moment are at
    most one span apart, so they have a span in common. Both records have to be first uses.

    Args:
        key: 32 bytes.
        expires_at: the token's own expiry or its equivalent, in epoch seconds: at most
            `max_lifetime_s` ahead.
        max_lifetime_s: the longest lifetime of a token.
    """
    ends_at = (math.floor(expires_at) // max_lifetime_s + 1) * max_lifetime_s
    return ReplayRecord(key, ends_at), ReplayRecord(key, ends_at + max_lifetime_s)


async def closed_until(store: Store, now: float) -> float | None:
    """Return the time until which tokens are refused because the store was restored (BK5).

    A token that expires later is accepted at once. None means that no token is refused for this
    reason; a clock that was wrong can refuse tokens too. Times are in epoch seconds.
    """
    floor, restored = (await store.read((REPLAY_FLOOR_KEY, RESTORED_KEY))).records
    delay_s = acceptance_delay_s(value_or_empty(floor), now)
    if restored is None or not delay_s:
        return None
    return round(now + delay_s)


RESTORE_WAIT = (
    "until {} at the latest, values and secrets are neither read nor written, because the store was"
    " restored and a request may repeat one from before; then clients continue by themselves"
)


async def restore_wait(store: Store, now: float) -> str:
    """Return until when a restored store refuses calls, as a sentence, or "" (BK5)."""
    until = await closed_until(store, now)
    if until is None:
        return ""
    return RESTORE_WAIT.format(f"{datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}")
