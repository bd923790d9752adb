"""Strict base64, in which each byte string has one encoding.

Python's own decoders ignore the spare bits of the last character, so that one value would have
several texts. The multibase decoder rejects them.

Example:
    key = decode_standard(member)  # None unless it is the canonical text
"""

from libipld import decode_multibase, encode_multibase


def decode_standard(text: object) -> bytes | None:
    """Decode standard base64, or return None if it is not canonical.

    The padding must be present.
    """
    return _padded("M", text)


def encode_standard(data: bytes) -> str:
    """Encode bytes as standard base64 with padding."""
    return encode_multibase("M", data)[1:]


def decode_url(text: object) -> bytes | None:
    """Decode unpadded base64url, or return None if it is not canonical."""
    return _decoded("u", text)


def encode_url(data: bytes) -> str:
    """Encode bytes as base64url without padding."""
    return encode_multibase("u", data)[1:]


def decode_padded_url(text: object) -> bytes | None:
    """Decode padded base64url, or return None if it is not canonical."""
    return _padded("U", text)


def encode_padded_url(data: bytes) -> str:
    """Encode bytes as base64url with padding."""
    return encode_multibase("U", data)[1:]


def _padded(code: str, text: object) -> bytes | None:
    data = _decoded(code, text)
    # The decoder also accepts several padded texts in a row, so the result is encoded and compared.
    return data if data is None or encode_multibase(code, data)[1:] == text else None


def _decoded(code: str, text: object) -> bytes | None:
    """Decode base64 in the alphabet of a multibase code."""
    if not isinstance(text, str):
        return None
    try:
        return decode_multibase(code + text)[1]
    except ValueError:
        return None
