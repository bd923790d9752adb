"""Tests of the list of statements: none is missing, and each cited test exists."""

import re

from tests_support import REPOSITORY

PAGE = REPOSITORY / "spec" / "statements.md"
VERDICTS = {"done", "part", "different", "not applicable"}
MOST_PARTS = 8
_ROW = re.compile(r"\| (\d[\d, –]*) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
_TEST = re.compile(r"`([\w/]+\.py)`(?: `(\w+)`)?")


def _rows() -> list[tuple[list[int], str, str, str]]:
    """Return the numbers, verdict, place or reason, and test of each row."""
    rows = []
    for numbers, _, verdict, where, test in _ROW.findall(PAGE.read_text()):
        named: list[int] = []
        for part in numbers.split(", "):
            first, _, last = part.partition("–")
            named += range(int(first), int(last or first) + 1)
        rows.append((named, verdict, where, test))
    return rows


def test_each_statement_is_listed_once() -> None:
    """The numbers are those of all statements."""
    numbers = [number for named, *_ in _rows() for number in named]
    assert sorted(numbers) == list(range(1, 251))


def test_no_statement_is_missing() -> None:
    """Each has one of four verdicts, and few are done in part."""
    rows = _rows()
    assert {verdict for _, verdict, *_ in rows} == VERDICTS
    assert sum(verdict == "part" for _, verdict, *_ in rows) <= MOST_PARTS


def test_what_is_done_has_a_test_and_the_rest_a_reason() -> None:
    """A test that is named is in its file."""
    for numbers, verdict, where, test in _rows():
        cited = _TEST.findall(test)
        if verdict == "done":
            assert cited, numbers
        else:
            assert len(where) >= 12, numbers
        assert cited or test == "–", numbers
        for file, name in cited:
            text = (REPOSITORY / "tests" / file).read_text()
            assert not name or f"def {name}(" in text, (numbers, file, name)
