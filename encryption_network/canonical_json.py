"""Canonical JSON: the one text of a value that hashes and signatures are made over (enc 2.3).

Objects have their members sorted by Unicode code point (which is the order of their UTF-8 bytes),
there is no space between tokens, strings escape only what JSON demands and are raw UTF-8 otherwise.
For objects, arrays, strings, booleans, null and integers up to 2^53 with member names of the basic
plane this is RFC 8785; numbers are printed as they were written, so `1.0` stays `1.0` (the protocol
sends integers only).

Example:
    canonical_bytes({"b": 1, "a": [True, None]})  # b'{"a":[true,null],"b":1}'
    canonical_hash("abc")  # SHA-256 over the text with its quotes
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct, ValidationError, convert

from capabilities.strict_json import Json

from .network_errors import InvalidCanonicalJson

# Deeper values are refused on reading (serde's limit); the writer keeps the same bound so that it
# is total.
MAX_DEPTH = 128

# Made once: `json.dumps` with an option makes an encoder for each call.
_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode

# Two passes in C, for values whose text it is known to write the same way: its order of members is
# that of their UTF-8 bytes, its escapes are the shortest. It prints fractions and integers beyond
# 64 bits differently, NaN silently wrong. A subclass of `bytes` is a digest, and written as hex.
_compact: Final = msgspec.json.Encoder(order="sorted", enc_hook=bytes.hex).encode
_Leaf: TypeAlias = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | str | bool | None
_Flat: TypeAlias = _Leaf | list[_Leaf] | dict[str, _Leaf]
_Nested: TypeAlias = _Leaf | list[_Flat] | dict[str, _Flat]


class _Compact(Struct):
    """A value that nests no deeper than what the protocol writes."""

    value: _Leaf | list[_Nested] | dict[str, _Nested]


def canonical_bytes(value: Json) -> bytes:
    """Write a value as canonical JSON in UTF-8."""
    try:
        return (
            _compact(value)
            if type(value) is str or _is_compact(value)
            else _text(value, 0).encode()
        )
    except UnicodeEncodeError as exc:
        raise InvalidCanonicalJson("text is not Unicode") from exc


def canonical_members(members: Struct | Mapping[str, str | int | Sequence[str] | None]) -> bytes:
    """Write an object without inspecting its members: their types are known from its own."""
    try:
        return _compact(members)
    except UnicodeEncodeError as exc:
        raise InvalidCanonicalJson("text is not Unicode") from exc


def canonical_hash(value: Json) -> str:
    """Return the lower-case hex SHA-256 of a value's canonical JSON (a string is hashed with its
    quotes)."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def _is_compact(value: Json) -> bool:
    """Return whether a value has nothing but texts, truths, null and integers of 64 bits, in a few
    containers."""
    try:
        convert({"value": value}, _Compact)
    except ValidationError:
        return False
    return True


def _text(value: Json, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise InvalidCanonicalJson("nested too deeply")
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return (
            str(value)
            if -(1 << 63) <= value < (1 << 64)
            else _float_text(float(value) if abs(value) < 1 << 1023 else math.inf)
        )
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, list):
        return "[" + ",".join(_text(item, depth + 1) for item in value) + "]"
    members = (f"{_quoted(name)}:{_text(value[name], depth + 1)}" for name in sorted(value))
    return "{" + ",".join(members) + "}"


def _float_text(number: float) -> str:
    """Print the shortest decimal as clients do: plain from 1e-5 up to 1e16, `1.5e-7` and `1e20`
    outside."""
    if not math.isfinite(number):
        raise InvalidCanonicalJson("number is not finite")
    text = repr(number)
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    if int(exponent) == -5:
        sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{mantissa}e{int(exponent)}"
