"""One text for each byte string, in both alphabets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.strict_base64 import decode_standard, decode_url, encode_standard, encode_url


@given(st.binary(max_size=64))
def test_round_trip(data: bytes) -> None:
    """What is encoded decodes to itself."""
    assert data == decode_standard(encode_standard(data))
    assert data == decode_url(encode_url(data))


@pytest.mark.parametrize("text", ["YQ", "YR==", "YQ==\n", " YQ==", "-_8=", "YQ===", "é", None, 7, "=", "Y"])
def test_other_standard_texts_are_refused(text: object) -> None:
    """No padding, spare bits, white space, the other alphabet and what is no text are refused."""
    assert decode_standard(text) is None


@pytest.mark.parametrize("text", ["YQ==", "YR", "YQ\n", " YQ", "+/8", "é", None, 7, "=", "Y"])
def test_other_url_texts_are_refused(text: object) -> None:
    """Padding, spare bits, white space, the other alphabet and what is no text are refused."""
    assert decode_url(text) is None


@given(st.text(max_size=40))
def test_fuzz_any_text(text: str) -> None:
    """Any text gives bytes that encode back to it, or None."""
    for decode, encode in ((decode_standard, encode_standard), (decode_url, encode_url)):
        data = decode(text)
        assert data is None or text == encode(data)
