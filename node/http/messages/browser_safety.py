"""Protection of browsers that open a stored value as a page.

Values of `/public` and `/signed` come from their owners, but are served from the node's origin.
"""

OPAQUE = "application/octet-stream"

# Without the node's origin, a page that an owner stored cannot act as the node.
SANDBOX = {
    "Content-Security-Policy": "sandbox allow-downloads allow-forms allow-popups allow-scripts"
}

_TEXTS = frozenset({"application/json", "text/csv", "text/markdown", "text/plain"})
_OTHERS = frozenset(
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
# The only parameter allowed on text types: in another encoding, a browser may find markup in text
# that contains none.
_ENCODINGS = frozenset({"charset=utf-8", 'charset="utf-8"', "charset=us-ascii"})


def shown_type(stored: str | None) -> str:
    """Return a content type that is safe to open in a browser.

    Types that a browser executes (HTML, SVG and other XML, PDF, scripts, style sheets), that
    replace the page (`multipart/x-mixed-replace`), or that are unknown here are served as bytes.
    `/invoke` does not use this function: a browser does not open it, and clients parse what they
    stored.
    """
    if stored is None or not stored.isascii():
        return OPAQUE
    name, separator, parameter = stored.lower().partition(";")
    name = name.strip(" \t")
    has_parameter = separator != ""
    if not has_parameter:
        is_allowed = name in _TEXTS or name in _OTHERS
    else:
        is_allowed = name in _TEXTS and parameter.strip(" \t") in _ENCODINGS
    return stored if is_allowed else OPAQUE
