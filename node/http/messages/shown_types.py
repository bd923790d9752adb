"""Content types under which a value is shown to a browser that opens its address: no other type may become a page.

A value of `/public` and `/signed` is whatever its owner stored, and its address has the node's origin. A type that a
browser runs (HTML, SVG and every other XML, PDF, scripts, style sheets), that replaces what is shown part by part
(`multipart/x-mixed-replace`), or that is not known here is answered as bytes. On `/invoke` nothing is changed: a
browser does not open that address, and clients parse what they stored.

Example:
    shown_type("text/html")  # "application/octet-stream"
"""

from typing import Final

OPAQUE: Final = "application/octet-stream"
CONTENT_TYPE: Final = "content-type"

_TEXTS: Final = frozenset({"application/json", "text/csv", "text/markdown", "text/plain"})
_OTHERS: Final = frozenset(
    {
        OPAQUE,
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
        "video/ogg",
        "video/webm",
    }
)
# Of texts only this parameter: in other encodings a browser may read markup where none was written.
_ENCODINGS: Final = frozenset({"charset=utf-8", 'charset="utf-8"', "charset=us-ascii"})


def shown_type(stored: str | None) -> str:
    """Return the content type that an answer to a browser has.

    Args:
        stored: what the value's owner wrote, untrusted; None: nothing.
    """
    if stored is None or not stored.isascii():
        return OPAQUE
    name, separator, parameter = stored.lower().partition(";")
    name = name.strip(" \t")
    is_allowed = name in _TEXTS or (name in _OTHERS and not separator)
    if is_allowed and (not separator or parameter.strip(" \t") in _ENCODINGS):
        return stored
    return OPAQUE
