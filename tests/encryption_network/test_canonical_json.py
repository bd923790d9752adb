"""Canonical JSON compared with an independent writer, and with the numbers of clients."""

import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from encryption_network.canonical_json import MAX_DEPTH, canonical_bytes, canonical_members
from encryption_network.network_errors import InvalidCanonicalJson

# The two formats agree on these: whole numbers that a double holds, member names of the basic
# plane.
NAMES = st.text(st.characters(max_codepoint=0xD7FF))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_it_is_rfc_8785_where_the_protocol_lives(value: Any) -> None:
    """For all values of this protocol the text equals RFC 8785's."""
    assert canonical_bytes(value) == rfc8785.dumps(value)


@given(VALUES)
def test_reading_it_back_gives_the_value(value: Any) -> None:
    """The text is JSON of the same value, and encoding it again gives the same text."""
    assert json.loads(canonical_bytes(value)) == value
    assert canonical_bytes(json.loads(canonical_bytes(value))) == canonical_bytes(value)


ANY_NUMBERS = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
MIXED = st.recursive(
    st.none() | st.booleans() | ANY_NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
        ),
    ),
    st.integers(0, 40),
)
def test_without_fractions_it_is_the_sorted_text(value: Any, depth: int) -> None:
    """Names of any plane, at any depth, are sorted by code point; escapes are the shortest."""
    for _ in range(depth):
        value = {"inner": [value]}
    expected = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert canonical_bytes(value) == expected


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), MIXED, max_size=5))
def test_the_text_of_a_value_is_the_same_beside_other_values(members: dict[str, Any]) -> None:
    """The text of a value does not depend on the values beside it."""
    names = sorted(members)
    parts = [canonical_bytes(name) + b":" + canonical_bytes(members[name]) for name in names]
    assert canonical_bytes(members) == b"{" + b",".join(parts) + b"}"
    items = [canonical_bytes(members[name]) for name in names]
    assert canonical_bytes([members[name] for name in names]) == b"[" + b",".join(items) + b"]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1.5e300, "1.5e300"),
        (0.0001, "0.0001"),
        (1e-05, "0.00001"),
        (-1.25e-05, "-0.0000125"),
        (1e-06, "1e-6"),
        (1.5e-07, "1.5e-7"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.8446744073709552e19"),
        (-(2**63), "-9223372036854775808"),
        (-(2**63) - 1, "-9.223372036854776e18"),
    ],
)
def test_numbers_keep_their_own_form(value: Any, text: str) -> None:
    """Fractions and huge integers are printed as the protocol's clients print them."""
    assert canonical_bytes(value) == text.encode()


def test_names_are_ordered_by_code_point() -> None:
    """Names above the basic plane are sorted as UTF-8, not as UTF-16."""
    assert canonical_bytes({"\U00010000": 1, "\uffff": 2}) == '{"\uffff":2,"\U00010000":1}'.encode()


class Members(msgspec.Struct, rename="camel"):
    """Members of every kind that the protocol writes unchecked, in no order."""

    second_of: str
    first: int
    zero: str | None
    listed: tuple[str, ...]
    inner: "Members | None"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MEMBERS = st.recursive(
    st.none(),
    lambda inner: st.builds(
        Members,
        TEXTS,
        st.integers(-(2**63), 2**63 - 1),
        st.none() | TEXTS,
        st.lists(TEXTS).map(tuple),
        inner,
    ),
    max_leaves=3,
)


@given(MEMBERS)
def test_members_that_are_known_are_written_alike(members: Members | None) -> None:
    """The unchecked writer gives the same text as the checked one, for structs and mappings."""
    if members is not None:
        value = json.loads(msgspec.json.encode(members))
        assert canonical_members(members) == canonical_bytes(value)
        flat = {name: member for name, member in value.items() if name != "inner"}
        assert canonical_members(flat) == canonical_bytes(flat)


def test_members_that_are_no_unicode() -> None:
    """A lone surrogate is rejected, also in a struct."""
    with pytest.raises(InvalidCanonicalJson):
        canonical_members({"text": "\ud800"})


def nested(depth: int) -> Any:
    """Return lists nested in each other."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        10**400,
        "\ud800",
        {"\udfff": 1},
        nested(MAX_DEPTH + 1),
        nested(100_000),
    ],
)
def test_what_has_no_canonical_form(value: Any) -> None:
    """A value that JSON cannot represent raises InvalidCanonicalJson."""
    with pytest.raises(InvalidCanonicalJson):
        canonical_bytes(value)
