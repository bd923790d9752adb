"""The generated pages that `make pages` writes and `make check` compares."""

from pathlib import Path

import pytest
from pages.marked import with_part
from pages.package_tables import PAGES
from pages.writing import Generated, check, write
from tests_support import REPOSITORY

_PAGE = "before\n<!-- generated: numbers (make pages) -->\n1\n<!-- end of numbers -->\nafter\n"


def test_a_stale_page_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that is out of date or missing is reported with the command that writes it."""
    (tmp_path / "current.md").write_text("now")
    (tmp_path / "stale.md").write_text("then")
    pages = [
        Generated(tmp_path / f"{name}.md", lambda: "now") for name in ("current", "stale", "absent")
    ]
    assert check(pages) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{name}.md is out of date; run: make pages" for name in ("stale", "absent")]
    assert write(pages) == 0
    assert capsys.readouterr().out.splitlines() == ["written: stale.md", "written: absent.md"]
    assert check(pages) == 0


def test_a_page_without_its_source_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page whose source is missing is neither written nor compared, and this is reported."""
    page = tmp_path / "kept.md"
    page.write_text("kept")

    def text() -> str:
        raise AssertionError("made without its source")

    pages = [Generated(page, text, source=tmp_path / "absent")]
    assert [check(pages), write(pages)] == [0, 0]
    assert page.read_text() == "kept"
    assert capsys.readouterr().err.count("left out: kept.md") == 2


def test_only_what_is_between_markers_changes() -> None:
    """Generating a part of a page changes only the text between its markers."""
    assert with_part(_PAGE, "numbers", "2\n3\n") == _PAGE.replace("\n1\n", "\n2\n3\n")
    assert with_part(_PAGE, "numbers", "1\n") == _PAGE


@pytest.mark.parametrize(
    "text", ["", _PAGE + _PAGE, _PAGE.replace("end of", "end"), _PAGE.replace("numbers", "names")]
)
def test_a_page_needs_its_markers_once(text: str) -> None:
    """A page that lost its markers, or has them twice, is not written."""
    with pytest.raises(ValueError, match="markers of `numbers`"):
        with_part(text, "numbers", "2\n")


def test_a_generator_has_a_line_in_the_list() -> None:
    """Each generator module of the folder is listed."""
    folder = REPOSITORY / "tools" / "pages"
    listed = (folder / "__main__.py").read_text()
    makers = {path.stem for path in folder.glob("*.py") if "\ndef page(" in path.read_text()}
    assert {name for name in makers if f"{name}.page" not in listed} == set()
    assert len(makers) > 4
    assert all(path.exists() for path in PAGES)
