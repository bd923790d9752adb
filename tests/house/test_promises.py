"""Pages of promises are well formed: their sums are right, and what they name exists."""

import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from tests_support import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"
EVIDENCE = (REFERENCE / "evidence.md").read_text("utf-8")
WEAKNESSES = (REFERENCE / "known-weaknesses.md").read_text("utf-8")
CRITERIA = (REFERENCE / "best-practices.md").read_text("utf-8")
PAGES = sorted(REFERENCE.glob("*.md"))
# The criteria of the level "passing" that are in force.
PASSING = 67


def rows_of(page: str, first: str) -> list[list[str]]:
    """Return the cells of each row whose first cell matches a pattern."""
    rows = [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines()]
    return [row for row in rows if re.fullmatch(rf"\| {first}", row[0])]


def stated_sums(page: str, total: int) -> dict[str, int]:
    """Return the sums by state that a page states."""
    (line,) = re.findall(rf"^{total} (?:rows|criteria): (.*)\.$", page, re.MULTILINE)
    return {state: int(n) for n, state in re.findall(r"(\d+) ([a-z ]+)", line)}


def test_evidence_is_counted() -> None:
    """The page has all 44 rows once, and its sums are those of the rows."""
    rows = [row for row in rows_of(EVIDENCE, r"\d+") if len(row) == 5]
    assert [row[0] for row in rows] == [f"| {number}" for number in range(1, 45)]
    assert dict(Counter(row[2] for row in rows)) == stated_sums(EVIDENCE, 44)
    for row in rows:
        assert row[2] in {"whole", "half", "none", "does not apply"}, row


def test_criteria_are_counted() -> None:
    """The page has each criterion once, and its sums are those of the rows."""
    rows = rows_of(CRITERIA, r"`[a-z0-9_]+`")
    assert len({row[0] for row in rows}) == len(rows) == PASSING
    assert dict(Counter(row[2] for row in rows)) == stated_sums(CRITERIA, PASSING)
    for row in rows:
        assert len(row[3]) > len("| "), row


def test_weaknesses_have_an_id_a_date_and_a_state() -> None:
    """Ids count up from KW1, so that none is used twice; dates and states are complete."""
    rows = rows_of(WEAKNESSES, r"KW\d+")
    assert [row[0] for row in rows] == [f"| KW{number}" for number in range(1, len(rows) + 1)]
    for row in rows:
        since = date.fromisoformat(row[1])
        assert since >= date(2026, 11, 20)
        state, _, mended = row[2].partition(" ")
        if state == "mended":
            assert date.fromisoformat(mended) >= since
        else:
            assert row[2] in {"open", "accepted"}, row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_targets_and_tests_exist(page: Path) -> None:
    """Each `make` target and each file of tests that a page names exists."""
    text = page.read_text("utf-8")
    targets = set(
        re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    for named in re.findall(r"`(?:pytest )?(tests/[^` ]*)`", text):
        assert (REPOSITORY / named).exists(), named


def test_reports_have_limits_of_time() -> None:
    """The policy says in days when a report is answered, judged and published."""
    policy = (REPOSITORY / "SECURITY.md").read_text("utf-8")
    days = [int(row[0].removeprefix("| ").split()[0]) for row in rows_of(policy, r"\d+ days")]
    assert days == sorted(days)
    assert len(days) == 4
    assert days[0] <= 14
