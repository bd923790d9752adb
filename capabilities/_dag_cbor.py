"""Canonical DAG-CBOR of the values in a CACAO: maps with text keys, arrays, texts, byte strings, small numbers, null.

Every length and number is written in the fewest bytes, map keys are sorted by length and then by bytes. There are no
tags: a byte string stays a byte string, whatever its contents. (A general encoder that treats one that parses as a CID
as a link encodes one signature in 1,300 as something else.)

Example:
    encode({"s": signature, "t": "eip191"})
"""

from typing import Final

_NUMBER: Final = 0x00
_BYTES: Final = 0x40
_TEXT: Final = 0x60
_ARRAY: Final = 0x80
_MAP: Final = 0xA0
_NULL: Final = b"\xf6"


def encode(value: object) -> bytes:
    """Return the canonical bytes of a value.

    Args:
        value: dict with str keys, list, str, bytes, int from 0 to 2^32 - 1, or None; nested no deeper than a CACAO is.

    Raises:
        ValueError: A value or key of another type or range, or a text that is not valid Unicode (UnicodeEncodeError).
    """
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, dict):
        # Encoded text keys sort by length first, because their encoding begins with the length.
        members = sorted([(_key(key), encode(member)) for key, member in value.items()])
        return _head(_MAP, len(members)) + b"".join([key + member for key, member in members])
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
    if value is None:
        return _NULL
    if type(value) is int:  # not a bool
        return _head(_NUMBER, value)
    raise ValueError(f"{type(value).__name__} has no place in a CACAO")


def _key(key: object) -> bytes:
    if not isinstance(key, str):
        raise ValueError("a map key of a CACAO is text")
    return encode(key)


def _head(major: int, number: int) -> bytes:
    """Return the major type with a length or a number, in the fewest bytes."""
    if not 0 <= number < 1 << 32:
        raise ValueError("number out of range")
    if number < 24:
        return bytes((major | number,))
    if number < 1 << 8:
        return bytes((major | 24, number))
    if number < 1 << 16:
        return bytes((major | 25,)) + number.to_bytes(2, "big")
    return bytes((major | 26,)) + number.to_bytes(4, "big")
