"""Tests of the console at `/console/`: its files, headers and size."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from openapi_checks import openapi_mismatch
from running_node import Reply
from tests_support import REPOSITORY

from node import console_files
from node.config.checks import serves_console
from node.config.tree import Http
from node.console_files import HEADERS
from node.http.routes.console import load_console

Call = Callable[..., Awaitable[Reply]]

FOLDER = REPOSITORY / "node" / "console"
_ADDRESS = re.compile(r'"(/console/[0-9a-f]{32}/[^"]+)"')


def _addresses(index: str) -> list[str]:
    found = _ADDRESS.findall(index)
    assert len(found) >= 3
    return found


async def test_what_is_served(caller) -> None:
    """The page names its files below a digest; all files are immutable; HEAD has no body."""
    index = await caller.send("GET", "/console/")
    assert (index.status, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    same = [(await caller.send("GET", path)).body for path in ("/console", "/console/grant")]
    assert same == [index.body] * 2
    assert index.headers["cache-control"] == "no-cache"
    base = _addresses(index.text)[0].rpartition("/")[0]
    for path in [path for path in FOLDER.rglob("*.*") if path.suffix in (".js", ".css", ".svg")]:
        address = f"{base}/{path.relative_to(FOLDER)}"
        reply = await caller.send("GET", address)
        if path.parent.name == "sign_in":  # the command line serves these itself
            assert reply.status == 404
            continue
        assert (reply.status, reply.body) == (200, path.read_bytes())
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert openapi_mismatch("GET", address, reply.status, reply.headers, reply.body) == ""
    head = await caller.send("HEAD", "/console/")
    assert head.status == 200
    assert head.body == b""
    assert head.headers["content-length"] == str(len(index.body))


async def test_files_are_packed_for_who_takes_that(caller) -> None:
    """A client that accepts gzip gets it, others get plain bytes, with `Vary` for caches."""
    address = _addresses((await caller.send("GET", "/console/")).text)[-1]
    lengths = []
    for accepted, encoding in (("gzip, br", "gzip"), ("identity", None), ("gzip;q=0", None)):
        reply = await caller.send("HEAD", address, headers={"Accept-Encoding": accepted})
        assert (reply.status, reply.headers.get("content-encoding")) == (200, encoding)
        assert reply.headers["vary"] == "Accept-Encoding"
        lengths.append(int(reply.headers["content-length"]))
        whole = await caller.send("GET", address, headers={"Accept-Encoding": accepted})
        assert whole.body == (FOLDER / "app.js").read_bytes()
    assert lengths[0] < lengths[1] == lengths[2]


async def test_a_page_that_is_known(caller) -> None:
    """A matching If-None-Match is answered 304 under the same policy."""
    index = await caller.send("GET", "/console/")
    again = await caller.send("GET", "/console/", headers={"If-None-Match": index.headers["etag"]})
    assert again.status == 304
    assert again.body == b""
    assert again.headers["etag"] == index.headers["etag"]
    assert again.headers["content-security-policy"] == index.headers["content-security-policy"]


async def test_what_is_not_there(caller) -> None:
    """A wrong digest, a folder, a path traversal and an unknown file are 404 with the console's own
    page."""
    base = _addresses((await caller.send("GET", "/console/")).text)[0].rpartition("/")[0]
    assert (FOLDER / "README.md").exists()
    for path in (
        *(
            f"/console/{'0' * 32}/app.js",
            "/console/app.js",
            f"{base}/",
            base,
            f"{base}/parts",
            f"{base}/parts/",
        ),
        *(
            f"{base}/README.md",
            f"{base}/index.html",
            f"{base}/..%2f__init__.py",
            f"{base}/%2e%2e/__init__.py",
        ),
        *("/console/grants", "/console/grant/app.js"),
        *(f"{base}//app.js", f"{base}/app.js%00", f"{base}/app.js/", "/console/%0A"),
    ):
        reply = await caller.send("GET", path)
        assert reply.status == 404, path
        assert "Not found" in reply.text, path
        assert reply.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert openapi_mismatch("GET", path, reply.status, reply.headers, reply.body) == ""
    refused = await caller.send("POST", f"{base}/app.js", body=b"")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_headers_of_every_file(caller) -> None:
    """Page, files and 404 have one policy without unsafe sources or other origins (CN1)."""
    index = await caller.send("GET", "/console/")
    for path in ("/console/", *_addresses(index.text), "/console/nothing"):
        for method in ("GET", "HEAD"):
            headers = (await caller.send(method, path)).headers
            policy = dict(
                one.split(" ", 1) for one in headers["content-security-policy"].split("; ")
            )
            assert {
                name: policy[name]
                for name in ("default-src", "base-uri", "form-action", "frame-ancestors")
            } == (
                dict.fromkeys(
                    ("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"
                )
            )
            assert policy["require-trusted-types-for"] == "'script'"
            assert policy["trusted-types"] == "'none'"
            assert {sources for name, sources in policy.items() if name.endswith("-src")} == {
                "'none'",
                "'self'",
            }
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert (
                headers["cross-origin-opener-policy"]
                == headers["cross-origin-resource-policy"]
                == "same-origin"
            )
            assert headers["referrer-policy"] == "no-referrer"
            assert "camera=()" in headers["permissions-policy"]
            assert "publickey-credentials-get=(self)" in headers["permissions-policy"]
            assert headers["server"] == "sealspace"


async def test_a_runner_is_called_too(call_with: Call) -> None:
    """With a runner set, the policy and the page name it; nothing else differs (CN6)."""
    runner, plain = "https://runner.example:8443", load_console()
    index = await call_with("GET", "/console/", console_runner=runner)
    body = plain.bodies["index.html"]
    assert (
        index.body
        == body.replace(b'<html lang="en"', f'<html lang="en" data-runner="{runner}"'.encode())
        != body
    )
    assert index.headers["etag"] != plain.etag == f'"blake3-{plain.digest}"'
    policy = HEADERS["Content-Security-Policy"].replace(
        "connect-src 'self'", f"connect-src 'self' {runner}"
    )
    for reply in (index, await call_with("GET", "/console/nothing", console_runner=runner)):
        assert (
            reply.headers["content-security-policy"] == policy != HEADERS["Content-Security-Policy"]
        )
    named = load_console(runner)
    assert named.packed == plain.packed
    assert named.headers["Content-Security-Policy"] == policy
    assert load_console("https://other.example").etag not in (named.etag, plain.etag)


async def test_no_page_of_another_origin_reads_it(caller) -> None:
    """Other origins cannot read the console's files, even with CORS on (CN1)."""
    index = await caller.send("GET", "/console/", headers={"Origin": "https://page.example"})
    for path in ("/console/", *_addresses(index.text), "/console/nothing"):
        headers = (
            await caller.send("GET", path, headers={"Origin": "https://page.example"})
        ).headers
        assert not [name for name in headers if name.startswith("access-control-")]


