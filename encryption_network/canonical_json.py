"""Canonical JSON for hashing and signing (enc 2.3).

Members are sorted by Unicode code point, which is the order of their UTF-8 bytes. There is no space
between tokens. Strings are raw UTF-8 and escape only the characters that JSON requires.

For strings, booleans, null, integers up to 2^53, and arrays and objects of them with member names
in the Basic Multilingual Plane, this is RFC 8785. Numbers are printed as they were written, so
`1.0` stays `1.0`; the protocol sends integers only.

Example:
    canonical_bytes({"b": 1, "a": [True, None]})  # b'{"a":[true,null],"b":1}'
    canonical_hash("abc")  # SHA-256 over the text with its quotes
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, ValidationError, convert

from capabilities.strict_json import Json

from .network_errors import InvalidCanonicalJson

# Parsers of the protocol reject deeper values (serde's limit), so the writer rejects them too.
MAX_DEPTH = 128

# Created once, because `json.dumps` with options creates an encoder at each call.
_quoted = json.JSONEncoder(ensure_ascii=False).encode

# A fast path in C for values that msgspec writes in canonical form: it sorts members by their UTF-8
# bytes and uses the shortest escapes. It prints fractions and integers above 64 bits differently,
# and NaN as null, so those take the slow path. A subclass of `bytes` is a digest, written as hex.
_compact = msgspec.json.Encoder(order="sorted", enc_hook=bytes.hex).encode
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Leaf = Int64 | str | bool | None
_Flat = _Leaf | list[_Leaf] | dict[str, _Leaf]
_Nested = _Leaf | list[_Flat] | dict[str, _Flat]


class _Compact(Struct):
    """A JSON value that msgspec encodes in canonical form."""

    value: _Leaf | list[_Nested] | dict[str, _Nested]


def canonical_bytes(value: Json) -> bytes:
    """Encode a value as canonical JSON in UTF-8."""
    try:
        if _is_compact(value):
            return _compact(value)
        return _text(value, 0).encode()
    except UnicodeEncodeError as exc:
        raise InvalidCanonicalJson("text is not Unicode") from exc


def _is_compact(value: Json) -> bool:
    """Return whether msgspec encodes a value in canonical form."""
    if type(value) is str:
        return True
    try:
        convert({"value": value}, _Compact)
    except ValidationError:
        return False
    return True


def canonical_members(members: Struct | Mapping[str, object]) -> bytes:
    """Encode an object as canonical JSON without type checks.

    Its members must be of types that msgspec encodes in canonical form.
    """
    try:
        return _compact(members)
    except UnicodeEncodeError as exc:
        raise InvalidCanonicalJson("text is not Unicode") from exc


def canonical_hash(value: Json) -> str:
    """Return the hex SHA-256 of a value's canonical JSON.

    A string is hashed with its quotes.
    """
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def _text(value: Json, depth: int) -> str:
    """Return the canonical JSON of a value that is nested in `depth` arrays and objects."""
    if depth > MAX_DEPTH:
        raise InvalidCanonicalJson("nested too deeply")
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer_text(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, list):
        return "[" + ",".join(_text(item, depth + 1) for item in value) + "]"
    members = (f"{_quoted(name)}:{_text(value[name], depth + 1)}" for name in sorted(value))
    return "{" + ",".join(members) + "}"


def _integer_text(number: int) -> str:
    """Return an integer's digits, or its form as a float if it has more than 64 bits."""
    if -(1 << 63) <= number < (1 << 64):
        return str(number)
    if abs(number) >= 1 << 1023:
        raise InvalidCanonicalJson("number is not finite")
    return _float_text(float(number))


def _float_text(number: float) -> str:
    """Return the shortest decimal form of a number.

    The notation is the one that clients use: plain from 1e-5 to 1e16, otherwise with an exponent.
    """
    if not math.isfinite(number):
        raise InvalidCanonicalJson("number is not finite")
    text = repr(number)
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    if int(exponent) == -5:
        # `repr` uses the exponent from here on downwards, clients only below 1e-5.
        sign = "-" if number < 0 else ""
        digits = mantissa.removeprefix("-").replace(".", "")
        return f"{sign}0.0000{digits}"
    return f"{mantissa}e{int(exponent)}"
