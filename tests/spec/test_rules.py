"""Tests that each rule of capabilities.md is named at the code that implements it.

A comment at the line (`# D22`) or the docstring of what keeps the rule names its id. What no code
names is listed below with the reason; an exception that is no longer needed fails.
`test_conformance.py` looks for the tests of a rule.
"""

import ast
import functools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests_support import REPOSITORY

PAGE = REPOSITORY / "spec" / "capabilities.md"
CODE = ("capabilities", "spaces", "encryption_network", "node")

# Every rule that was ever numbered; a number that is missing here was never given.
NUMBERED = (
    "P1-6 U1-8 U10-16 X1-10 A1-7 R1-3 E1-9 C1-11 S1-10 T1-12 K1-9 V1-5 D1-13 D20-34 D40-45 I1-15"
    " I11a-11a I20-24 I30-39"
)

_RULE = re.compile(r"^- \*\*([A-Z]\d+a?)\*\*( \*Describes:\*)?", re.MULTILINE)
_ID = re.compile(r"(?<![A-Za-z0-9-])((?:[PUXARECSTKVDIQ]|ST)\d{1,2}a?)(?![A-Za-z0-9])")
_RANGE = re.compile(r"(?<![A-Za-z0-9-])([PUXARECSTKVDI])(\d{1,2}) to \1(\d{1,2})(?![A-Za-z0-9])")

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


def _rules() -> dict[str, bool]:
    """Return each rule of the page, and whether it only describes."""
    return {rule: bool(describes) for rule, describes in _RULE.findall(PAGE.read_text("utf-8"))}


def _named(text: str) -> set[str]:
    """Return the ids in a text, and all ids of the ranges in it."""
    ids = set(_ID.findall(text))
    for letter, first, last in _RANGE.findall(text):
        ids |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    return ids


def _remarks(path: Path) -> Iterator[str]:
    """Yield every comment and docstring of a file."""
    with path.open("rb") as stream:
        yield from (
            token.string
            for token in tokenize.tokenize(stream.readline)
            if token.type == tokenize.COMMENT
        )
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value


@functools.cache
def _in_code() -> frozenset[str]:
    """Return the ids of all rules that the code names."""
    named = set()
    for package in CODE:
        for path in (REPOSITORY / package).rglob("*.py"):
            for remark in _remarks(path):
                named |= _named(remark)
    return frozenset(named)


def _numbered() -> Iterator[str]:
    for run in NUMBERED.split():
        first, last = run[1:].split("-")
        if first == last:
            yield run[0] + first
        else:
            yield from (f"{run[0]}{number}" for number in range(int(first), int(last) + 1))


def test_the_page_lists_every_rule() -> None:
    """The page lists each rule that was ever numbered, and no other."""
    assert sorted(_numbered()) == sorted(_rules())


def test_every_rule_stands() -> None:
    """Each rule is named in the code, unless an exception gives a reason."""
    missing, exceptions = set(_rules()) - _in_code(), NOT_IN_CODE | NAMED_AS
    assert sorted(missing - set(exceptions)) == [], "no code names these rules"
    assert sorted(set(exceptions) - missing) == [], (
        "code names these rules: the exceptions are stale"
    )


def test_exceptions_say_why() -> None:
    """Each exception has a reason."""
    rules = _rules()
    assert [
        rule for rule, reason in NOT_IN_CODE.items() if (reason == DESCRIBES) != rules[rule]
    ] == []


def test_what_is_named_as_another_rule() -> None:
    """A rule that the code names by the rule from which it follows is listed so."""
    assert sorted(set(NAMED_AS.values()) - _in_code()) == []
