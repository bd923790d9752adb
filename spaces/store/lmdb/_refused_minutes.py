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

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple

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
    minutes, 4 bytes each.
    """
    end = prefix + before_minute.to_bytes(_MINUTE_BYTES, "big")
    minute_in_key = slice(len(prefix), len(prefix) + _MINUTE_BYTES)
    cursor = txn.cursor()
    is_on_row = cursor.set_range(prefix)
    minutes: set[bytes] = set()
    deleted_rows = 0
    while is_on_row and deleted_rows < limit:
        key = cursor.key()
        # After the last row is deleted the cursor may have an empty key.
        if not prefix <= key < end:
            break
        minutes.add(key[minute_in_key])
        is_on_row = cursor.delete()  # moves to the next row
        deleted_rows += 1
    return deleted_rows, minutes


def is_refused(encoded: bytes, minute4: bytes) -> bool:
    """Return whether all tokens with a given expiry minute are refused.

    All tokens of a minute are refused once replay records of that minute were deleted.
    """
    if minute4 < encoded[:_MINUTE_BYTES]:
        return True
    if len(encoded) <= _MINUTE_BYTES:  # no further span, as in nearly every store
        return False
    # Each further span consists of its first minute and the minute after its last.
    return any(
        encoded[at : at + 4] <= minute4 < encoded[at + 4 : at + 8]
        for at in range(4, len(encoded), 8)
    )


def add_refused(encoded: bytes, minutes: Collection[bytes] = (), *, before: int = 0) -> bytes:
    """Extend the list of expiry minutes whose tokens are refused.

    `encoded` is the list so far. Returns the new list in the same encoding. All minutes before
    `before` are added too.
    """
    spans = [_Span(0, before), *_spans_in(encoded)]
    for minute4 in minutes:
        minute = int.from_bytes(minute4, "big")
        spans.append(_Span(minute, min(minute + 1, _LAST_MINUTE)))  # an end has 4 bytes too
    merged = _merged(spans)
    while len(merged) > MAX_SPANS:
        gaps = [later.start - earlier.end for earlier, later in pairwise(merged)]
        at = gaps.index(min(gaps))
        earlier, later = merged[at : at + 2]
        merged[at : at + 2] = [_Span(earlier.start, later.end)]
    edges = [edge for span in merged for edge in span]
    # The start of the first span is not written, because it is always 0.
    return b"".join([edge.to_bytes(_MINUTE_BYTES, "big") for edge in edges[1:]])


class _Span(NamedTuple):
    """A range of minutes, without the minute `end`."""

    start: int
    end: int


def _spans_in(encoded: bytes) -> list[_Span]:
    """Decode the spans of a list."""
    if not encoded:
        return [_Span(0, 0)]
    edges = [0]
    for at in range(0, len(encoded), _MINUTE_BYTES):
        edges.append(int.from_bytes(encoded[at : at + _MINUTE_BYTES], "big"))
    # The edges are starts and ends by turns. A start without an end is left out.
    return [_Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False)]


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """Return spans in their order, each group that touches or overlaps as one."""
    merged: list[_Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            earlier = merged.pop()
            merged.append(_Span(earlier.start, max(span.end, earlier.end)))
        else:
            merged.append(span)
    return merged
