"""Generator of the tables of packages and folders, from the docstrings of the packages."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from pages.marked import with_part
from tests_support import REPOSITORY

# From the top down, as imports go.
PACKAGES = (
    "node",
    "runner",
    "door",
    "tee_backend",
    "sealspace",
    "encryption_network",
    "spaces",
    "serving",
    "capabilities",
)
# Page -> its part: the packages, or the folders inside them too.
PAGES: Mapping[Path, str] = {
    REPOSITORY / "CONTRIBUTING.md": "packages",
    REPOSITORY / "spec" / "overview.md": "folders",
}


def page(path: Path) -> str:
    """Return a page with its current table."""
    part = PAGES[path]
    rows = (
        [_row(name) for name in PACKAGES]
        if part == "packages"
        else [_row(folder) for folder in _folders()]
    )
    return with_part(
        path.read_text("utf-8"),
        part,
        "\n".join(["| folder | contents |", "|---|---|", *rows]) + "\n",
    )


def _folders() -> Iterator[str]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("__init__.py")):
            yield path.parent.relative_to(REPOSITORY).as_posix()


def _row(folder: str) -> str:
    """Return the row of a folder, with the first paragraph of its docstring."""
    tree = ast.parse((REPOSITORY / folder / "__init__.py").read_text("utf-8"))
    first = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    return f"| `{folder}` | {' '.join(first.split()).removesuffix('.')} |"