async def test_no_script_or_style_is_inline() -> None:
    """The two pages only link to files, so the policy needs no exception (CN1)."""
    bodies = load_console().bodies
    for name in ("index.html", "missing.html"):
        text = bodies[name].decode()
        assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?:", text)
    scripts = b"".join(body for name, body in bodies.items() if name.endswith(".js"))
    assert not re.findall(
        rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts
    )


async def test_files_are_read_once(caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests read no file: the contents are those of the start."""
    monkeypatch.setattr(console_files, "files", None)
    assert (await caller.send("GET", "/console/")).status == 200


def test_a_change_changes_every_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest covers names and contents of all files."""
    digests = set()
    for name, content in (("a.js", "1"), ("a.js", "2"), ("b.js", "1")):
        folder = tmp_path / f"{name}{content}" / "console"
        folder.mkdir(parents=True)
        for page in ("index.html", "missing.html"):
            (folder / page).write_text("DIGEST")
        (folder / name).write_text(content)
        monkeypatch.setattr(console_files, "files", lambda _package, root=folder.parent: root)
        digests.add(load_console.__wrapped__().bodies["index.html"])
    assert len(digests) == 3


async def test_where_it_is_not_served(call_with: Call) -> None:
    """Without the console, its paths are 404 problems."""
    for path in ("/console", "/console/", "/console/x/app.js"):
        reply = await call_with("GET", path, console=False)
        assert (reply.status, reply.value["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("http", "is_served"),
    [
        (Http(), True),
        (Http(host="::1"), True),
        (Http(host="localhost"), True),
        (Http(console=False), False),
        (Http(host="0.0.0.0"), False),
        (Http(host="10.0.0.7"), False),
        (Http(trusted_proxies=("127.0.0.1",)), False),
        (Http(host="0.0.0.0", console=True), True),
        (Http(trusted_proxies=("127.0.0.1",), console=True), True),
    ],
)
def test_where_it_is_served(http: Http, is_served: bool) -> None:
    """By default the console is served only if the node is reachable locally alone."""
    assert serves_console(http) is is_served
