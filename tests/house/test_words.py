"""Tests that no file contains private notes, machine paths or unexplained silenced checks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import PACKAGES, REPOSITORY

ROOT_FILES = (
    *(
        ".editorconfig",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
    ),
    *("Makefile", "README.md", "SECURITY.md", "mkdocs.yml", "pyproject.toml", "requirements.lock"),
)
# Files that look for such words themselves.
LOOKING = ("tests/house/test_words.py", "tests/spec/test_texts.py")

FORBIDDEN = {
    "a note to oneself": r"\b(?:TODO|FIXME|HACK|TBD)\b",
    "a folder of one machine": r"(?<![\w.}])/(?:home|root|work|Users)/\w",
    "a package index": r"https?://[^\s\"']*(?:/simple\b|pypi|registry|artifactory)|--(?:extra-)?index-url",
    "unfinished code": r"\bNotImplementedError\b",
}
_SILENCED = re.compile(
    r"# (?:noqa|type: ignore)(?P<codes>\[[a-z, -]+\]|: [A-Z]+\d+(?:, ?[A-Z]+\d+)*)?(?P<rest>.*)$"
)


def _files() -> Iterator[Path]:
    for folder in (*PACKAGES, "docs", "examples", "spec", "tests", "tools", ".github"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if (
                path.suffix in {".md", ".py", ".toml", ".yml"}
                and str(path.relative_to(REPOSITORY)) not in LOOKING
            ):
                yield path
    yield from (REPOSITORY / name for name in ROOT_FILES)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_words_that_stand_nowhere(what: str) -> None:
    """No file contains words that only its author understands."""
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in _files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line) and "no-emit-index-url" not in line
    ]
    assert found == []


def test_a_silenced_check_says_why() -> None:
    """Each silenced check names the check and gives a reason."""
    bare = []
    for folder in (*PACKAGES, "tests", "tools"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if str(path.relative_to(REPOSITORY)) in LOOKING:
                continue
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                match = _SILENCED.search(line)
                if match and not (match["codes"] and re.match(r"  # \w.{5,}", match["rest"])):
                    bare.append(f"{path.relative_to(REPOSITORY)}:{number}")
    assert bare == []
