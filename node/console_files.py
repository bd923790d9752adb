"""The web console's files and their response headers.

Example:
    read_files()["style.css"]
"""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""The content type for each file suffix; files with other suffixes are not served."""

# Against cross-site scripting (CN1): no inline script or style, no other origin, and trusted types
# so that text never becomes script. Users' values share this origin, but are served sandboxed and
# without a script type (wire 5.10), so `'self'` covers the console's files only.
_CONNECT = "connect-src 'self'"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        _CONNECT,
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
# Features that the console does not use are denied to its pages. Browsers print a warning for each
# name that they do not know, such as `bluetooth` or `web-share`.
_FEATURES = (
    "clipboard-write=(self), publickey-credentials-create=(self),"
    " publickey-credentials-get=(self), accelerometer=(), autoplay=(), camera=(),"
    " clipboard-read=(), display-capture=(), fullscreen=(), geolocation=(), gyroscope=(),"
    " hid=(), identity-credentials-get=(), magnetometer=(), microphone=(), midi=(), payment=(),"
    " screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": _FEATURES,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Extra headers for every response that serves a console file."""


def headers_with(runner: str | None) -> Mapping[str, str]:
    """Return the web console's response headers.

    The content security policy also allows requests to the runner's origin.

    Args:
        runner: the runner's origin, already validated by `config.checks`; None adds nothing.
    """
    if runner is None:
        return HEADERS
    # the page may send requests to the runner, but loads no script, style or image from it (CN6)
    return {
        **HEADERS,
        "Content-Security-Policy": _POLICY.replace(_CONNECT, f"{_CONNECT} {runner}"),
    }


def read_files() -> dict[str, bytes]:
    """Return the contents of all web console files by relative path."""
    return dict(sorted(_read(files("node").joinpath("console"), "").items()))


def suffix(name: str) -> str:
    """Return the part of a file name after its last dot."""
    return name.rpartition(".")[2]


def _read(folder: Traversable, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif suffix(entry.name) in TYPES:
            found[prefix + entry.name] = entry.read_bytes()
    return found
