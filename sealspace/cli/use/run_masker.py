"""A filter that masks secret values in a byte stream.

Values are masked even if they are split between two reads.

A byte is covered if it is part of an occurrence of a pattern. Each longest run of covered bytes
becomes one `***`; all other bytes pass unchanged and in order. The result does not depend on how
the stream is split, and overlapping values need no special case.

If the end of a piece could be the beginning of a value, it is held back until the next bytes decide
or the stream ends. This is at most one byte less than the longest pattern. All else is passed on at
once, so prompts appear. `flush` passes on a held end that is too short to reveal a value. If a
signal ended the program that wrote the stream, a longer held end is masked.

Example:
    masker = Masker([b"open sesame"])
    masker.feed(b"it is open ses")  # b"it is "
    masker.feed(b"ame, says he")    # b"***, says he"
    masker.end()                    # b""
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MASK = b"***"
MIN_MASKED_BYTES = 4
"""Shortest value that is masked. Shorter ones occur by chance, and the masks would reveal them."""
_MIN_PART_BYTES = 8
# Shortest single line of a value, and shortest encoding of a value, that is masked. Shorter ones
# occur in ordinary text.

_ESCAPE = re.compile("%[0-9A-F]{2}")
HTML_SAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})
# Characters that percent-encoders leave unchanged: none (query strings), Python's quote,
# JavaScript's encodeURIComponent, and its encodeURI.
_NOT_PERCENT_ENCODED = ("", "/", "!'()*", ";/?:@&=+$,#!'()*")
_BASE64_LINES = (64, 76)  # line lengths: 64 in PEM, 76 in MIME and of the program base64


def patterns_of(value: bytes) -> frozenset[bytes]:
    """Return the forms in which a secret can appear in output.

    - The value without line breaks at its ends, which shells and editors remove, and with line
      breaks inside it written as LF or as CR LF.
    - Each of its lines without surrounding blanks, because log formatters indent lines.
    - The value as the content of a JSON string, percent-encoded, form-encoded, in hex, and in
      base64 at any offset of a longer text. The base64 of the value alone also as lines of 64 or 76
      characters.
    """
    whole = value.strip(b"\r\n")
    if len(whole) < MIN_MASKED_BYTES:
        return frozenset()
    patterns = {whole, whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}
    parts: set[bytes] = set()
    if b"\n" in whole:
        parts.update(line.strip() for line in whole.splitlines())
    if len(whole) >= _MIN_PART_BYTES:
        parts.update(_encodings_of(whole))
    patterns.update(part for part in parts if len(part) >= _MIN_PART_BYTES)
    return frozenset(patterns)


def _encodings_of(value: bytes) -> Iterator[bytes]:
    """Yield a value as the content of a JSON string, percent-encoded, in hex and in base64."""
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        encoded = json.dumps(text, ensure_ascii=ascii_only)[1:-1]  # without the quotes
        for variant in (encoded, encoded.replace("/", "\\/"), encoded.translate(HTML_SAFE)):
            yield variant.encode("utf-8", "surrogateescape")
    for unchanged in _NOT_PERCENT_ENCODED:
        percent = quote(value, safe=unchanged)
        for variant in (percent, percent.replace("%20", "+")):
            yield variant.encode()
            yield _ESCAPE.sub(lambda escape: escape[0].lower(), variant).encode()
    yield value.hex().encode()
    yield value.hex().upper().encode()
    # Base64 writes three bytes as four characters, so the form of a value depends on how many bytes
    # are before it: 0, 1 or 2 more than a multiple of three.
    for before in range(3):
        whole = base64.b64encode(bytes(before) + value)
        # Drop the characters at both ends that also depend on neighbouring bytes.
        first = math.ceil(before * 4 / 3)
        end = (before + len(value)) * 4 // 3
        inner = whole[first:end]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
        if before == 0:
            for width in _BASE64_LINES:
                yield from (inner[at : at + width] for at in range(0, len(inner), width))


class Masker:
    """A filter that masks byte patterns in a stream."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = tuple(sorted(set(patterns)))
        self._held = b""
        self._done = 0  # bytes at the front of `_held` that were already returned, as mask or text
        self._in_mask = False  # whether the last decided byte is covered

    def feed(self, piece: bytes) -> bytes:
        """Mask input bytes, and return the output that is ready."""
        data = self._held + piece
        open_ends = [_open_end(data, pattern) for pattern in self._patterns]
        return self._decide(data, undecided_from=min(open_ends, default=len(data)))

    def end(self, *, is_cut: bool = False) -> bytes:
        """End the stream, and return the remaining output.

        Args:
            is_cut: the process that wrote the stream was killed, perhaps while it wrote a value.
                The beginning of a value at the end is masked, unless it is too short to reveal one.
        """
        if is_cut and len(self._held) >= MIN_MASKED_BYTES:
            is_hidden = self._in_mask or self._done == len(self._held)
            self._done, self._in_mask = len(self._held), True
            return b"" if is_hidden else MASK
        return self._decide(self._held, undecided_from=len(self._held))

    def flush(self) -> bytes:
        """Return the buffered bytes, unless they could reveal a secret.

        Fewer than MIN_MASKED_BYTES bytes reveal no secret. More bytes stay in the buffer.
        """
        # The bytes stay in `_held` too. If they begin a value, it is still found, and its rest is
        # masked.
        if len(self._held) >= MIN_MASKED_BYTES or self._done == len(self._held):
            return b""
        shown = self._held[self._done :]
        self._done, self._in_mask = len(self._held), False
        return shown

    def _decide(self, data: bytes, *, undecided_from: int) -> bytes:
        """Return the masked output that is ready.

        The remaining bytes are kept for the next call. Bytes before `undecided_from`, where a value
        may begin, are decided. Covered bytes directly after them are decided too, because later
        bytes cannot uncover them.
        """
        decided: list[bytes] = []
        at = self._done
        # The empty range at the end stands for the text after the last match.
        end_of_data = (len(data), len(data))
        for start, end in (*_matched_ranges(data, self._patterns), end_of_data):
            plain_until = min(start, undecided_from)
            if at < plain_until:
                decided.append(data[at:plain_until])
                at, self._in_mask = plain_until, False
            if at < start:  # an undecided byte that is not covered
                break
            if at < end:
                if not self._in_mask:  # otherwise the mask was returned before
                    decided.append(MASK)
                at, self._in_mask = end, True
        self._held = data[undecided_from:]
        self._done = max(0, at - undecided_from)
        return b"".join(decided)


def _matched_ranges(data: bytes, patterns: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return the byte ranges that match a pattern.

    The (start, end) ranges are merged and sorted.
    """
    matches = []
    for pattern in patterns:
        for start in _starts(data, pattern):
            matches.append((start, start + len(pattern)))
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(matches):
        if ranges:
            last_start, last_end = ranges[-1]
            if start <= last_end:
                ranges[-1] = (last_start, max(end, last_end))
                continue
        ranges.append((start, end))
    return ranges


def _starts(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def _open_end(data: bytes, pattern: bytes) -> int:
    """Return the offset of an incomplete pattern at the end of the data.

    Returns the length of the data if there is none.
    """
    # Before this offset, the whole pattern has room in the data, so it is not incomplete.
    at = data.find(pattern[:1], max(0, len(data) - len(pattern) + 1))
    while at >= 0:
        # Compare 16 bytes first: copying the whole rest at every candidate would be quadratic.
        if pattern.startswith(data[at : at + 16]) and pattern.startswith(data[at:]):
            return at
        at = data.find(pattern[:1], at + 1)
    return len(data)
