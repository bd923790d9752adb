"""tests/README.md names every folder of tests, and no other."""

import re

from tests_support import REPOSITORY

TESTS = REPOSITORY / "tests"
INDEX = (TESTS / "README.md").read_text("utf-8")


def test_folders() -> None:
    """A folder mirrors a package, or the index says what it is for."""
    mirroring, _, others = INDEX.partition("### Folders that mirror no package")
    folders = {
        path.relative_to(TESTS).parts[0] for path in TESTS.rglob("*.py") if path.parent != TESTS
    }
    packages = {name for name in folders if (REPOSITORY / name / "__init__.py").is_file()}
    assert all(f"`{name}`" in mirroring for name in packages)
    table = others.partition("\n###")[0]
    assert sorted(folders - packages) == re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
