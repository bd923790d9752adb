"""Tests that code which is hard to read is found, and that its amount does not grow."""

import pytest
from house.reading import (
    EXCEPTIONS,
    MOST_EXCEPTIONS,
    RULES,
    Module,
    Place,
    check,
    places_in_product,
    places_in_tests,
    study,
)

RECORDS = """
from dataclasses import dataclass
from typing import NamedTuple, dataclass_transform

import attrs
import msgspec

@dataclass_transform(frozen_default=True)
def frozen(cls):
    return dataclass(cls, frozen=True, slots=True)

@frozen
class Row:
    key: str
    value: str
    stamp: str = ""

    @classmethod
    def empty(cls):
        return cls("", "")

@dataclass(slots=True)
class Slotted: ...

@attrs.define
class Defined: ...

class Pair(NamedTuple): ...

class Answer(msgspec.Struct): ...

class Refusal(Answer): ...

class Store:
    def __init__(self, folder, key, clock): ...
"""
SPLITTERS = """
def names_of(kind, names):
    return frozenset(names.split())
"""

_FIVE_DEEP = """
def decide(one, two, three, four, five):
    if one:
        for item in two:
            if item:
                while three:
                    if four:
                        return five
"""
_FLAT = """
def decide(one, two, three):
    if one:
        return 1
    for item in two:
        if item:
            return three
"""

# For each rule: code that breaks it and no other, and code beside it that breaks none.
CASES = [
    ("complexity", _FIVE_DEEP + "    else:\n        return 0\n", _FLAT),
    ("nested-conditional", "x = 1 if a else 2 if b else 3", "x = 1 if a else f(2)"),
    ("nested-conditional", "x = f(1 if b else 2) if a else 3", "x = f(1 if b else 2)"),
    ("conditional-element", "x = [1 if a else 2 for a in b]", "x = [a for a in b if a]"),
    ("conditional-element", "x = {a: 1 if a else 2 for a in b}", "x = {a: f(a) for a in b}"),
    ("expression-statement", "f() if a else g()", "x = f() if a else g()"),
    ("expression-statement", "a or f()", "x = a or f()"),
    ("boolean-number", "x = pair[a == b]", "x = pair[a]"),
    ("boolean-number", "x = items[not a :]", "x = items[1:] if a else items"),
    ("boolean-number", "x = 's' * (a != 1)", "x = 's' * a"),
    ("boolean-number", "x = size + row.is_live", "x = size + row.size"),
    ("boolean-number", "x = size + a.startswith('b')", "x = sum(a == b for a in c)"),
    ("boolean-number", "x += isinstance(a, str)", "x += int(isinstance(a, str))"),
    ("boolean-number", "x = used[True]", "x: Literal[True] = '%s' % (a == b)"),
    ("two-assignments", "x = (a := f()) + (b := g())", "x = (a := f())\ny = (b := g())"),
    ("two-assignments", "if (a := 1) and [b for c in d if (b := c)]: ...", "if (a := 1): ..."),
    ("three-loops", "x = [d for a in b for c in a for d in c]", "x = [c for a in b for c in a]"),
    ("record-arguments", "x = Row('a', 'b', 'c')", "x = Row('a', 'b', stamp='c')"),
    ("record-arguments", "x = Slotted(*a)", "x = f(*a)"),
    ("record-arguments", "x = Defined(**a)", "x = Defined(a=a)"),
    ("record-arguments", "x = Pair(1, 2, 3)", "x = Store(1, 2, 3)"),
    ("record-arguments", "x = Answer(1, 2, 3)", "x = answer(1, 2, 3)"),
    ("record-arguments", "x = Refusal(1, 2, 3)", "import other\nx = other.Refusal(1, 2, 3)"),
    ("split-names", "x = 'a b c'.split()", "x = line.split()"),
    ("split-names", "NAMES = 'a b'\nx = f'{NAMES} c'.split()", "x = f'{line} c'.split()"),
    ("split-names", "x = names_of(1, 'a b c')", "x = names_of('a b c', line)"),
    ("split-names", "x = names_of(1, names='a b c')", "x = other(1, names='a b c')"),
    (
        "split-names",
        "x = [n for k in ('a b', 'c') for n in k.split()]",
        "x = [k for k in ('a', 'b')]",
    ),
]


def _places(code: str) -> list[str]:
    """Return the rules that a module of the product breaks, one for each place."""
    known = [Module("node/records.py", RECORDS), Module("node/splitters.py", SPLITTERS)]
    names = {
        "node.records": ("Row", "Slotted", "Defined", "Pair", "Answer", "Refusal", "Store"),
        "node.splitters": ("names_of",),
    }
    imports = [f"from {module} import {', '.join(listed)}" for module, listed in names.items()]
    module = Module("node/sample.py", "\n".join([*imports, code]))
    return [place.rule for place in places_in_product(module, study([*known, module]))]


@pytest.mark.parametrize(("rule", "breaking", "keeping"), CASES)
def test_rule(rule: str, breaking: str, keeping: str) -> None:
    """Each rule finds its faulty code and does not report correct code."""
    assert _places(breaking) == [rule]
    assert _places(keeping) == []


def test_own_construction() -> None:
    """The rule also finds records that construct themselves with unnamed fields."""
    positional = RECORDS.replace('cls("", "")', 'cls("", "", "")')
    for source, expected in ((RECORDS, []), (positional, ["record-arguments"])):
        module = Module("node/records.py", source)
        places = places_in_product(module, study([module]))
        assert [place.rule for place in places] == expected


def test_each_rule_has_a_case() -> None:
    """There is code that breaks each rule."""
    assert {rule for rule, _, _ in CASES} == RULES.keys()


def test_tests_follow_two_rules() -> None:
    """Tests are subject only to the rules about nested conditions and loops."""
    code = "".join(breaking + "\n" for _, breaking, _ in CASES)
    found = {place.rule for place in places_in_tests(Module("tests/sample.py", code))}
    assert found == {"nested-conditional", "three-loops"}


def test_a_place_fails_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The check fails for any place, with a message about the remedy."""
    assert check([]) == 0
    assert check([Place(file="node/logs.py", line=7, rule="complexity")]) == 1
    printed = capsys.readouterr().err
    assert "node/logs.py:7: a function has a cognitive complexity above 15; next:" in printed


def test_exceptions() -> None:
    """There are few exceptions, and each names its rule and reason on one line."""
    assert len(EXCEPTIONS) <= MOST_EXCEPTIONS
    assert all(reason.strip() and "\n" not in reason for reason in EXCEPTIONS.values())
    assert {rule for _, _, rule in EXCEPTIONS} <= RULES.keys()
