"""Refusal of tokens whose replay records were deleted (ST4).

Without replay records, the store cannot tell whether a token was used. So it keeps a list of the
expiry minutes whose replay records were deleted, and refuses all tokens that expire in a listed
minute. The list is encoded as time spans.

    offset   size  field
    ───────  ────  ─────────────────────────────────────────────
    0        4     every minute before this one is in the list
    4 + 8n   4     the first minute of a further span
    8 + 8n   4     the minute after its last

A clock that was ahead adds a span far from the others. After it is set back, the minutes between
the spans are not in the list. Minutes are encoded by `replay_minute4`. An earlier version wrote
only the first four bytes.
"""

from collections.abc import Collection
from itertools import pairwise

import lmdb

_MINUTE_BYTES = 4
_LAST_MINUTE = (1 << 32) - 1
# Enough for a store that is used once an hour. Beyond this number, the two closest spans are
# merged.
MAX_SPANS = 16


def remove_replay_records(
    txn: "lmdb.Transaction[bytes]", prefix: bytes, before_minute: int, limit: int
) -> tuple[int, set[bytes]]:
    """Delete replay records that expired before a given minute.

    At most `limit` records are deleted. Returns the number of deleted records, and their expiry
    minutes.
    """
    cursor, end = txn.cursor(), prefix + before_minute.to_bytes(_MINUTE_BYTES, "big")
    found = cursor.set_range(prefix)
    minutes = set[bytes]()
    rows = 0
    # After the last row is deleted the cursor may have an empty key.
    while found and rows < limit and prefix <= cursor.key() < end:
        minutes.add(cursor.key()[len(prefix) :][:_MINUTE_BYTES])
        found = cursor.delete()  # moves to the next row
        rows += 1
    return rows, minutes


def is_refused(encoded: bytes, minute4: bytes) -> bool:
    """Return whether all tokens with a given expiry minute are refused.

    All tokens of a minute are refused once replay records of that minute were deleted.
    """
    if minute4 < encoded[:_MINUTE_BYTES]:
        return True
    return any(
        encoded[at : at + 4] <= minute4 < encoded[at + 4 : at + 8]
        for at in range(4, len(encoded), 8)
    )


def add_refused(encoded: bytes, minutes: Collection[bytes] = (), *, before: int = 0) -> bytes:
    """Extend the list of expiry minutes whose tokens are refused.

    `encoded` is the list so far. Returns the new list in the same encoding. All minutes before
    `before` are added too.
    """
    edges = [
        0,
        *[int.from_bytes(encoded[at : at + 4], "big") for at in range(0, max(len(encoded), 1), 4)],
    ]
    numbers = [int.from_bytes(minute4, "big") for minute4 in minutes]
    spans = [(0, before), *zip(edges[::2], edges[1::2], strict=False)]
    spans += [(number, min(number + 1, _LAST_MINUTE)) for number in numbers]
    merged = list[tuple[int, int]]()
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:  # they touch
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    while len(merged) > MAX_SPANS:
        gaps = [later[0] - former[1] for former, later in pairwise(merged)]
        at = gaps.index(min(gaps))
        merged[at : at + 2] = [(merged[at][0], merged[at + 1][1])]
    written = [edge for span in merged for edge in span][1:]  # the first span begins with time
    return b"".join([edge.to_bytes(_MINUTE_BYTES, "big") for edge in written])
