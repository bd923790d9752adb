"""Strict base64, in both alphabets: exactly one spelling for each value."""

import base64
import binascii

import libipld


def decode_standard(text: str) -> bytes | None:
    """Return the bytes of canonical standard base64 with padding; None for any other text."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def decode_url(text: str) -> bytes | None:
    """Return the bytes of canonical base64url without padding; None for any other text."""
    try:
        data: bytes = libipld.decode_multibase("u" + text)[1]
    except ValueError:
        return None
    spelling: str = libipld.encode_multibase("u", data)
    return data if spelling == "u" + text else None
