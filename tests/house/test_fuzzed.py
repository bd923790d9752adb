"""Every function that reads bytes, texts or JSON has a fuzz test."""

import ast
import re
from pathlib import Path

import pytest
from tests_support import PACKAGES, REPOSITORY

_READER = re.compile(r"^(?:parse|decode|restore|recover)_")

# reader -> why no fuzz test names it
NOT_FUZZED: dict[str, str] = {}


def _readers() -> set[str]:
    """Return the names of all functions that read bytes, texts or JSON."""
    names = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and _READER.match(node.name):
                    names.add(node.name)
    return names


def _names(path: Path) -> set[str]:
    """Return every name that a file uses if it has a test with `fuzz` in its name."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if not any(
        node.name.startswith("test_") and "fuzz" in path.stem + node.name for node in functions
    ):
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.slow
def test_every_reader_is_fuzzed() -> None:
    """A reader without a fuzz test needs an exception with a reason, and a needless exception
    fails."""
    fuzzed = {name for path in (REPOSITORY / "tests").rglob("test_*.py") for name in _names(path)}
    readers = _readers()
    assert len(readers) > 40
    assert sorted(readers - fuzzed - NOT_FUZZED.keys()) == []
    assert sorted(NOT_FUZZED.keys() - (readers - fuzzed)) == []
    assert all(NOT_FUZZED.values())
