"""Strict parsing of JSON objects from untrusted sources.

The text is UTF-8, no object repeats a member, and the nesting is bounded.

Example:
    body = parse_json(b'{"cid":"bafkr4i..."}', max_bytes=1_048_576)
"""

import json
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from .capability_errors import InvalidJson
from .frozen_struct import FrozenStruct

Shape = TypeVar("Shape")
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject = dict[str, Json]

Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A field of 64 lower-case hex digits, for use with `shaped`."""


class StrictStruct(msgspec.Struct, forbid_unknown_fields=True):
    """The base of JSON objects that refuse unknown members.

    Otherwise a typo would be ignored.
    """


class StrictRecord(FrozenStruct, forbid_unknown_fields=True):
    """The base of immutable JSON objects that refuse unknown members."""


MAX_NESTING = 64
"""Deepest nesting of arrays and objects, far below the interpreter's recursion limit."""

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_BACKSLASH = b"\\"
_PLACE = re.compile(r" - at `(.{1,200})`\Z")
_MISSING = re.compile(r"missing required field `(\w+)`")
_EXPECTED = re.compile(r"Expected (.+?)(?:, got| - at|\Z)")


def bounded_decoder(shape: type[Shape]) -> "msgspec.json.Decoder[Shape]":
    """Return a JSON decoder that takes about the same time for every text of a length.

    msgspec takes 23 µs for a number such as 1e308, 300 times as long as for 1.5, where the type is
    not known beforehand. Python's own conversion takes less than 1 µs for both.

    Args:
        shape: what is decoded; members of any type may be in it.
    """
    return msgspec.json.Decoder(shape, float_hook=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise msgspec.DecodeError("a number is out of range")
    return number


# Numbers become floats or integers as written. The decoder rejects NaN, 1e400, lone surrogates and
# trailing text.
_DECODER = bounded_decoder(dict[str, Any])


def parse_json(data: bytes, *, max_bytes: int) -> JsonObject:
    """Parse one JSON object.

    Args:
        data: Untrusted bytes.
        max_bytes: Longest text that is parsed.

    Returns:
        The object. No object in it repeats a member; nesting is at most MAX_NESTING.

    Raises:
        InvalidJson: The text is too long, not UTF-8, not JSON, not an object (Q35), nested too
            deeply, or repeats a member.
    """
    check_text(data, max_bytes=max_bytes)
    try:
        value: JsonObject = _DECODER.decode(data)
    except (ValueError, RecursionError) as exc:
        also = " but a list" if data.lstrip().startswith(b"[") else ""
        raise InvalidJson(f"not a JSON object{also}") from exc

    def refuse_repeat(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise InvalidJson("a JSON object repeats a member")

    # msgspec silently takes the last of several members with one name, so the text is parsed again
    # only to find them. Numbers are not converted, because the standard parser raises another error
    # for very long ones.
    json.loads(data, object_pairs_hook=refuse_repeat, parse_int=str, parse_float=str)
    return value


def shaped(
    value: Json, shape: type[Shape], *, dec_hook: Callable[[type, Any], object] | None = None
) -> Shape:
    """Convert a JSON value to a typed object.

    `dec_hook` converts types that JSON does not have.
    """
    try:
        return msgspec.convert(value, shape, dec_hook=dec_hook)
    except msgspec.ValidationError as exc:
        # msgspec's text may quote values and member names of any length, so only parts of it, which
        # are short, get into the error.
        text = str(exc)
        place = _PLACE.search(text)
        missing = _MISSING.search(text)
        expected = _EXPECTED.match(text)
        where = place[1] if place else "$"
        if missing:
            raise InvalidJson(f"{where}.{missing[1]} is missing") from None
        if expected:
            raise InvalidJson(f"{where} must be {expected[1].replace('`', '')}") from None
        wrong = "an unknown member" if "unknown field" in text else "an invalid value"
        raise InvalidJson(f"{where} has {wrong}") from None


def check_text(data: bytes, *, max_bytes: int) -> None:
    """Check the length, encoding and nesting of JSON text.

    The JSON grammar is not checked.
    """
    if len(data) > max_bytes:
        raise InvalidJson(f"the JSON text is longer than {max_bytes} bytes")
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidJson("the JSON text is not UTF-8") from exc
    # Most texts have too few brackets to be nested deeply; only the others are scanned.
    if data.count(b"[") + data.count(b"{") > MAX_NESTING and _nesting(data) > MAX_NESTING:
        raise InvalidJson(f"the JSON text is nested deeper than {MAX_NESTING} levels")


def repeats_member(data: bytes, names: frozenset[str]) -> bool:
    """Return whether a JSON object repeats one of the given keys.

    Only the top level is searched. `data` must be valid JSON.
    """
    # Fast path: without escapes, a name that is quoted once at most cannot be repeated.
    if _BACKSLASH not in data and max(map(data.count, _quoted(names))) < 2:
        return False
    outermost: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        # The parser calls this for each object when it ends. The outermost object ends last, so its
        # names replace those of all others.
        outermost[:] = [name for name, _ in pairs if name in names]

    json.loads(data, object_pairs_hook=note, parse_int=str, parse_float=str)
    return len(outermost) != len(set(outermost))


@lru_cache(maxsize=16)
def _quoted(names: frozenset[str]) -> tuple[bytes, ...]:
    return tuple(f'"{name}"'.encode() for name in names)


def _nesting(data: bytes) -> int:
    """Return the nesting depth of JSON text.

    Counting stops above MAX_NESTING.
    """
    deepest = depth = 0
    # Brackets in strings do not count, so strings are removed first.
    for byte in _STRINGS.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > deepest:
            deepest = depth
            if deepest > MAX_NESTING:
                break
    return deepest
