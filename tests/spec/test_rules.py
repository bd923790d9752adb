"""Each rule of capabilities.md stands at the line of code that keeps it, and in a test.

A rule stands in code when a comment at the line (`# D22`) or the docstring of what keeps it names its id, and in a test
when the name or docstring of a test does, or the rules of a vector, which are part of the name of the test that runs
it. What may lack one of the two is listed below with the reason; an exception that is no longer needed fails.
"""

import ast
import functools
import json
import re
import tokenize
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest
from tests_support import REPOSITORY

PAGE = REPOSITORY / "spec" / "capabilities.md"
CODE = ("capabilities", "spaces", "encryption_network", "node")

# Every rule that was ever numbered; a number that is missing here was never given.
NUMBERED = (
    "P1-6 U1-8 U10-16 X1-10 A1-7 R1-3 E1-9 C1-11 S1-10 T1-12 K1-9 V1-5 D1-13 D20-31 D40-45 I1-15 I11a-11a I20-24 I30-39"
)

_RULE = re.compile(r"^- \*\*([A-Z]\d+a?)\*\*( \*Describes:\*)?", re.MULTILINE)
_ID = re.compile(r"(?<![A-Za-z0-9-])((?:[PUXARECSTKVDIQ]|ST)\d{1,2}a?)(?![A-Za-z0-9])")
_RANGE = re.compile(r"(?<![A-Za-z0-9-])([PUXARECSTKVDI])(\d{1,2}) to \1(\d{1,2})(?![A-Za-z0-9])")
_NAME_ID = re.compile(r"_([puxarecstkvdi]\d{1,2}a?)(?=_|$)")

DESCRIBES = "only describes a consequence or a habit of clients"
NOTHING_DONE = "kept by what the code does not do; there is no line for it"

# id -> why no remark in code names it
NOT_IN_CODE: dict[str, str] = {
    "D43": DESCRIBES,
    "D45": DESCRIBES,
    "I5": DESCRIBES,
    "I11a": NOTHING_DONE,
    "I24": DESCRIBES,
}

# id -> the rule that it follows from, which is the one that remarks in code name
NAMED_AS: dict[str, str] = {"I21": "ST4", "I22": "Q25", "I38": "ST2"}

# id -> why no test names it
NOT_IN_TESTS: dict[str, str] = {
    "C6": DESCRIBES,
    "D26": DESCRIBES,
    "D31": DESCRIBES,
    "D45": DESCRIBES,
    "I5": DESCRIBES,
    "I24": DESCRIBES,
}


def _rules() -> dict[str, bool]:
    """Return each rule of the page, and whether it only describes."""
    return {rule: bool(describes) for rule, describes in _RULE.findall(PAGE.read_text("utf-8"))}


def _named(text: str) -> set[str]:
    """Return the ids in a text; a range names all in it."""
    ids = set(_ID.findall(text))
    for letter, first, last in _RANGE.findall(text):
        ids |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    return ids


def _remarks(path: Path) -> Iterator[str]:
    """Yield every comment of a file, and every string that stands as a statement: docstrings of all kinds."""
    with path.open("rb") as stream:
        yield from (token.string for token in tokenize.tokenize(stream.readline) if token.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


@functools.cache
def _in_code() -> frozenset[str]:
    files = (path for package in CODE for path in (REPOSITORY / package).rglob("*.py"))
    return frozenset(rule for path in files for remark in _remarks(path) for rule in _named(remark))


def _test_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of every test of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def _in_tests() -> set[str]:
    named: set[str] = set()
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        for name, docstring in _test_texts(path):
            named |= {
                rule.upper().replace("A", "a") if rule[0] != "a" else rule.upper() for rule in _NAME_ID.findall(name)
            }
            named |= _named(docstring)
    for path in (REPOSITORY / "spec" / "vectors").rglob("*.json"):
        for case in json.loads(path.read_text("utf-8"))["cases"]:
            named |= set(case["rules"])
    return named


def _numbered() -> Iterator[str]:
    for run in NUMBERED.split():
        first, last = run[1:].split("-")
        if first == last:
            yield run[0] + first
        else:
            yield from (f"{run[0]}{number}" for number in range(int(first), int(last) + 1))


def test_the_page_lists_every_rule() -> None:
    """The page has each rule that was ever numbered, and no other."""
    assert sorted(_numbered()) == sorted(_rules())


@pytest.mark.parametrize(
    ("where", "found", "exceptions"),
    [("code", _in_code, NOT_IN_CODE | NAMED_AS), ("tests", _in_tests, NOT_IN_TESTS)],
    ids=["code", "tests"],
)
def test_every_rule_stands(where: str, found: Callable[[], Set[str]], exceptions: dict[str, str]) -> None:
    """Each rule is named in the code and in a test, unless an exception says why not."""
    missing = set(_rules()) - found()
    assert sorted(missing - set(exceptions)) == [], f"no {where} names these rules"
    assert sorted(set(exceptions) - missing) == [], f"{where} names these rules: the exceptions are stale"


@pytest.mark.parametrize("exceptions", [NOT_IN_CODE, NOT_IN_TESTS], ids=["code", "tests"])
def test_exceptions_say_why(exceptions: dict[str, str]) -> None:
    """An exception has a reason, and one that says the rule describes is about a rule that does."""
    rules = _rules()
    assert all(exceptions.values())
    assert [rule for rule, reason in exceptions.items() if (reason == DESCRIBES) != rules[rule]] == []


def test_what_is_named_as_another_rule() -> None:
    """A rule that code names by the one it follows from is named so."""
    assert sorted(set(NAMED_AS.values()) - _in_code()) == []
