"""The docstring of each package names its public modules and folders, and none that does not exist."""

import ast
import re
from pathlib import Path

import pytest
import tests_support
from pages.package_tables import PACKAGES
from tests_support import REPOSITORY

FOLDERS = sorted(path.parent for package in PACKAGES for path in (REPOSITORY / package).rglob("__init__.py"))


def _docstring(folder: Path) -> str:
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""


def _section(text: str, name: str) -> str:
    """Return what follows the name of a section, up to the next empty line."""
    return text.partition(f"\n{name}:")[2].partition("\n\n")[0]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(REPOSITORY)))
def test_modules_are_named_truly(folder: Path) -> None:
    """`Modules:` has each public module in the order of the alphabet, with some words; `Folders:` each folder."""
    text = _docstring(folder)
    named = re.findall(r"^ {4}(\w+): \S.+\.$", _section(text, "Modules"), re.MULTILINE)
    assert named == sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    folders = re.findall(r"\w+", _section(text, "Folders"))
    assert folders == sorted(path.parent.name for path in folder.glob("*/__init__.py"))


def test_every_folder_of_a_package_is_one() -> None:
    """A folder with modules has an `__init__.py`, whose docstring begins with one line about it."""
    assert len(FOLDERS) > 20
    assert sorted(PACKAGES) == sorted(tests_support.PACKAGES)
    holding = {path.parent for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")}
    assert holding == set(FOLDERS)
    assert [folder for folder in FOLDERS if not re.match(r"\S[^\n]+\.(\n\n|$)", _docstring(folder))] == []
