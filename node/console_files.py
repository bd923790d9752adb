"""The files of the console as they are in the distribution, and the headers with which a browser
gets them.

Example:
    read_files()["style.css"]
"""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""What is served of the folder, by suffix; everything else in it is not."""

# CN1. No inline script or style, no other origin, no sink that would make script out of text.
# Values of a node's origin that a browser may open have no script type and a sandbox of their own
# (wire 5.10), so `'self'` is these files.
_CONNECT: Final = "connect-src 'self'"
_POLICY: Final = "; ".join(
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
_NEEDED_FEATURES: Final = (
    "clipboard-write",
    "publickey-credentials-create",
    "publickey-credentials-get",
)
_OTHER_FEATURES: Final = (
    *(
        "accelerometer",
        "autoplay",
        "bluetooth",
        "camera",
        "clipboard-read",
        "display-capture",
        "fullscreen",
    ),
    *(
        "geolocation",
        "gyroscope",
        "hid",
        "identity-credentials-get",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
    ),
    *("screen-wake-lock", "serial", "usb", "web-share", "xr-spatial-tracking"),
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        [f"{name}=(self)" for name in _NEEDED_FEATURES] + [f"{name}=()" for name in _OTHER_FEATURES]
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""On every answer with a file of the console, over what all answers have."""


def headers_with(runner: str | None) -> Mapping[str, str]:
    """Return the same headers where the console may call a runner too.

    Args:
        runner: an origin that `config.checks` has let through; None: there is none.
    """
    if runner is None:
        return HEADERS
    # CN6: requests alone, no script, style or picture
    policy = _POLICY.replace(_CONNECT, f"{_CONNECT} {runner}")
    return {**HEADERS, "Content-Security-Policy": policy}


def read_files() -> dict[str, bytes]:
    """Return the contents of each file by its path below the folder, in the order of the paths."""
    return dict(sorted(_read(files("node").joinpath("console"), "").items()))


def suffix(name: str) -> str:
    """Return what follows the last full stop of a name."""
    return name.rpartition(".")[2]


def _read(folder: Traversable, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif suffix(entry.name) in TYPES:
            found[prefix + entry.name] = entry.read_bytes()
    return found
