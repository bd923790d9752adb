"""Tests of masking secret values in a stream, however the stream is split."""

import base64
import json
import os
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealspace.cli.use.run_masker import MASK, Masker, patterns_of

# Few letters: values overlap, contain each other and begin alike.
LETTERS = st.binary(max_size=40).map(lambda data: bytes(b"abc"[one % 3] for one in data))


def masked(data: bytes, patterns: list[bytes], cuts: list[int]) -> list[bytes]:
    """Return the masker's output for each piece and for the end."""
    masker = Masker(patterns)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    return [*(masker.feed(piece) for piece in pieces), masker.end()]


def by_the_rule(data: bytes, patterns: list[bytes], *, until: int | None = None) -> bytes:
    """Mask byte by byte as the module's docstring states it; return the output for the first
    `until` bytes."""
    covered = [False] * len(data)
    for one in patterns:
        for start in range(len(data) - len(one) + 1):
            if data[start : start + len(one)] == one:
                covered[start : start + len(one)] = [True] * len(one)
    shown = b""
    for at, byte in enumerate(data[:until]):
        if not covered[at]:
            shown += bytes([byte])
        elif at == 0 or not covered[at - 1]:
            shown += MASK
    return shown


@given(
    data=LETTERS,
    patterns=st.lists(LETTERS.map(lambda one: one[:7]).filter(bool), max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=12),
)
@example(data=b"abcabq", patterns=[b"abcab", b"abc", b"abx"], cuts=[5])
@example(data=b"abcdabcabcdef", patterns=[b"abc", b"abcdef"], cuts=[3, 4, 7])
@example(data=b"aaaaaaa", patterns=[b"aaa"], cuts=[1, 2, 3, 4, 5, 6])
def test_any_pieces_are_masked_as_the_whole(
    data: bytes, patterns: list[bytes], cuts: list[int]
) -> None:
    """The output does not depend on how the input is divided, and follows the rule."""
    expected = by_the_rule(data, patterns)
    assert expected == b"".join(masked(data, patterns, cuts))
    assert expected == b"".join(masked(data, patterns, []))


@given(
    data=LETTERS,
    patterns=st.lists(LETTERS.map(lambda one: one[:7]).filter(bool), max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=12),
)
def test_only_what_may_be_a_value_is_held(
    data: bytes, patterns: list[bytes], cuts: list[int]
) -> None:
    """After each piece, the bytes that were not returned are the beginning of a value."""
    masker = Masker(patterns)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    returned = b""
    for start, end in pairwise(places):
        returned += masker.feed(data[start:end])
        seen = data[:end]
        begun = [
            at
            for at in range(len(seen))
            if any(one != seen[at:] and one.startswith(seen[at:]) for one in patterns)
        ]
        assert returned.startswith(by_the_rule(seen, patterns, until=min(begun, default=len(seen))))


def test_a_prompt_is_not_held_back() -> None:
    """Output that cannot be the beginning of a value is passed on at once, without a line break."""
    masker = Masker([b"open sesame"])
    assert masker.feed(b"continue? [y/N] ") == b"continue? [y/N] "
    assert masker.feed(b"o") == b""
    assert masker.feed(b"k\n") == b"ok\n"
    assert masker.end() == b""


def test_a_value_over_two_writes() -> None:
    """The masker returns no part of a value that arrives in two pieces."""
    masker = Masker([b"open sesame"])
    assert masker.feed(b"it is open ses") == b"it is "
    assert masker.feed(b"ame, he says") == b"***, he says"


def test_a_flush_reveals_no_value() -> None:
    """A flush shows up to three held bytes and masks the rest of the value. A longer beginning is
    not shown."""
    masker = Masker([b"open sesame"])
    assert masker.feed(b"an op") == b"an "
    assert masker.flush() == b"op"
    assert masker.flush() == b""
    assert masker.feed(b"e") == b""
    assert masker.flush() == b"e"
    assert masker.feed(b"n s") == b""
    assert masker.flush() == b""
    assert masker.feed(b"esame!") == b"***!"
    assert masker.end() == b""
    assert masker.feed(b"op") == b""
    assert masker.flush() == b"op"
    assert masker.feed(b"al") == b"al"
    assert masker.end() == b""


def test_the_end_of_a_stream_that_was_cut() -> None:
    """If the process that writes a stream is killed, the beginning of a value is masked."""
    for piece, shown in (
        (b"it is open ses", b"it is ***"),
        (b"it is ope", b"it is ope"),
        (b"open sesameopen", b"***"),
        (b"it is o", b"it is o"),
    ):
        masker = Masker([b"open sesame"])
        assert masker.feed(piece) + masker.end(is_cut=True) == shown
    masker = Masker([b"open sesame"])
    assert masker.feed(b"ope") + masker.flush() + masker.feed(b"n ses") == b"ope"
    assert masker.end(is_cut=True) == b"***"
    assert masker.end(is_cut=True) == b""


