"""Strict base64: one text per byte string, so that a hash over the text binds the bytes."""

import base64
import binascii


def decode_standard(text: str) -> bytes | None:
    """Return the bytes of canonical standard base64 with padding; None for any other text (enc 0.4)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    # The decoder ignores the spare bits of the last character: only the one spelling that encodes back is accepted.
    return data if encode_standard(data) == text else None


def encode_standard(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def encode_url(data: bytes) -> str:
    """Return base64 in the URL alphabet without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
