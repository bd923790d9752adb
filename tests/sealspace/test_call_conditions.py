"""Tests of conditions on callers: the grammar, truth tables and refusals (RN40)."""

import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.capability_errors import CapabilityError
from capabilities.principals import Principal, parse_principal
from sealspace.documents.call_conditions import (
    MAX_CONDITION_BYTES,
    MAX_CONDITION_DEPTH,
    MAX_DID_CHARS,
    MAX_PATTERN_STEPS,
    MAX_PATTERNS,
    AccountPattern,
    AllowAll,
    Call,
    Condition,
    Logic,
    Not,
    Verdict,
    WasmHash,
    condition_json,
    judge_call,
    parse_condition,
    require_bounded_patterns,
)
from sealspace.errors import InvalidInput

OWNER = Principal("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp")
CALLER = Principal("did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
SHA256 = "ab" * 32
NOW = 1_795_000_000.0
CALL = Call(caller=CALLER, owner=OWNER, wasm_sha256=SHA256, now=NOW)

YES: Any = "AllowAll"
NO: Any = {"Whitelist": {"accounts": []}}


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("AllowAll", True),
        ({"Owner": {}}, False),
        ({"Whitelist": {"accounts": [CALLER]}}, True),
        # another spelling of the same account
        ({"Whitelist": {"accounts": [CALLER.lower(), OWNER]}}, True),
        ({"Whitelist": {"accounts": [CALLER[:-1] + "7"]}}, False),
        ({"Whitelist": {"accounts": [CALLER.replace(":1:", ":10:")]}}, False),
        ({"Whitelist": {"accounts": []}}, False),
        ({"ValidUntil": {"until": "2026-11-18T11:06:40Z"}}, False),  # this moment
        ({"ValidUntil": {"until": "2026-11-18T11:06:40.001Z"}}, True),
        ({"ValidUntil": {"until": "1970-01-01T00:00:00Z"}}, False),
        ({"ValidUntil": {"until_ns": "1795000000000000000"}}, False),
        ({"ValidUntil": {"until_ns": "1795000000001000000"}}, True),
        ({"ValidUntil": {"until_ns": "0"}}, False),
        ({"ValidUntil": {"until_ns": "9" * 20}}, True),
        ({"WasmHash": {"hash": SHA256}}, True),
        ({"WasmHash": {"hash": "cd" * 32}}, False),
        ({"Logic": {"operator": "And", "conditions": []}}, True),
        ({"Logic": {"operator": "Or", "conditions": []}}, False),
        ({"Logic": {"operator": "And", "conditions": [YES, NO]}}, False),
        ({"Logic": {"operator": "Or", "conditions": [NO, YES]}}, True),
        ({"Not": {"condition": NO}}, True),
        ({"Not": {"condition": {"ValidUntil": {"until": "1970-01-01T00:00:00Z"}}}}, True),
    ],
)
def test_conditions(condition: Any, verdict: bool) -> None:
    parsed = parse_condition(condition)
    assert judge_call(parsed, CALL) is verdict
    assert parse_condition(condition_json(parsed)) == parsed


def test_the_owner_is_no_exception() -> None:
    by_owner = Call(caller=OWNER, owner=OWNER, wasm_sha256=SHA256, now=NOW)
    assert judge_call(parse_condition({"Owner": {}}), by_owner) is True
    assert judge_call(parse_condition(NO), by_owner) is False


