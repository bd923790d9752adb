"""Standard base64 with padding, one text for each byte string."""

import base64
import binascii


def encode(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode(text: object) -> bytes | None:
    """Return the bytes of canonical standard base64 with padding; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    # The decoder ignores spare bits of the last character; only the spelling that encodes back counts.
    return data if encode(data) == text else None
