"""Tests of the option headers of a call: their detection and parsing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from node.operations.values.conditions import NO_OPTIONS, has_option_headers, parse_options
from node.refusal import Refusal

_OPTIONS = (
    "If-Match",
    "If-None-Match",
    "X-TinyCloud-Cursor",
    "X-TinyCloud-Expected-Version",
    "X-TinyCloud-Limit",
    "X-TinyCloud-Max-Response-Bytes",
)
_NAMES = st.sampled_from(
    ["Host", "Accept", "Content-Type", "If-Range", "X-TinyCloud-Meta-A"]
) | st.sampled_from(_OPTIONS)


@given(
    headers=st.dictionaries(_NAMES, st.sampled_from(["*", "1", "a", '"blake3-00"'])),
    spelled=st.sampled_from([str, str.lower, str.upper]),
    shape=st.fixed_dictionaries(
        {**dict.fromkeys(("reads", "puts", "deletes"), st.integers(0, 2)), "is_form": st.booleans()}
    ),
)
def test_who_asks_for_nothing_has_no_options(
    headers: dict[str, str], spelled, shape: dict[str, Any]
) -> None:
    """Options are detected exactly if an option header is present, in any case."""
    assert has_option_headers(
        CIMultiDict({spelled(name): value for name, value in headers.items()})
    ) == any(name in _OPTIONS for name in headers)
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        options = parse_options(lowered, **shape)
    except Refusal:
        options = None
    assert options == NO_OPTIONS or has_option_headers(lowered)


@pytest.mark.parametrize("digest", ["g" * 64, "a" * 63 + " ", "a" * 62 + "\u0661\u0661"])
def test_an_etag_is_hexadecimal(digest: str) -> None:
    """A malformed ETag is a client error and not an unmet condition."""
    put: dict[str, Any] = {"reads": 0, "puts": 1, "deletes": 0, "is_form": False}
    assert parse_options({"if-match": f'"blake3-{"a" * 64}"'}, **put).replace_etag == "a" * 64
    with pytest.raises(Refusal, match="hexadecimal"):
        parse_options({"if-match": f'"blake3-{digest}"'}, **put)


def test_a_long_number_in_a_header_is_the_caller_s_mistake() -> None:
    """Thousands of leading zeros are parsed or refused without an internal error."""
    headers = {"x-tinycloud-max-response-bytes": "0" * 5000 + "1"}
    try:
        options = parse_options(headers, reads=1, puts=0, deletes=0, is_form=False)
    except Refusal:
        return
    assert options.max_response_bytes == 1
