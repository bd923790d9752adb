"""Ranges and weak comparison of entity tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.messages.byte_ranges import parse_range
from node.operations.values.conditions import matches_weakly


@pytest.mark.parametrize(
    ("header", "size_bytes", "expected"),
    [
        (None, 5, None),
        ("bytes=0-0", 5, range(1)),
        ("bytes=1-2", 5, range(1, 3)),
        ("bytes=2-", 5, range(2, 5)),
        ("bytes=2-99", 5, range(2, 5)),
        ("bytes=-2", 5, range(3, 5)),
        ("bytes=-99", 5, range(5)),
        ("bytes=-0", 5, None),
        ("bytes=3-2", 5, None),
        ("bytes=0-1,3-4", 5, None),
        ("bytes=", 5, None),
        ("bytes=-", 5, None),
        ("bytes=x", 5, None),
        ("items=0-1", 5, None),
        ("bytes=\u0661-2", 5, None),
        ("bytes=0-1111111111111111111", 5, None),
    ],
)
def test_ranges(header: str | None, size_bytes: int, expected: range | None) -> None:
    """A single range is served; malformed or multiple ranges are ignored."""
    assert parse_range(header, size_bytes=size_bytes) == expected


@pytest.mark.parametrize(
    ("header", "size_bytes"), [("bytes=5-", 5), ("bytes=9-9", 5), ("bytes=0-", 0), ("bytes=-1", 0)]
)
def test_ranges_beyond_the_end(header: str, size_bytes: int) -> None:
    """A range that begins after the end, or any range of an empty value, cannot be served."""
    wanted = parse_range(header, size_bytes=size_bytes)
    assert wanted is not None and len(wanted) == 0


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=30), st.integers(0, 40))
def test_a_range_lies_within_the_value(header: str, size_bytes: int) -> None:
    """The served range is always a non-empty part of the value."""
    wanted = parse_range(header, size_bytes=size_bytes)
    assert not wanted or (0 <= wanted.start and wanted.stop <= size_bytes)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_weak_comparison(header: str | None, expected: bool) -> None:
    """Entity tags match weakly, in a list, and by `*`."""
    assert matches_weakly(header, '"a"') is expected
