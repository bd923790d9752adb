"""GET /console: the console, a page for owners, as static files (spec/operations/console.md).

The files are read once, when the application is made. Each is served below a digest of all of them: relative imports
between modules fit together, whatever a cache keeps, and a change of one file changes every address. Nothing in them
depends on this node.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web
from blake3 import blake3

from ..messages.answers import PageAnswer
from ..messages.pages import NotFound
from ..messages.partial import matches_weakly

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""What is served of the folder, by suffix; everything else in it is not."""

_DIGEST_PLACE: Final = b"DIGEST"  # in the addresses of the two HTML files

# CN1. No inline script or style, no other origin, no sink that would make script out of text. Values of this origin
# that a browser may open have no script type and a sandbox of their own (wire 5.10), so `'self'` is these files.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_NEEDED_FEATURES: Final = ("clipboard-write", "publickey-credentials-create", "publickey-credentials-get")
_OTHER_FEATURES: Final = (
    *("accelerometer", "autoplay", "bluetooth", "camera", "clipboard-read", "display-capture", "fullscreen"),
    *("geolocation", "gyroscope", "hid", "identity-credentials-get", "magnetometer", "microphone", "midi", "payment"),
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

_REVALIDATED: Final = {"Cache-Control": "no-cache"}
_IMMUTABLE: Final = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class ConsoleFiles:
    """The files of the console, in memory.

    Attributes:
        digest: BLAKE3 of all names and contents, 32 hexadecimal digits.
        bodies: contents by path, `index.html` and `missing.html` among them.
        packed: the same as gzip, of what is sent under an address of its own.
    """

    digest: str
    bodies: Mapping[str, bytes]
    packed: Mapping[str, bytes]

    @property
    def etag(self) -> str:
        """The entity tag of `index.html`."""
        return f'"blake3-{self.digest}"'


CONSOLE: Final[web.AppKey[ConsoleFiles]] = web.AppKey("console", ConsoleFiles)
"""Set where the node serves the console."""


def load_console() -> ConsoleFiles:
    """Read the files of the console out of the distribution."""
    bodies = dict(sorted(_read(files("node").joinpath("console"), "").items()))
    over_all = blake3()
    for name, body in bodies.items():
        over_all.update(f"{name}\0{len(body)}\0".encode() + body)
    digest = over_all.hexdigest(16)
    for name in ("index.html", "missing.html"):
        bodies[name] = bodies[name].replace(_DIGEST_PLACE, digest.encode())
    packed = {name: gzip.compress(body, mtime=0) for name, body in bodies.items() if _suffix(name) != "html"}
    return ConsoleFiles(digest, bodies, packed)


def _read(folder: Traversable, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in _TYPES:
            found[prefix + entry.name] = entry.read_bytes()
    return found


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


async def get_console(request: web.Request) -> web.Response:
    """GET /console: the page that loads the console."""
    console = _served(request)
    headers = {"ETag": console.etag, **_REVALIDATED}
    if matches_weakly(request.headers.get("If-None-Match"), console.etag):
        return PageAnswer(b"", {**HEADERS, **headers}, 304)
    return _file(console, "index.html", headers)


async def get_console_file(request: web.Request) -> web.Response:
    """GET /console/<digest>/<file>: a file of the console, whose contents never change."""
    console = _served(request)
    digest, _, name = request.match_info["path"].partition("/")
    if digest == console.digest and name in console.packed:
        return _packed_file(console, name) if _takes_gzip(request) else _file(console, name, _IMMUTABLE)
    return _file(console, "missing.html", _REVALIDATED, status=404)


def _served(request: web.Request) -> ConsoleFiles:
    console = request.app.get(CONSOLE)
    if console is None:
        raise NotFound
    return console


def _file(console: ConsoleFiles, name: str, headers: Mapping[str, str], *, status: int = 200) -> web.Response:
    return PageAnswer(console.bodies[name], {**HEADERS, **headers, "Content-Type": _TYPES[_suffix(name)]}, status)


def _packed_file(console: ConsoleFiles, name: str) -> web.Response:
    headers = {**HEADERS, **_IMMUTABLE, "Content-Type": _TYPES[_suffix(name)], "Content-Encoding": "gzip"}
    return PageAnswer(console.packed[name], headers)


def _takes_gzip(request: web.Request) -> bool:
    """Return whether a client takes gzip as readily as anything; one that states a preference gets plain bytes."""
    return any(one.strip().lower() == "gzip" for one in request.headers.get("Accept-Encoding", "").split(","))
