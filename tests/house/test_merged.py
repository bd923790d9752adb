"""Test that no file contains the markers of an unfinished merge."""

import re

from tests_support import PACKAGES, REPOSITORY

MARK = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)
KINDS = {".css", ".html", ".js", ".json", ".md", ".py", ".toml", ".wat", ".wit", ".yml"}


def test_no_file_has_the_marks_of_a_conflict() -> None:
    """No file contains the markers of a merge conflict."""
    folders = [REPOSITORY / name for name in (*PACKAGES, "docs", "examples", "spec", "tests")]
    found = [path for folder in folders for path in folder.rglob("*")] + list(REPOSITORY.glob("*"))
    files = [path for path in found if path.suffix in KINDS and path.is_file()]
    assert len(files) > 500
    assert [path.name for path in files if MARK.search(path.read_bytes())] == []
