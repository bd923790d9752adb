"""Tests of the protocol pages: links, rule ids and the index."""

import re
from collections import Counter
from pathlib import Path

from tests_support import REPOSITORY

from encryption_network.grounds import REASONS
from node.config.tree import setting_types
from node.http.routes.route_table import ROUTES
from sealspace.cli.exit_status import EXIT_STATUSES
from sealspace.cli.root import COMMANDS

SPEC = REPOSITORY / "spec"
PAGES = sorted(SPEC.rglob("*.md"))
OTHERS = ("*.md", ".github/**/*.md", "tests/**/*.md", "docs/**/*.md", "examples/**/*.md")
EVERY_PAGE = [*PAGES, *[page for others in OTHERS for page in sorted(REPOSITORY.glob(others))]]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_RULE = re.compile(r"^- \*\*([A-Z]{1,2}\d+a?)\*\*", re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Return the anchors that a forge makes of a page's headings: lower case, no punctuation,
    hyphens for blanks."""
    counts: Counter[str] = Counter()
    found = set()
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in _HEADING.findall(text):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


def _is_dead(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    return not target.exists() or (bool(anchor) and anchor not in _anchors(target))


def test_links_lead_somewhere() -> None:
    """Every relative link of a page leads to an existing file and heading."""
    links = [
        (page, link)
        for page in EVERY_PAGE
        for link in _LINK.findall(_CODE.sub("", page.read_text("utf-8")))
    ]
    assert len(links) > 200
    dead = [(page, link) for page, link in links if "://" not in link and _is_dead(page, link)]
    assert [f"{page.relative_to(REPOSITORY)}: {link}" for page, link in dead] == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    """The link check reports a link to a missing file or heading."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n## 1. What `it` is\n\n```\n# no heading\n```\n\n## Again\n\n## Again\n"
    )
    alive = ["page.md", "#1-what-it-is", "page.md#a-page", "#again-1"]
    dead = ["absent.md", "#no-heading", "page.md#absent", "#again-2"]
    assert [link for link in alive + dead if _is_dead(page, link)] == dead


def test_rule_ids_stand_once() -> None:
    """Each rule id introduces only one rule on all pages."""
    counts = Counter(rule for page in PAGES for rule in _RULE.findall(page.read_text("utf-8")))
    assert {rule: count for rule, count in counts.items() if count > 1} == {}


def test_every_page_is_linked() -> None:
    """Each page can be reached from a README of its own folder, and each folder from the index."""
    for page in PAGES:
        index = page.parent / "README.md"
        if page.name == "README.md" or not index.exists():
            continue
        assert f"({page.name})" in index.read_text("utf-8"), page
    folders = [folder for folder in sorted(SPEC.iterdir()) if folder.is_dir()]
    index_text = (SPEC / "README.md").read_text("utf-8")
    assert [
        folder.name for folder in folders if f"({folder.name}/README.md)" not in index_text
    ] == []


def test_the_route_table_is_the_nodes() -> None:
    """The page wire.md lists exactly the node's routes, in the node's order."""
    text = (SPEC / "wire.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z]+|\*) \| `([^`]+)` \| (wire|own) \|", text, re.MULTILINE)
    assert rows == [(route.method, route.path, route.surface) for route in ROUTES]


def test_every_reason_of_the_gate_is_reported() -> None:
    """The page release.md names each refusal code of a release at its step."""
    table = re.findall(
        r"^\| \d \|.*\| ([^|]+) \|$", (SPEC / "release.md").read_text("utf-8"), re.MULTILINE
    )
    assert {code for cell in table for code in re.findall(r"`(\w+)`", cell)} == set(REASONS)


def test_commands_and_settings_of_the_pages_exist() -> None:
    """The pages for operators name only commands, exit statuses and settings that exist."""
    text = "\n".join(page.read_text("utf-8") for page in (SPEC / "operations").glob("*.md"))
    assert set(re.findall(r"sealspace ([a-z][a-z-]*)\b(?! =)", text)) <= COMMANDS.keys()
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(
        EXIT_STATUSES
    )
    sections = {name.partition(".")[0] for name in setting_types()}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.\w+)`", text))
    assert named <= setting_types().keys()
    assert len(named) > 3
