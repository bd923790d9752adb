"""The protocol texts: links lead somewhere, ids are listed once, pages are linked from the index."""

import re
from collections import Counter
from pathlib import Path

import pytest
from tests_support import REPOSITORY

from encryption_network.gate import REASONS
from node.cli import COMMANDS, HIDDEN
from node.cli.exit_status import EXIT_STATUSES
from node.config.tree import setting_types
from node.http.routes.table import ROUTES

SPEC = REPOSITORY / "spec"
PAGES = sorted(SPEC.rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_RULE = re.compile(r"^- \*\*([A-Z]{1,2}\d+a?)\*\*", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SPEC)))
def test_links_lead_to_files(page: Path) -> None:
    """Every relative link of a page names a file or folder of the repository."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_rule_ids_stand_once() -> None:
    """No rule id introduces two rules, on one page or on two."""
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
    assert [folder.name for folder in folders if f"({folder.name}/)" not in index_text] == []


def test_no_text_awaits_another() -> None:
    """The pages hold no placeholder in capitals and no note about work to come."""
    placeholder = re.compile(r"^[A-Z_]{5,}$|\bTODO\b|\bTBD\b|\bFIXME\b", re.MULTILINE)
    assert {page.name: found for page in PAGES if (found := placeholder.findall(page.read_text("utf-8")))} == {}


def test_the_route_table_is_the_nodes() -> None:
    """wire.md lists each route of the node with its surface, in the node's order, and no other."""
    text = (SPEC / "wire.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z]+|\*) \| `([^`]+)` \| (wire|own) \|", text, re.MULTILINE)
    assert rows == [(route.method, route.path, route.surface) for route in ROUTES]


def test_every_reason_of_the_gate_is_told() -> None:
    """release.md names each code with which a release is refused, at its step."""
    table = re.findall(r"^\| \d \|.*\| ([^|]+) \|$", (SPEC / "release.md").read_text("utf-8"), re.MULTILINE)
    assert {code for cell in table for code in re.findall(r"`(\w+)`", cell)} == set(REASONS)


def test_commands_and_settings_of_the_pages_exist() -> None:
    """The pages for operators name only commands, exit statuses and settings that exist."""
    text = "\n".join(page.read_text("utf-8") for page in (SPEC / "operations").glob("*.md"))
    assert set(re.findall(r"sealspace ([a-z][a-z-]*)\b(?! =)", text)) <= COMMANDS.keys() - HIDDEN
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == {
        status.number for status in EXIT_STATUSES
    }
    sections = {name.partition(".")[0] for name in setting_types()}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.\w+)`", text))
    assert named <= setting_types().keys()
    assert len(named) > 3
