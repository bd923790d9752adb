"""Tests that each section, rule, table row and file cited anywhere exists in spec/."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests_support import REPOSITORY

SPEC = REPOSITORY / "spec"
FOLDERS = (
    "capabilities",
    "door",
    "encryption_network",
    "node",
    "runner",
    "sealspace",
    "serving",
    "spaces",
    "spec",
    "tee_backend",
    "tests",
    "tools",
)
ROOT_FILES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
)

# Short names of pages: the two pages of the wire protocol count on (spec/README.md).
PAGES = {
    "wire": ("capabilities", "wire"),
    "enc": ("encryption",),
    **{
        page.stem: (page.stem,) for page in SPEC.glob("*.md") if page.stem not in ("README", "wire")
    },
}

_NUMBER = r"\d+(?:\.\d+)*"
_PAGE = rf"(?<![\w-])(?:(wire|enc) §?|({'|'.join(PAGES)})(?:\.md\)?)? §)"
# `wire 4.4.5`, `enc 2.5, 2.6, 2.8`, `store §3`, `[store.md](store.md) §6`, `wire §4.1 to §4.3`
_CITATION = re.compile(rf"{_PAGE}({_NUMBER}(?:(?:,| to| and) §?{_NUMBER})*)(?![\w%/])")
_HEADING = re.compile(rf"^#+ ({_NUMBER})(?: to ({_NUMBER}))?[. ]", re.MULTILINE)
_OWN = "EN|AT|RC|RL|RN|IP|ST|MF|MT|BK|DS|SM|RV|SH|SQ|TG|TK"
_RULE = re.compile(rf"(?<![\w-])((?:{_OWN})\d+|Q\d+|enc-[WD]\d+)(?![\w.-])")
_RULE_STANDS = re.compile(rf"^(?:- \*\*|\| )((?:{_OWN})\d+|Q\d+|enc-[WD]\d+)\b", re.MULTILINE)
_MARKDOWN = re.compile(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.md)\b")

# Documents that nobody who has the repository can open.
_ELSEWHERE = re.compile(
    r"\barchitecture(?:\.md)?"
    r" (?:§|page)|\b(?:wire-node|tdx-attestation|encryption-and-secrets|style-models)\b"
    r"|\b(?:libraries|packaging) §|\bdossiers?\b|\bthe (?:peer|reference|Rust)(?:'s|"
    r" (?:node|server|implementation))"
    r"|\breference's\b",
    re.IGNORECASE,
)


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in {".md", ".py"} and path != Path(__file__).resolve():
                yield path
    yield from (REPOSITORY / name for name in ROOT_FILES)


@cache
def _texts() -> dict[str, str]:
    return {str(path.relative_to(REPOSITORY)): path.read_text("utf-8") for path in _files()}


@cache
def _sections(page: str) -> frozenset[str]:
    """Return every number that a page has a heading for; `4.6 to 4.9` counts as four."""
    found: set[str] = set()
    for first, last in _HEADING.findall((SPEC / f"{page}.md").read_text("utf-8")):
        found.add(first)
        if last:
            stem, _, low = first.rpartition(".")
            found |= {
                f"{stem}.{number}" for number in range(int(low), int(last.rpartition(".")[2]) + 1)
            }
    return frozenset(found)


def _cited_sections(text: str) -> Iterator[tuple[str, str]]:
    for match in _CITATION.finditer(text):
        page = match[1] or match[2]
        yield from ((page, number) for number in re.findall(_NUMBER, match[3]))


def test_the_pages_have_sections() -> None:
    """Each page that is cited by section has headings that the test finds."""
    assert all(_sections(page) for pages in PAGES.values() for page in pages)
    assert {"4.4.5", "4.8", "9.2", "0"} <= _sections("wire")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(enc 2.5, 2.7; wire 4.8).", [("enc", "2.5"), ("enc", "2.7"), ("wire", "4.8")]),
        ("wire §4.1 to §4.3", [("wire", "4.1"), ("wire", "4.3")]),
        ("[store.md](store.md) §6", [("store", "6")]),
        ("release 2 and store 3, wire 2nd", []),
    ],
)
def test_citations_are_recognised(text: str, expected: list[tuple[str, str]]) -> None:
    """A section is cited by the short name of its page and a number."""
    assert expected == list(_cited_sections(text))


def test_cited_sections_stand() -> None:
    """Each cited section has a heading on its page."""
    missing = {
        f"{name}: {page} {number}"
        for name, text in _texts().items()
        for page, number in _cited_sections(text)
        if not any(number in _sections(one) for one in PAGES[page])
    }
    assert sorted(missing) == []


def test_cited_rules_stand() -> None:
    """Each cited rule, decision and weak point is on a page."""
    pages = {name: text for name, text in _texts().items() if name.startswith("spec/")}
    known = {rule for text in pages.values() for rule in _RULE_STANDS.findall(text)}
    missing = {
        f"{name}: {rule}"
        for name, text in _texts().items()
        for rule in _RULE.findall(text)
        if rule not in known
    }
    assert sorted(missing) == []


def test_cited_files_stand() -> None:
    """Each Markdown file that a page names exists, relative to the root or to the page."""
    missing = set()
    for name, text in _texts().items():
        for cited in _MARKDOWN.findall(text):
            if name.startswith(("tests/", "tools/")) and not cited.startswith("spec/"):
                continue  # a file of the test's own
            places = (REPOSITORY / cited, SPEC / cited, REPOSITORY / Path(name).parent / cited)
            if not any(place.exists() for place in places):
                missing.add(f"{name}: {cited}")
    assert sorted(missing) == []


def test_nothing_cites_documents_from_elsewhere() -> None:
    """The project's texts cite only documents in spec/."""
    found = {
        f"{name}: {match[0]}"
        for name, text in _texts().items()
        for match in _ELSEWHERE.finditer(text)
    }
    assert sorted(found) == []
