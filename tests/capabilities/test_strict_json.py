"""Strict parsing of untrusted JSON."""

from typing import Literal

import msgspec
import pytest

from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import (
    MAX_NESTING,
    Json,
    Sha256Hex,
    parse_json,
    repeats_member,
    shaped,
)


def test_an_object_is_read():
    """Numbers keep their type, and escapes are resolved."""
    assert parse_json(b' {"a": [1, 1.0, null, "\\u0041"], "b": {}} ', max_bytes=100) == {
        "a": [1, 1.0, None, "A"],
        "b": {},
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{} {}",
        b"{,}",
        b'{"a":NaN}',
        b'{"a":1e400}',
        b'{"a":01}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":"\x01"}',
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"x":[{"a":1,"a":2}]}',
        b'{"a":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}",
        b'{"a":' + b"[" * 100_000,
        b'{"' + b"a" * 200_000 + b'":1}',
    ],
)
def test_what_is_refused(data):
    """Another shape or encoding, a repeated member, and too deep or long texts are rejected."""
    with pytest.raises(InvalidJson):
        parse_json(data, max_bytes=150_000)


def test_depth_is_not_counted_in_strings():
    """Brackets inside strings do not count as nesting."""
    depth = MAX_NESTING - 1
    text = '[{\\"' * 100
    data = b'{"t":"' + text.encode() + b'","a":' + b"[" * depth + b"]" * depth + b"}"
    assert parse_json(data, max_bytes=10_000)["t"] == '[{"' * 100


def test_repeats_member():
    """Only the given names in the outermost object are checked."""
    names = frozenset({"a"})
    assert repeats_member(b'{"a":1,"a":2}', names)
    assert repeats_member(b'{"a":1,"\\u0061":2}', names)
    assert not repeats_member(b'{"a":1,"b":{"a":2}}', names)
    assert not repeats_member(b'{"a":"\\"a\\"","b":1,"b":2}', names)
    assert not repeats_member(b'{"a":' + b"1" * 5000 + b',"b":"a"}', names)


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    digest: Sha256Hex
    kind: Literal["a", "b"] = "a"


class Outer(msgspec.Struct):
    inner: list[Inner]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "$.inner is missing"),
        ({"inner": 1}, "$.inner must be array"),
        ({"inner": [{}]}, "$.inner[0].digest is missing"),
        (
            {"inner": [{"digest": "ab" * 32, "hidden value": 1}]},
            "$.inner[0] has an unknown member",
        ),
        (
            {"inner": [{"digest": "ab" * 32, "kind": "hidden value"}]},
            "$.inner[0].kind has an invalid value",
        ),
        (
            {"inner": [{"digest": "AB" * 32}]},
            "$.inner[0].digest must be str matching regex '^[0-9a-f]{64}\\\\Z'",
        ),
        (
            {"inner": [{"digest": "ab" * 32 + "\n"}]},
            "$.inner[0].digest must be str matching regex '^[0-9a-f]{64}\\\\Z'",
        ),
        (["hidden value"], "$ must be object"),
    ],
)
def test_a_shape_that_is_not_met(value: Json, text: str) -> None:
    """The error names the place of the fault without quoting the input."""
    with pytest.raises(InvalidJson) as refused:
        shaped(value, Outer)
    assert str(refused.value) == text


def test_a_shape_that_is_met() -> None:
    """Unknown members are ignored, unless the shape forbids them."""
    read = shaped({"inner": [{"digest": "ab" * 32}], "more": 1}, Outer)
    assert read.inner[0].digest == "ab" * 32
    assert read.inner[0].kind == "a"
