"""Messages of several byte strings, such as an HTTP request of a program.

A message is a list of parts. Each part is a length (4 bytes, little-endian as in a guest's memory)
and that many bytes. This module imports nothing of this project, because confined processes use it.
"""

import struct
from collections.abc import Iterable

MAX_MESSAGE_BYTES = 1024 * 1024
"""Longest message of a request or response, headers and body included."""
_PART = struct.Struct("<I")


def pack_parts(parts: Iterable[bytes]) -> bytes:
    """Join byte strings, each with a length prefix."""
    return b"".join(_PART.pack(len(part)) + part for part in parts)


def unpack_parts(message: bytes, most: int | None = None) -> list[bytes]:
    """Split an untrusted message into its length-prefixed parts.

    Raises ValueError if the message is malformed or has more than `most` parts.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(message) or not parts:  # an empty message is malformed, too
        if len(parts) == most:  # a megabyte of empty parts would take the runner 0.1 s
            raise ValueError("the message has too many parts")
        if len(message) - at < _PART.size:
            raise ValueError("the message ends inside the length field of a part")
        (length,) = _PART.unpack_from(message, at)
        at += _PART.size
        if length > len(message) - at:
            raise ValueError("a part of the message is longer than the message")
        parts.append(message[at : at + length])
        at += length
    return parts
