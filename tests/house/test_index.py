"""tests/README.md names every folder of tests, every helper and every file of attacks, and no other."""

import re
from pathlib import Path

from tests_support import REPOSITORY

TESTS = REPOSITORY / "tests"
INDEX = (TESTS / "README.md").read_text("utf-8")


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    (text,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", INDEX, re.MULTILINE | re.DOTALL)
    return str(text)


def listed(text: str) -> list[str]:
    """Return what stands first in the rows of a table."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def modules(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob(pattern))


def test_folders() -> None:
    """A folder mirrors a package, or the index says what it is for."""
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("*.py") if path.parent != TESTS}
    packages = {name for name in folders if (REPOSITORY / name / "__init__.py").is_file()}
    assert sorted(folders - packages) == listed(section("Folders that mirror no package"))
    assert all(f"`{name}`" in section("Which folder to open") for name in packages)


def test_helpers() -> None:
    """Each helper has a line."""
    assert modules(TESTS / "support", "*.py") == listed(section("Helpers"))


def test_attacks() -> None:
    """Each file of attacks is named once."""
    named = re.findall(r"`((?:inside/)?test_\w+)`", section("Attacks"))
    assert modules(TESTS / "attacks", "test_*.py") == sorted(named)


def test_length() -> None:
    """No file of tests is longer than 600 lines."""
    lines = {str(path.relative_to(TESTS)): path.read_text("utf-8").count("\n") for path in TESTS.rglob("test_*.py")}
    assert [] == [path for path, number in lines.items() if number > 600]