@pytest.mark.parametrize("verdicts", list(product([True, False, None], repeat=2)))
def test_connectives_of_three_verdicts(verdicts: Sequence[Verdict]) -> None:
    """RN40: `And`, `Or` and `Not` of verdicts, one of which may be undecided."""
    # Without the hash of one program, a condition on the hash is undecided.
    undecided = replace(CALL, wasm_sha256=None)
    leaf_of: dict[Verdict, Condition] = {
        True: AllowAll(),
        False: Logic("Or", ()),
        None: WasmHash(SHA256),
    }
    leaves = tuple(leaf_of[one] for one in verdicts)
    all_of = judge_call(Logic("And", leaves), undecided)
    any_of = judge_call(Logic("Or", leaves), undecided)
    if False in verdicts:
        assert all_of is False
    else:
        assert all_of is (None if None in verdicts else True)
    if True in verdicts:
        assert any_of is True
    else:
        assert any_of is (None if None in verdicts else False)
    opposite = tuple(Not(one) for one in leaves)
    assert judge_call(Not(Logic("And", opposite)), undecided) is any_of
    assert judge_call(Not(Logic("Or", opposite)), undecided) is all_of


def test_judging_ends_when_the_verdict_is_fixed() -> None:
    """RN250: parts that cannot change the verdict are not judged."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    # Judging it raises InvalidInput, because it cannot be compiled; parsing would refuse it.
    unreadable = AccountPattern("(")
    assert judge_call(Logic("Or", (AllowAll(), unreadable)), CALL) is True
    assert judge_call(Logic("And", (Not(AllowAll()), unreadable)), CALL) is False
    undecided = replace(CALL, wasm_sha256=None)
    for operator in ("And", "Or"):
        with pytest.raises(InvalidInput):
            judge_call(Logic(operator, (WasmHash(SHA256), unreadable)), undecided)


@pytest.mark.parametrize(
    "condition",
    [
        None,
        True,
        "allowall",
        "",
        [],
        {},
        {"Owner": None},
        {"Owner": {"x": 1}},
        {"owner": {}},
        {"AllowAll": {}},
        {"Owner": {}, "WasmHash": {"hash": SHA256}},
        {"Whitelist": [CALLER]},
        {"Whitelist": {"accounts": CALLER}},
        {"Whitelist": {"accounts": [7]}},
        {"Whitelist": {"accounts": ["alice.near"]}},
        {"Whitelist": {"accounts": [f"{CALLER}#controller"]}},
        {"Whitelist": {"accounts": [CALLER], "more": 1}},
        {"ValidUntil": {"until": 1_800_000_000}},
        {"ValidUntil": {"until": "abc"}},
        {"ValidUntil": {"until": "1795000000000000000"}},
        {"ValidUntil": {"until_ns": "2030-01-01T00:00:00Z"}},
        {"ValidUntil": {"until_ns": 1}},
        {"ValidUntil": {"until_ns": "-1"}},
        {"ValidUntil": {"until_ns": "1e9"}},
        {"ValidUntil": {"until_ns": "٣"}},
        {"ValidUntil": {"until_ns": "9" * 21}},
        {"ValidUntil": {"until_ns": "1", "until": "2030-01-01T00:00:00Z"}},
        {"WasmHash": {"hash": SHA256.upper()}},
        {"WasmHash": {"hash": SHA256[:-1]}},
        {"WasmHash": {"hash": f"{SHA256}\n"}},
        {"Logic": {"operator": "Xor", "conditions": []}},
        {"Logic": {"operator": "And"}},
        {"Logic": {"operator": "And", "conditions": {}}},
        {"Logic": {"operator": [], "conditions": []}},
        {"AccountPattern": {"pattern": 7}},
        {"AccountPattern": {"pattern": "x" * 257}},
        {"AccountPattern": {"pattern": "did:é"}},
        {"AccountPattern": {"pattern": "\ud800"}},
        {"AccountPattern": {"pattern": ".*\n"}},
        {"AccountPattern": {"pattern": ".*", "flags": "i"}},
        {"AccountPattern": ".*"},
    ],
)
def test_what_cannot_be_read_is_refused_and_no_not_turns_it_into_a_yes(condition: Any) -> None:
    wholes: tuple[Any, ...] = (condition, {"Not": {"condition": condition}})
    for whole in wholes:
        with pytest.raises(InvalidInput):
            parse_condition(whole)


@pytest.mark.parametrize(
    "name", ["NearBalance", "FtBalance", "NftOwned", "DaoMember", "Predecessor"]
)
def test_conditions_that_need_a_chain(name: str) -> None:
    """RN211: OutLayer's other conditions are refused by name."""
    with pytest.raises(InvalidInput, match=f'"{name}" needs a blockchain'):
        parse_condition({"Not": {"condition": {name: {}}}})


