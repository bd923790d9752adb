"""Metadata of values.

A client sends metadata as HTTP headers. They are stored in the row of the value and count towards
the storage limit of the space, together with the path (M54).
"""

from collections.abc import Mapping

from ..space_errors import MetadataTooLarge

MAX_METADATA_BYTES = 16 * 1024
"""The largest size of the metadata of a value (ST6)."""
ROW_BYTES = 256
"""The size of a value's row besides path, metadata and body, rounded up.

It covers the stamp, the digest, lengths and the entry in a page.
"""
HEADER_TEXT = ("utf-8", "surrogatepass")
"""The encoding of stored paths and header values.

Bytes of header values that are not UTF-8 arrive as lone surrogates. They are stored and returned
unchanged.
"""


def encode_text(text: str) -> bytes:
    """Encode a path or a header value, which may contain lone surrogates."""
    return text.encode(*HEADER_TEXT)


def check_metadata(metadata: Mapping[str, str]) -> int:
    """Check and return the size of a value's metadata (ST6).

    Raises:
        MetadataTooLarge: more than 16 KiB.
    """
    size_bytes = metadata_bytes(metadata)
    if size_bytes > MAX_METADATA_BYTES:
        raise MetadataTooLarge(
            f"metadata may have at most {MAX_METADATA_BYTES} bytes; this has {size_bytes}"
        )
    return size_bytes


def metadata_bytes(metadata: Mapping[str, str]) -> int:
    """Return the size of a value's metadata: of all names and values."""
    size_bytes = 0
    for name, value in metadata.items():
        size_bytes += len(name)
        if value.isascii():
            size_bytes += len(value)
        else:
            size_bytes += len(value.encode(*HEADER_TEXT))
    return size_bytes


def path_bytes(path: str) -> int:
    """Return the size of a value's path, including ROW_BYTES for the rest of the row."""
    if path.isascii():
        return ROW_BYTES + len(path)
    return ROW_BYTES + len(path.encode(*HEADER_TEXT))


def row_bytes(path: str, metadata: Mapping[str, str]) -> int:
    """Return the size of a value's path and metadata (M54).

    The size includes ROW_BYTES for the rest of the row. It counts towards the storage limit.
    """
    return path_bytes(path) + metadata_bytes(metadata)
