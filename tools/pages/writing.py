"""Writing of generated pages, and the check that they are current.

Example:
    status = check([Generated(PAGE, page)])
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests_support import REPOSITORY


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated page.

    Attributes:
        path: path of the page.
        text: returns the whole text of the page.
        source: a file or folder outside the repository from which the page is made. If it is
            absent, the page is skipped with a message.
    """

    path: Path
    text: Callable[[], str]
    source: Path | None = None


def write(pages: Sequence[Generated]) -> int:
    """Write every page that is out of date, in order; return the exit status."""
    for page in _with_source(pages):
        text = page.text()
        if _text_of(page.path) != text:
            page.path.write_text(text, "utf-8")
            print(f"written: {_name(page.path)}")
    return 0


def check(pages: Sequence[Generated]) -> int:
    """Print every page that is out of date, and the command that writes it; return the exit
    status."""
    stale = [page for page in _with_source(pages) if _text_of(page.path) != page.text()]
    for page in stale:
        print(f"{_name(page.path)} is out of date; run: make pages", file=sys.stderr)
    return 1 if stale else 0


def _with_source(pages: Sequence[Generated]) -> list[Generated]:
    absent = [page for page in pages if page.source is not None and not page.source.exists()]
    for page in absent:
        print(
            f"left out: {_name(page.path)}, whose source is not beside this checkout",
            file=sys.stderr,
        )
    return [page for page in pages if page not in absent]


def _text_of(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix() if path.is_relative_to(REPOSITORY) else path.name