@pytest.mark.parametrize(
    ("pattern", "verdict"),
    [
        ("did:pkh:eip155:1:0x[0-9A-Fa-f]{40}", True),
        ("did:pkh:.*", True),
        ("(?i)DID:PKH:.*", True),
        (re.escape(CALLER), True),
        (CALLER.lower(), False),  # the canonical spelling is compared
        ("did:pkh", False),
        (".*266", True),
        ("x|did:pkh:eip155:1:", False),  # not "starts with the one or ends with the other"
        ("did:pkh:eip155:1:|266", False),
        ("^did:pkh:.*$|x", True),
        ("(?m)^did:pkh:eip155:1:0xf39F$", False),
        ("(?s)did:pkh:.*", True),
        ("did.pkh.*", True),  # a dot is any character
        (r"did\.pkh.*", False),
        ("", False),
        ("a" * 256, False),
        (".*" * 128, True),
        ("(" * 126 + ".*" + ")" * 126, True),
    ],
)
def test_patterns(pattern: str, verdict: bool) -> None:
    """RN210: a pattern is compared with the whole DID."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    condition: Any = {"AccountPattern": {"pattern": pattern}}
    parsed = parse_condition(condition)
    assert condition_json(parsed) == condition
    assert judge_call(parsed, CALL) is verdict
    assert judge_call(parse_condition({"Not": {"condition": condition}}), CALL) is not verdict


def test_a_pattern_matches_neither_before_nor_after_a_line_end() -> None:
    """RN210: no text with a line end is a DID, and `$` admits none."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    parsed = parse_condition({"AccountPattern": {"pattern": "(?m)^did:pkh$"}})
    for caller in ("did:pkh\n", "did:pkh\nx", "x\ndid:pkh"):
        assert judge_call(parsed, replace(CALL, caller=Principal(caller))) is False


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "*", "a{1001}", "(a{100}){100}", r"(?=x)", r"(x)\1", r"x\Z", r"\pL{500}" * 30],
)
def test_patterns_that_cannot_be_compiled(pattern: str) -> None:
    """RN210: one such pattern refuses the whole condition, and the message names it."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    leaf: Any = {"AccountPattern": {"pattern": pattern[:256]}}
    either: Any = {"Logic": {"operator": "Or", "conditions": [YES, leaf]}}
    wholes: tuple[Any, ...] = ({"Not": {"condition": leaf}}, either)
    for whole in wholes:
        with pytest.raises(InvalidInput) as refused:
            parse_condition(whole)
        assert repr(pattern[:40]) in refused.value.message


def test_a_pattern_takes_linear_time() -> None:
    """RN210: a pattern that would keep a backtracking engine for years ends at once."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    parsed = parse_condition({"AccountPattern": {"pattern": "(a+)+$"}})
    hostile = replace(CALL, caller=Principal("a" * 256 + "!"))
    assert judge_call(parsed, hostile) is False


COSTLY = "(.?){900}0"


