"""Every function that reads bytes, texts or JSON has a fuzz test."""

import ast
import re
from pathlib import Path

import pytest
from tests_support import PACKAGES, REPOSITORY

_READER = re.compile(r"^(?:parse|decode|restore|recover)_")

OWN_TESTS = REPOSITORY / "tests" / "fuzzing" / "own_tests.py"

# reader, as `module.function` -> why no fuzz test names it
NOT_FUZZED: dict[str, str] = {}


def _readers() -> set[str]:
    """Return all functions that read bytes, texts or JSON, as `module.function`."""
    names = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and _READER.match(node.name):
                    names.add(f"{module}.{node.name}")
    return names


def _names(path: Path) -> set[str]:
    """Return what a file with fuzz tests imports and uses, as `module.name`.

    Functions of several modules have the same name, so a name alone would not say which is fuzzed.
    """
    tree = ast.parse(path.read_text("utf-8"))
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if path != OWN_TESTS and not any(
        node.name.startswith("test_") and "fuzz" in path.stem + node.name for node in functions
    ):
        return set()
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return {
        f"{node.module}.{one.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for one in node.names
        if (one.asname or one.name) in used
    }


@pytest.mark.slow
def test_every_reader_is_fuzzed() -> None:
    """A reader without a fuzz test needs an exception with a reason, and a needless exception
    fails."""
    files = [*(REPOSITORY / "tests").rglob("test_*.py"), OWN_TESTS]
    fuzzed = {name for path in files for name in _names(path)}
    readers = _readers()
    assert len(readers) > 40
    assert sorted(readers - fuzzed - NOT_FUZZED.keys()) == []
    assert sorted(NOT_FUZZED.keys() - (readers - fuzzed)) == []
    assert all(NOT_FUZZED.values())
