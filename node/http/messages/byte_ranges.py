"""Parsing of byte ranges in requests (RFC 9110 §14)."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parse_range(header: str | None, *, size_bytes: int) -> range | None:
    """Parse the byte range in a `Range` header (RFC 9110 §14).

    None means the whole value. An empty range means that the request cannot be satisfied. Only a
    single range is served; a header that is malformed or asks for several ranges is ignored.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first_digits, last_digits = match.groups()
    whole = range(size_bytes)
    if not first_digits and not last_digits:
        return None
    if not first_digits:  # `-500` asks for the last 500 bytes
        suffix_bytes = int(last_digits)
        return whole[-suffix_bytes:] if suffix_bytes > 0 else None
    first = int(first_digits)
    if not last_digits:
        return whole[first:]
    last = int(last_digits)
    if first > last:
        return None
    return whole[first : last + 1]