def test_a_costly_pattern_is_refused_with_its_figure() -> None:
    """RN210: a new grant with a costly pattern is refused, at any place in the condition."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    leaf = AccountPattern(COSTLY)
    for whole in (leaf, Not(leaf), Logic("Or", (AllowAll(), Logic("And", (leaf,))))):
        with pytest.raises(InvalidInput, match=f"takes [0-9]{{6}} steps.* {MAX_PATTERN_STEPS}"):
            require_bounded_patterns(whole)


def test_a_costly_pattern_of_a_held_grant_is_undecided() -> None:
    """RN210: a costly pattern is never compared, so neither it nor its negation admits a call."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    for pattern in (COSTLY, ".*(.?){800}"):
        leaf = parse_condition({"AccountPattern": {"pattern": pattern}})
        assert judge_call(leaf, CALL) is None
        assert judge_call(Not(leaf), CALL) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "did:key:z6Mk.*",
        "did:pkh:eip155:1:0x[0-9a-fA-F]{40}",
        "did:pkh:eip155:[0-9]{1,20}:0x[0-9a-fA-F]{1,40}",
        "(?i)" + "did:key:z6mk" * 21,
        "a*" * 128,
        "a?" * 128,
        "|".join(f"did:key:z6Mk{number}.*" for number in range(15)),
    ],
)
def test_patterns_without_large_counts_are_within_the_limit(pattern: str) -> None:
    """RN210: the limit concerns counted repetitions."""
    pytest.importorskip("re2", reason="google-re2 is not installed: no pattern is compiled")
    require_bounded_patterns(parse_condition({"AccountPattern": {"pattern": pattern}}))


def test_the_longest_did() -> None:
    """RN210: no canonical DID is longer than the length that the limit counts with."""
    longest = parse_principal(f"did:pkh:eip155:{2**64 - 1}:0x{'ab' * 20}")
    assert len(longest) == MAX_DID_CHARS
    with pytest.raises(CapabilityError):
        parse_principal(f"did:pkh:eip155:{2**64}0:0x{'ab' * 20}")


def test_without_the_compiler_a_pattern_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN210: a client without the extra `runner` can write a pattern, but no call is admitted by
    it."""
    monkeypatch.setitem(sys.modules, "re2", None)
    parsed = parse_condition({"Not": {"condition": {"AccountPattern": {"pattern": "("}}}})
    assert judge_call(parsed, CALL) is None


def test_bounds() -> None:
    def nested(depth: int) -> Any:
        condition: Any = "AllowAll"
        for _ in range(depth - 1):
            condition = {"Not": {"condition": condition}}
        return condition

    assert judge_call(parse_condition(nested(MAX_CONDITION_DEPTH)), CALL) is False
    for depth in (MAX_CONDITION_DEPTH + 1, 60, 20_000):
        with pytest.raises(InvalidInput):
            parse_condition(nested(depth))
    with pytest.raises(InvalidInput, match=str(MAX_CONDITION_BYTES)):
        parse_condition({"Whitelist": {"accounts": [CALLER] * 400}})
    # A text that looks like another pattern is none.
    patterns: list[Any] = [{"AccountPattern": {"pattern": '{"AccountPattern":'}}] * MAX_PATTERNS
    parse_condition({"Logic": {"operator": "Or", "conditions": patterns}})
    with pytest.raises(InvalidInput, match="16 patterns"):
        parse_condition({"Logic": {"operator": "Or", "conditions": [*patterns, patterns[0]]}})


LEAVES = st.sampled_from([YES, NO, {"Owner": {}}, {"WasmHash": {"hash": SHA256}}])
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda one: {"Not": {"condition": one}}),
        st.tuples(st.sampled_from(["And", "Or"]), st.lists(inner, max_size=3)).map(
            lambda made: {"Logic": {"operator": made[0], "conditions": made[1]}}
        ),
    ),
    max_leaves=12,
)


@given(CONDITIONS)
def test_not_is_the_opposite(condition: Any) -> None:
    verdict = judge_call(parse_condition(condition), CALL)
    assert judge_call(parse_condition({"Not": {"condition": condition}}), CALL) is (not verdict)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4
    )
)
def test_fuzz_conditions(value: Any) -> None:
    wholes: tuple[Any, ...] = (
        value,
        {"Not": {"condition": value}},
        {"Whitelist": {"accounts": value}},
        {"AccountPattern": {"pattern": value}},
        {"ValidUntil": {"until_ns": value}},
    )
    for whole in wholes:
        with contextlib.suppress(InvalidInput):
            judge_call(parse_condition(whole), CALL)