def test_a_mask_does_not_wait_for_a_longer_value() -> None:
    """A whole value is masked at once, even if it may be the beginning of a longer value."""
    masker = Masker([b"open", b"open sesame"])
    assert masker.feed(b"open") == b"***"
    assert masker.feed(b" ses") == b""
    assert masker.feed(b"ame!") == b"!"
    assert masker.feed(b"open") == b"***"
    assert masker.feed(b" door") == b" door"


def test_other_bytes_are_untouched() -> None:
    """Megabytes of random bytes pass unchanged, in pieces of any size."""
    data = bytes(range(256)) * 16 + os.urandom(3_000_000)
    masker, sizes, shown, at = (
        Masker(patterns_of(b"open sesame, says the owner")),
        random.Random(7),
        [],
        0,
    )
    while at < len(data):
        size = sizes.choice([1, 5, 4096, 65536])
        shown.append(masker.feed(data[at : at + size]))
        at += size
    assert b"".join([*shown, masker.end()]) == data


def _base64_inside(value: bytes) -> bytes:
    return base64.b64encode(b"user:" + value + b"!")


VALUE = 'pass "word"/+é~\x7f with more'


@pytest.mark.parametrize(
    "shown",
    [
        VALUE.encode(),
        json.dumps({"k": VALUE}).encode(),
        json.dumps({"k": VALUE}, ensure_ascii=False).encode(),
        quote(VALUE, safe="").encode(),
        base64.b64encode(VALUE.encode()),
        _base64_inside(VALUE.encode()),
        base64.urlsafe_b64encode(b"a" + VALUE.encode()),
        VALUE.encode().hex().encode(),
        VALUE.encode().hex().upper().encode(),
    ],
)
def test_encoded_values_are_masked(shown: bytes) -> None:
    """A value is masked as a JSON string, percent-encoded, in hex, and in base64.

    The base64 may begin anywhere."""
    masker = Masker(patterns_of(VALUE.encode()))
    seen = masker.feed(shown) + masker.end()
    assert MASK in seen
    # what stands around it, and characters shared with it
    assert len(seen.replace(MASK, b"")) <= 20


def as_others_encode(value: bytes) -> Iterator[bytes]:
    """Yield common encodings of a value: those of Python, forms, JavaScript, curl, Go's JSON, PHP,
    and base64."""
    text = value.decode()
    yield quote(text).encode()
    yield quote_plus(text).encode()
    yield quote(text, safe="!'()*").encode()
    yield quote(text, safe=";/?:@&=+$,#!'()*").encode()
    yield re.sub(b"%..", lambda escape: escape[0].lower(), quote(text, safe="").encode())
    for plain, escaped in (("<", "\\u003c"), ("&", "\\u0026"), (">", "\\u003e")):
        text = text.replace(plain, escaped)
    yield text.encode()
    yield value.replace(b"/", b"\\/")


@pytest.mark.parametrize(
    "value", [b"abc/def+gh==Zq9Xy", b"pa!ss wo'rd(1)*&<tag>/x", b"https://user:pa$$@host/db?a=b#c"]
)
def test_values_as_other_languages_encode_them(value: bytes) -> None:
    """The masker hides a value in each of these languages' encodings."""
    for shown in as_others_encode(value):
        masker = Masker(patterns_of(value))
        assert masker.feed(b"<" + shown + b">") + masker.end() == b"<***>", shown


@pytest.mark.parametrize("width", [64, 76])
def test_base64_in_lines(width: int) -> None:
    """The program base64 breaks its output into lines, and no long line of a value is shown."""
    value = b"".join(b"%d:open sesame/" % number for number in range(20))
    encoded = base64.b64encode(value + b"\n")  # as after `echo`
    shown = b"\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))
    masker = Masker(patterns_of(value))
    seen = masker.feed(shown) + masker.end()
    assert len(seen.replace(MASK, b"").replace(b"\n", b"")) <= 8, seen


KEY = b"-----BEGIN KEY-----\n  c2VjcmV0IGtleQ==\n}\nlast line of it\n"


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        KEY.strip(),
        KEY.replace(b"\n", b"\r\n"),
        b"\n".join(b"log: " + line for line in KEY.splitlines()),
    ],
    ids=["whole", "stripped", "terminal", "prefixed"],
)
def test_lines_of_a_value_are_masked(shown: bytes) -> None:
    """No long line of a value with several lines is shown, however the lines are broken or
    prefixed."""
    masker = Masker(patterns_of(KEY))
    seen = masker.feed(shown) + masker.end()
    assert not any(line.strip() in seen for line in KEY.splitlines() if len(line) > 4)


@pytest.mark.parametrize(
    ("value", "is_masked"), [(b"abc", False), (b"abcd", True), (b"abc\n", False), (b"", False)]
)
def test_short_values_are_not_masked(value: bytes, is_masked: bool) -> None:
    """Values under four bytes are not masked, because they occur everywhere."""
    assert bool(patterns_of(value)) == is_masked


def test_short_lines_and_words_stay() -> None:
    """Short lines of a value are not masked on their own."""
    masker = Masker(patterns_of(b"true\nfalse\n" + b"x" * 40))
    assert masker.feed(b"true or false\n") == b"true or false\n"
