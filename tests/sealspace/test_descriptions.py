"""Run grants in plain words, the same in every command."""

from typing import Any

import pytest

from sealspace.documents.call_conditions import AllowAll, parse_condition
from sealspace.documents.project_names import parse_project
from sealspace.documents.run_grants import ByHash, ByProject, GrantLimits, RunStatement
from sealspace.giving.words.runs import caller_words, run_sentence, run_words
from sealspace.session import key_session

ALICE, BOB = (str(key_session(bytes(31) + bytes([one])).did) for one in (1, 2))
HASH = "ab" * 32
OWNER: dict[str, Any] = {"Owner": {}}


def listed(*accounts: str) -> dict[str, Any]:
    return {"Whitelist": {"accounts": list(accounts)}}


def logic(operator: str, *conditions: Any) -> dict[str, Any]:
    return {"Logic": {"operator": operator, "conditions": list(conditions)}}


UNTIL = {"ValidUntil": {"until": "2027-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("AllowAll", "anybody"),
        (OWNER, "you alone, or with API keys of yours"),
        (listed(ALICE), f"{ALICE} alone, or with its API keys"),
        (listed(ALICE, BOB), f"{ALICE} or {BOB}"),
        (listed(), "nobody"),
        (UNTIL, "anybody before 2027-01-01T00:00:00Z"),
        (
            {"ValidUntil": {"until_ns": "1798761600000000000"}},
            "anybody before 2027-01-01T00:00:00.000Z",
        ),
        (
            {"AccountPattern": {"pattern": r"did:\w+:'x"}},
            'anybody whose DID matches "did:\\\\w+:\'x"',
        ),
        ({"WasmHash": {"hash": HASH}}, f"anybody who calls {HASH}"),
        ({"Not": {"condition": OWNER}}, "anybody but (you)"),
        (logic("Or", OWNER, listed(BOB)), f"(you) or ({BOB})"),
        (
            logic("And", listed(BOB), UNTIL),
            f"({BOB}) who is also (anybody before 2027-01-01T00:00:00Z)",
        ),
        (logic("And", OWNER), "you"),
        (logic("And"), "anybody"),
        (logic("Or"), "nobody"),
    ],
)
def test_callers(condition: Any, words: str) -> None:
    """Each condition on callers and each connective is described in plain words."""
    assert caller_words(parse_condition(condition)) == words


def test_a_whole_grant() -> None:
    """Programs, callers, hosts and limits are described on a line each, or on one line."""
    run = RunStatement(
        programs=(ByHash(HASH), ByProject(parse_project(f"{ALICE}/digest"))),
        hosts=("a.example", "b.example"),
        limits=GrantLimits(max_memory_mb=64),
    )
    follows = f"{ALICE}/digest, whatever version its developer makes the active one"
    assert run_words(run) == (
        f"for the program {HASH}",
        f"for the program {follows}",
        "callers: you alone, or with API keys of yours",
        "it may send to: a.example, b.example",
        "limits of a run: maxMemoryMb 64",
    )
    assert (
        run_sentence(run)
        == f"for {HASH} or {follows}; called by you alone, or with API keys of yours; sends to"
        " a.example, b.example; at most maxMemoryMb 64"
    )
    of_project = RunStatement(programs=(ByHash(HASH, parse_project(f"{ALICE}/digest")),))
    assert run_words(of_project)[0] == f"for the program {HASH} of {ALICE}/digest"
    assert run_words(RunStatement(programs=(ByHash(HASH),)))[2:] == (
        "it may send to: no host",
        "limits of a run: those of the runner",
    )


def test_a_long_one_is_cut_in_a_table() -> None:
    """A long list of programs or hosts is shortened and does not hide the callers or limits."""
    programs = tuple(ByHash(f"{number:064x}") for number in range(64))
    hosts = tuple(f"{number}.example" for number in range(64))
    run = RunStatement(
        programs=programs, callers=AllowAll(), hosts=hosts, limits=GrantLimits(max_memory_mb=64)
    )
    said = run_sentence(run)
    assert (
        len(said) <= 1100
        and said.endswith("…; at most maxMemoryMb 64")
        and len(run_words(run)) == 67
    )
    assert "…; called by anybody; sends to 0.example, " in said
