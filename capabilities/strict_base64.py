"""Base64 in both alphabets, strictly: exactly one text for each byte string.

Python's own decoders ignore the spare bits of the last character, so that one value would have
several texts; the multibase decoder refuses them.

Example:
    key = decode_standard(member)  # None unless it is the canonical text
"""

from libipld import decode_multibase, encode_multibase


def decode_standard(text: object) -> bytes | None:
    """Return the bytes of canonical standard base64 with padding; None for anything else, also for
    what is no text."""
    return _padded("M", text)


def encode_standard(data: bytes) -> str:
    """Return standard base64 with padding."""
    return encode_multibase("M", data)[1:]


def decode_url(text: object) -> bytes | None:
    """Return the bytes of canonical base64url without padding; None for anything else, also for
    what is no text."""
    return _decoded("u", text)


def encode_url(data: bytes) -> str:
    """Return base64 in the URL alphabet without padding."""
    return encode_multibase("u", data)[1:]


def decode_padded_url(text: object) -> bytes | None:
    """Return the bytes of canonical base64url with padding; None for anything else, also for what
    is no text."""
    return _padded("U", text)


def encode_padded_url(data: bytes) -> str:
    """Return base64 in the URL alphabet with padding."""
    return encode_multibase("U", data)[1:]


def _padded(code: str, text: object) -> bytes | None:
    data = _decoded(code, text)
    # The decoder takes texts one after another, each with its padding, for one text.
    return data if data is None or encode_multibase(code, data)[1:] == text else None


def _decoded(code: str, text: object) -> bytes | None:
    """Read a text in the alphabet that a multibase code names."""
    if not isinstance(text, str):
        return None
    try:
        return decode_multibase(code + text)[1]
    except ValueError:
        return None
