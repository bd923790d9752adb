"""Strict base64 in both alphabets, with and without padding."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from capabilities.strict_base64 import (
    decode_padded_url,
    decode_standard,
    decode_url,
    encode_padded_url,
    encode_standard,
    encode_url,
)

ALPHABETS = (
    (decode_standard, encode_standard),
    (decode_url, encode_url),
    (decode_padded_url, encode_padded_url),
)


@given(st.binary(max_size=64))
def test_round_trip(data: bytes) -> None:
    """Encoded bytes are decoded to the same bytes."""
    for decode, encode in ALPHABETS:
        assert data == decode(encode(data))


@pytest.mark.parametrize(
    "text",
    [
        "YQ",
        "YR==",
        "YQ==\n",
        " YQ==",
        "-_8=",
        "YQ===",
        "YQ==YQ==",
        "YWI=YWJj",
        "é",
        None,
        7,
        "=",
        "Y",
    ],
)
def test_other_standard_texts_are_refused(text: object) -> None:
    """Any other form of standard base64 is rejected, and so are values that are not text."""
    assert decode_standard(text) is None


@pytest.mark.parametrize("text", ["YQ==", "YR", "YQ\n", " YQ", "+/8", "é", None, 7, "=", "Y"])
def test_other_url_texts_are_refused(text: object) -> None:
    """Any other form of base64url is rejected, and so are values that are not text."""
    assert decode_url(text) is None


@given(st.text(max_size=40))
def test_fuzz_any_text(text: str) -> None:
    """Any text gives bytes that encode back to it, or None."""
    for decode, encode in ALPHABETS:
        data = decode(text)
        assert data is None or text == encode(data)


near_base64 = st.text("AQgwZz09+/-_= \n.é\ud800\0", max_size=12) | st.binary(max_size=40).map(
    lambda data: base64.b64encode(data).decode()
)


@given(near_base64)
@fuzzed()
def test_the_standard_library_agrees(text: str) -> None:
    """Canonical text is decoded as by Python's own decoder, and other text is rejected."""
    assert decode_standard(text) == library_reads(text)
    standard = text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4)
    padded = text.translate(str.maketrans("-_", "+/"))
    assert decode_padded_url(text) == (None if {*"+/"} & {*text} else library_reads(padded))
    assert decode_url(text) == (None if {*"+/="} & {*text} else library_reads(standard))


def library_reads(text: str) -> bytes | None:
    """Decode canonical standard base64 with the standard library; return None for other text."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None
