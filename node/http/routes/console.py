"""The HTTP routes of the owner's web console.

The console is a page of static files (spec/operations/console.md).

The files are read and compressed once per process. Each is served below a digest of all files, so
modules of different versions never mix in a cache, and a change of one file changes every address.
The files are the same on every node, except that `index.html` names the origin of the node's
runner; that file is revalidated (CN6).
"""

import gzip
import html
from collections.abc import Mapping
from functools import cache

from aiohttp import web
from blake3 import blake3

from capabilities.frozen_struct import FrozenStruct

from ...console_files import TYPES, headers_with, read_files, suffix
from ...operations.values.conditions import matches_weakly
from ...refusal import Refusal
from ..messages.http_answers import PageAnswer

_DIGEST_PLACE = b"DIGEST"  # in the addresses of the two HTML files
_RUNNER_PLACE = b'<html lang="en"'  # in `index.html`; scripts read the attribute

_REVALIDATED = {"Cache-Control": "no-cache"}
_IMMUTABLE = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
}


class ConsoleFiles(FrozenStruct):
    """The files of the web console, loaded into memory."""

    digest: str
    bodies: Mapping[str, bytes]
    packed: Mapping[str, bytes]
    etag: str
    headers: Mapping[str, str]


CONSOLE = web.AppKey("console", ConsoleFiles)
"""Set if the node serves the console."""


@cache
def load_console(runner: str | None = None) -> ConsoleFiles:
    """Read the web console's files from the installed package."""
    bodies = read_files()
    over_all = blake3()
    for name, body in bodies.items():
        over_all.update(f"{name}\0{len(body)}\0".encode() + body)
    digest = over_all.hexdigest(16)
    # From here on, the two HTML files differ from those of which the digest was made.
    for name in ("index.html", "missing.html"):
        bodies[name] = bodies[name].replace(_DIGEST_PLACE, digest.encode())
    if runner is not None:
        attribute = f' data-runner="{html.escape(runner)}"'.encode()
        bodies["index.html"] = bodies["index.html"].replace(
            _RUNNER_PLACE, _RUNNER_PLACE + attribute, 1
        )
        # The runner changes the page and its ETag, but not the addresses of the other files.
        over_all.update(attribute)
    # The sign-in page of the command line signs what commands make. A node must not serve it. The
    # two HTML files are not served below the digest: their addresses stay the same.
    sent = {
        name: body
        for name, body in bodies.items()
        if not name.startswith("sign_in/") and suffix(name) != "html"
    }
    packed = {name: gzip.compress(body, mtime=0) for name, body in sent.items()}
    return ConsoleFiles(
        digest=digest,
        bodies=bodies,
        packed=packed,
        etag=f'"blake3-{over_all.hexdigest(16)}"',
        headers=headers_with(runner),
    )


async def get_console(request: web.Request) -> web.Response:
    """GET /console: return the page of the web console."""
    console = _served(request)
    headers = {"ETag": console.etag, **_REVALIDATED}
    if matches_weakly(request.headers.get("If-None-Match"), console.etag):
        return PageAnswer(b"", {**console.headers, **headers}, 304)
    return _file(console, "index.html", headers)


async def get_console_file(request: web.Request) -> web.Response:
    """GET /console/<digest>/<file>: return a file of the web console.

    Clients may cache the file for ever.
    """
    console = _served(request)
    digest, _, name = request.match_info["path"].partition("/")
    if digest == console.digest and name in console.packed:
        encodings = [
            one.strip().lower() for one in request.headers.get("Accept-Encoding", "").split(",")
        ]
        if "gzip" not in encodings:  # also for `gzip;q=…`: plain bytes suit every client
            return _file(console, name, _IMMUTABLE)
        packed = {"Content-Type": TYPES[suffix(name)], "Content-Encoding": "gzip"}
        return PageAnswer(console.packed[name], {**console.headers, **_IMMUTABLE, **packed})
    return _file(console, "missing.html", _REVALIDATED, status=404)


def _served(request: web.Request) -> ConsoleFiles:
    console = request.app.get(CONSOLE)
    if console is None:
        raise Refusal("not-found")
    return console


def _file(
    console: ConsoleFiles, name: str, headers: Mapping[str, str], *, status: int = 200
) -> web.Response:
    headers = {**console.headers, **headers, "Content-Type": TYPES[suffix(name)]}
    return PageAnswer(console.bodies[name], headers, status)
