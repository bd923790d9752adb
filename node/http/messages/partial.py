"""Conditional and partial answers to a GET: If-None-Match, Range, If-Range (RFC 9110 §13, §14).

One range of bytes is served. A header that is malformed, or asks for several ranges, is ignored.

Example:
    wanted = parse_range("bytes=2-", size_bytes=5)     # range(2, 5)
"""

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes=(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})?|-(?P<suffix>[0-9]{1,18}))")


class Unsatisfiable(Exception):
    """No byte of the value lies in the requested range: 416."""


def parse_range(header: str | None, *, size_bytes: int) -> range | None:
    """Return the bytes of a value that are requested; None: all of them.

    Args:
        header: the `Range` header, untrusted; None: there is none.
        size_bytes: of the value.

    Raises:
        Unsatisfiable: the range is well formed and begins after the end; any range of an empty value does.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    if match["suffix"] is not None:
        length = int(match["suffix"])
        if length == 0:
            return None
        first, last = max(size_bytes - length, 0), size_bytes - 1
    else:
        first = int(match["first"])
        last = size_bytes - 1 if match["last"] is None else int(match["last"])
        if match["last"] is not None and last < first:
            return None
    if first >= size_bytes:
        raise Unsatisfiable
    return range(first, min(last, size_bytes - 1) + 1)


def matches_weakly(header: str | None, etag: str) -> bool:
    """Whether an `If-None-Match` header names this entity tag, weak or not, in a list or by `*`."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
