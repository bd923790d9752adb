"""The documentation site builds, its links work, and it loads nothing from other hosts."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages.demo_cast import CAST, lines_of
from patience import PATIENCE_S
from tests_support import REPOSITORY

SETTINGS = REPOSITORY / "mkdocs.yml"
README = (REPOSITORY / "README.md").read_text("utf-8")
_OF_STYLESHEET = re.compile(r"url\(\s*[\"']?([^\"')\s]+)")


class Addresses(HTMLParser):
    """The addresses in a page: `linked` by links, `loaded` by other elements and by its script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the addresses of one element."""
        names = {value or "" for name, value in attrs if name in ("href", "src", "data", "poster")}
        (self.linked if tag == "a" else self.loaded).update(names)

    def handle_data(self, data: str) -> None:
        """Record the address of the search, which the theme passes to its script in JSON."""
        if (
            self.get_starttag_text() == '<script id="__config" type="application/json">'
            and data.startswith("{")
        ):
            config = json.loads(data)
            self.loaded |= {
                config["search"],
                config["base"].rstrip("/") + "/search/search_index.json",
            }


def missing(place: Path, page: Path, addresses: set[str]) -> set[str]:
    """Return the addresses inside the site that have no file."""
    lost = set()
    for address in addresses:
        parts = urlsplit(address)
        path = unquote(parts.path)
        target = place / path[1:] if path.startswith("/") else page.parent / path
        target = target / "index.html" if target.is_dir() else target
        if not parts.scheme and not parts.netloc and path and not target.is_file():
            lost.add(address)
    return lost


def elsewhere(addresses: set[str]) -> set[str]:
    """Return the addresses of other origins."""
    return {
        one for one in addresses if urlsplit(one).netloc or urlsplit(one).scheme not in ("", "data")
    }


def build(settings: Path, place: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(settings), "-d", str(place)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Every linked file exists, and no page loads a script, style, font or image of another
    host."""
    built = build(SETTINGS, tmp_path)
    assert built.returncode == 0, built.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text("utf-8")
        for path in tmp_path.rglob("*.html")
    }
    assert {"index.html", "docs/tutorial.html", "spec/operations/commands.html"} < set(
        pages
    ) and len(pages) > 50
    named = {tmp_path / name: Addresses(text) for name, text in pages.items()}
    every = {path: one.linked | one.loaded for path, one in named.items()}
    loaded = {path: one.loaded for path, one in named.items()}
    for path in tmp_path.rglob("*.css"):
        loaded[path] = every[path] = set(_OF_STYLESHEET.findall(path.read_text("utf-8")))
    home = {Path(urlsplit(one).path).suffix for one in loaded[tmp_path / "index.html"]}
    assert {".css", ".js", ".json", ".png", ".svg"} <= home, "the addresses of the theme are seen"
    assert {
        path: lost for path, ones in every.items() if (lost := missing(tmp_path, path, ones))
    } == {}
    assert {path: found for path, ones in loaded.items() if (found := elsewhere(ones))} == {}
    for name in (
        "sealspace.client.Client.sign_in",
        "sealspace.secrets.Secrets.put",
        "tee_backend.backend.Backend.open",
    ):
        assert f'id="{name}"' in pages["docs/reference/sdk.html"]
    # Only the extension tells mkdocs which classes are dataclasses.
    assert "doc-label-dataclass" in pages["docs/reference/sdk.html"]


@pytest.mark.slow
def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    """Broken pages, anchors and absolute paths, and pages without a link to them, fail the
    build."""
    kept = re.findall(
        r"^(?:strict|validation):.*?(?=^\S|\Z)",
        SETTINGS.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len(kept) == 2
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        "# Page\n\n[1](absent.md) [2](#no-anchor) [3](/rooted.md) [4](#page)\n"
    )
    (tmp_path / "docs" / "lonely.md").write_text("# Lonely\n")
    settings = tmp_path / "mkdocs.yml"
    heads = (
        "site_name: links\ntheme: {name: null, custom_dir: theme}\nplugins: []\nnav: [index.md]\n"
    )
    settings.write_text(heads + "".join(kept))
    (tmp_path / "theme").mkdir()
    (tmp_path / "theme" / "main.html").write_text("{{ page.content }}")
    built = build(settings, tmp_path / "site")
    assert built.returncode != 0
    assert [
        word
        for word in ("absent.md", "#no-anchor", "/rooted.md", "lonely.md")
        if word not in built.stderr
    ] == []
    assert built.stderr.count("WARNING") == 4


def test_the_readme_quotes_the_recording() -> None:
    """The recording plays, and contains each line of the demo in the README."""
    recorded = lines_of(CAST.read_text("utf-8"))
    assert recorded[-1] == "All 25 steps held."
    (excerpt,) = re.findall(r"^```text\n((?: +\d+  .*\n| {7}.*\n)+)```$", README, re.MULTILINE)
    assert [line for line in excerpt.splitlines() if line not in recorded] == []
