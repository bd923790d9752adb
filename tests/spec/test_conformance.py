"""spec/conformance.md names the tests and vectors of each rule and threat."""

import re
from functools import cache

import pytest
from conformance.iexec_cases import CASES as IEXEC_CASES
from conformance.iexec_cases import NOT_OFFERED
from conformance.rule_coverage import COVERED_BY, UNTESTED, VECTOR_TESTS
from conformance.runner_cases import ATTACKS, CASES
from conformance.test_probes import GROUPS
from conformance.threats import TESTS_OF_THREATS, UNTESTED_THREATS
from pages import conformance_page
from pages.conformance_page import Held, held_of, is_held, naming_tests, rules, sections, threats
from tests_support import REPOSITORY

_FUNCTION = re.compile(r"^ *(?:async )?def (\w+)", re.MULTILINE)


@cache
def _tests_of(file: str) -> frozenset[str]:
    path = REPOSITORY / "tests" / file
    return frozenset(_FUNCTION.findall(path.read_text("utf-8")) if path.exists() else ())


def _exists(held: Held) -> bool:
    return held.name.startswith("test_") and held.name in _tests_of(held.file)


def test_every_rule_is_held_or_says_why_not() -> None:
    """Each rule, decision, weak point and operation has a test, a vector or a stated reason."""
    stated = [*rules(), *sections()]
    assert [one.id for one in stated if not is_held(one) and not conformance_page.reason(one)] == []
    assert {one.page for one in rules()} == set(conformance_page.PAGES)
    assert len(stated) > 300


def test_every_threat_is_held_or_says_why_not() -> None:
    """Each row of the threat model has tests or a reason, and no entry is for a deleted row."""
    rows = {threat.key for threat in threats()}
    assert sorted(rows ^ {*TESTS_OF_THREATS, *UNTESTED_THREATS}) == []
    assert set(TESTS_OF_THREATS).isdisjoint(UNTESTED_THREATS)


@pytest.mark.parametrize(
    "table", [COVERED_BY, TESTS_OF_THREATS, VECTOR_TESTS], ids=["rules", "threats", "vectors"]
)
def test_listed_tests_exist(table: dict[str, tuple[str, ...]]) -> None:
    """Each test that the lists name exists."""
    held = {held_of(one) for listed in table.values() for one in listed}
    assert sorted(one for one in held if not _exists(one)) == []


def test_tests_of_a_runner_s_cases_exist() -> None:
    """Each of the runner's cases names existing tests or a reason."""
    rows = [row for rows in (*CASES.values(), ATTACKS) for row in rows]
    assert all(held for _, held in rows) and len(rows) == len({what for what, _ in rows}) > 90
    held = {held_of(one) for _, listed in rows if not isinstance(listed, str) for one in listed}
    assert sorted(one for one in held if not _exists(one)) == []


def test_every_file_of_vectors_is_run() -> None:
    """The table lists each file of vectors with its tests, and no other file."""
    folder = REPOSITORY / "spec" / "vectors"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json")) == sorted(
        VECTOR_TESTS
    )


def test_no_entry_is_stale() -> None:
    """Each listed rule is on a page, and its test does not name the rule itself."""
    known = {one.id: one for one in [*rules(), *sections()]}
    assert sorted({*COVERED_BY, *UNTESTED} - set(known)) == []
    naming = naming_tests()
    assert [
        (one, text)
        for one, listed in COVERED_BY.items()
        for text in listed
        if held_of(text) in naming.get(one, ())
    ] == []
    assert [one for one in UNTESTED if is_held(known[one])] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A rule (D22, Q6).", {"D22", "Q6"}),
        ("All of it (RC16 to RC18, X1–X3).", {"RC16", "RC17", "RC18", "X1", "X2", "X3"}),
        ("Weak points (W5, enc-D4), and W21.", {"enc-W5", "enc-D4", "W21"}),
        (
            "Sections (wire 4.4.6, 5.3; enc 2.7; store §6).",
            {"wire 4.4.6", "wire 5.3", "enc 2.7", "store 6"},
        ),
        ("Neither P-384 nor RTMR3, es256 or v1.", set()),
    ],
)
def test_what_a_docstring_names(text: str, expected: set[str]) -> None:
    """The parser finds ids, ranges of ids, weak points and sections in a docstring."""
    assert conformance_page.named(text) == expected


def test_a_test_is_found_by_its_name_too() -> None:
    """The parser finds a rule id between underscores in a test's name."""
    held = Held("capabilities/test_issuers.py", "test_K9_any_issuer")
    assert held in naming_tests()["K9"]


@pytest.mark.shared
def test_every_recorded_case_is_replayed() -> None:
    """Each recorded case belongs to a group that is replayed."""
    table = conformance_page.recorded_table()
    assert {name.partition(".")[0] for names in table.values() for name in names} <= set(GROUPS)
    assert len(table) > 100


def test_each_case_of_iexec_has_a_test_or_a_reason() -> None:
    """Each expectation of iExec's users is named by a test, or has a reason why not."""
    ids = {id_ for rows in IEXEC_CASES.values() for id_, _ in rows}
    named = {one.removeprefix("iexec-") for one in naming_tests() if one.startswith("iexec-")}
    assert named | NOT_OFFERED.keys() == ids and named.isdisjoint(NOT_OFFERED)
