"""Masking of secret values in a stream of bytes, whatever pieces the stream comes in.

A byte is covered if it is inside an occurrence of a pattern. Each maximal run of covered bytes
becomes one `***`; every other byte passes unchanged and in order. So overlapping values, and a
value that is the beginning of another, need no rule of their own, and the result does not depend on
how the stream is split.

Only the end of the stream that may be the beginning of a value is held back, until the next bytes
decide or the stream ends: at most the longest pattern less one byte. So a prompt appears at once,
and `flush` shows the held end of one if it is shorter than the shortest value that is masked.

Example:
    masker = Masker([b"open sesame"])
    masker.feed(b"it is open ses")  # b"it is "
    masker.feed(b"ame, says he")    # b"***, says he"
    masker.end()                    # b""
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

MASK: Final = b"***"
MIN_MASKED_BYTES: Final = 4
"""Shortest value that is masked: a shorter one occurs by chance, and its masks would show where."""
_MIN_PART_BYTES: Final = 8
# Shortest line of a value, and shortest encoded value, that is masked by itself: shorter ones are
# words of other texts.

_ESCAPE: Final = re.compile("%[0-9A-F]{2}")
_HTML_SAFE: Final = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&"})
# What encoders leave as it is beside letters and digits: of a query, Python's, JavaScript's of a
# part and of a URL.
_NOT_PERCENT_ENCODED: Final = ("", "/", "!'()*", ";/?:@&=+$,#!'()*")
_BASE64_LINES: Final = (64, 76)  # characters: of PEM, of MIME and of the program base64


def patterns_of(value: bytes) -> frozenset[bytes]:
    """Return what stands for a value in an output: itself, its lines, and the encodings in which
    programs print it.

    - Without the line breaks around it, which shells and editors remove; a line break within it as
        a terminal has it.
    - Each line of it, without blanks around it: log formatters indent and prefix lines.
    - As the content of a JSON string, percent-encoded, as in a form, and in base64 wherever in a
      longer text it begins; of base64 of the value alone also each line of 64 or 76 characters.
    """
    whole = value.strip(b"\r\n")
    if len(whole) < MIN_MASKED_BYTES:
        return frozenset()
    found = {whole, whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}
    parts = {line.strip() for line in whole.splitlines()} if b"\n" in whole else set()
    if len(whole) >= _MIN_PART_BYTES:
        parts.update(_encoded(whole))
    return frozenset(found | {part for part in parts if len(part) >= _MIN_PART_BYTES})


def _encoded(value: bytes) -> Iterator[bytes]:
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        encoded = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for variant in (encoded, encoded.replace("/", "\\/"), encoded.translate(_HTML_SAFE)):
            yield variant.encode("utf-8", "surrogateescape")
    for unchanged in _NOT_PERCENT_ENCODED:
        percent = quote(value, safe=unchanged)
        for variant in (percent, percent.replace("%20", "+")):
            yield variant.encode()
            yield _ESCAPE.sub(lambda escape: escape[0].lower(), variant).encode()
    for before in range(3):
        # What the value's bytes alone decide: the characters that it shares with its neighbours are
        # left out.
        whole = base64.b64encode(bytes(before) + value)
        inner = whole[-(-before * 4 // 3) : (before + len(value)) * 4 // 3]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
        if before == 0:
            for width in _BASE64_LINES:
                yield from (inner[at : at + width] for at in range(0, len(inner), width))


class Masker:
    """Masks the patterns in one stream."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = tuple(sorted(set(patterns)))
        self._held = b""
        self._done = 0  # bytes at the front of `_held` whose mask was returned
        self._in_mask = False  # the last byte that was decided is covered

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the stream; return what is decided by now."""
        data = self._held + piece
        ends = (_open_end(data, one) for one in self._patterns)
        return self._decide(data, undecided_from=min(ends, default=len(data)))

    def end(self) -> bytes:
        """Return the rest: the stream has ended, and what was held back is no value."""
        return self._decide(self._held, undecided_from=len(self._held))

    def flush(self) -> bytes:
        """Return what is held if it is too short to reveal a value; the rest of the value is masked
        if it follows."""
        if len(self._held) >= MIN_MASKED_BYTES or self._done == len(self._held):
            return b""
        shown = self._held[self._done :]
        self._done, self._in_mask = len(self._held), False
        return shown

    def _decide(self, data: bytes, *, undecided_from: int) -> bytes:
        """Return what is decided of the bytes from `_done` on, and hold the others.

        A byte is decided before the earliest possible beginning of a value; and behind that as long
        as it is covered, for covered it stays.
        """
        decided: list[bytes] = []
        at = self._done
        for start, end in (*_runs(data, self._patterns), (len(data), len(data))):
            plain_until = min(start, undecided_from)
            if at < plain_until:
                decided.append(data[at:plain_until])
                at, self._in_mask = plain_until, False
            if at < start:  # undecided and not covered
                break
            if at < end:
                decided.append(b"" if self._in_mask else MASK)
                at, self._in_mask = end, True
        self._held = data[undecided_from:]
        self._done = at - undecided_from if at > undecided_from else 0
        return b"".join(decided)


def _runs(data: bytes, patterns: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return the maximal runs of covered bytes, ascending."""
    found = sorted((start, start + len(one)) for one in patterns for start in _starts(data, one))
    runs: list[tuple[int, int]] = []
    for start, end in found:
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((start, end))
    return runs


def _starts(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def _open_end(data: bytes, pattern: bytes) -> int:
    """Return where the longest end of the data begins that is the beginning of a pattern and not
    the whole of it."""
    at = data.find(pattern[:1], max(0, len(data) - len(pattern) + 1))
    while at >= 0:
        # A few bytes first: a copy of the rest at each place where the first byte occurs would cost
        # too much.
        if pattern.startswith(data[at : at + 16]) and pattern.startswith(data[at:]):
            return at
        at = data.find(pattern[:1], at + 1)
    return len(data)
