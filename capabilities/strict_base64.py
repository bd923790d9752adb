"""Base64 in both alphabets, strictly: exactly one text for each byte string.

Python's own decoders ignore the spare bits of the last character, so that one value would have several texts.

Example:
    key = decode_standard(member)  # None unless it is the canonical text
"""

import base64
import binascii

import libipld


def decode_standard(text: object) -> bytes | None:
    """Return the bytes of canonical standard base64 with padding; None for anything else, also for what is no text."""
    if not isinstance(text, str):
        return None
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return data if encode_standard(data) == text else None


def encode_standard(data: bytes) -> str:
    """Return standard base64 with padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_url(text: object) -> bytes | None:
    """Return the bytes of canonical base64url without padding; None for anything else, also for what is no text."""
    if not isinstance(text, str):
        return None
    try:
        data: bytes = libipld.decode_multibase("u" + text)[1]
    except ValueError:
        return None
    return data if encode_url(data) == text else None


def encode_url(data: bytes) -> str:
    """Return base64 in the URL alphabet without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
