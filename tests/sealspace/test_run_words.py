"""Run grants in plain words, the same in every command."""

from typing import Any

import pytest

from sealspace.call_conditions import parse_condition
from sealspace.project_names import parse_project
from sealspace.run_grants import ByHash, ByProject, GrantLimits, RunStatement
from sealspace.run_words import caller_words, run_sentence, run_words
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
        (OWNER, "you alone"),
        (listed(ALICE), f"{ALICE} alone"),
        (listed(ALICE, BOB), f"{ALICE} or {BOB}"),
        (listed(), "nobody"),
        (UNTIL, "anybody before 2027-01-01T00:00:00Z"),
        ({"WasmHash": {"hash": HASH}}, f"anybody who calls {HASH}"),
        ({"Not": {"condition": OWNER}}, "anybody but (you)"),
        (logic("Or", OWNER, listed(BOB)), f"(you) or ({BOB})"),
        (logic("And", listed(BOB), UNTIL), f"({BOB}) who is also (anybody before 2027-01-01T00:00:00Z)"),
        (logic("And", OWNER), "you"),
        (logic("And"), "anybody"),
        (logic("Or"), "nobody"),
    ],
)
def test_callers(condition: Any, words: str) -> None:
    """Each leaf and each connective, as a person would say it."""
    assert caller_words(parse_condition(condition)) == words


def test_a_whole_grant() -> None:
    """Programs, callers, hosts and limits, a line each, or in one."""
    run = RunStatement(
        programs=(ByHash(HASH), ByProject(parse_project(f"{ALICE}/digest"))),
        hosts=("a.example", "b.example"),
        limits=GrantLimits(max_memory_mb=64),
    )
    follows = f"{ALICE}/digest, whatever version its developer makes the active one"
    assert run_words(run) == (
        f"for the program {HASH}",
        f"for the program {follows}",
        "callers: you alone",
        "it may send to: a.example, b.example",
        "limits of a run: maxMemoryMb 64",
    )
    assert run_sentence(run) == (
        f"for {HASH} or {follows}; called by you alone; sends to a.example, b.example; at most maxMemoryMb 64"
    )
    assert run_words(RunStatement(programs=(ByHash(HASH),)))[2:] == (
        "it may send to: nobody",
        "limits of a run: those of the runner",
    )


def test_a_long_one_is_cut_in_a_table() -> None:
    """What others may fill at will does not fill a screen."""
    run = RunStatement(programs=tuple(ByHash(f"{number:064x}") for number in range(64)))
    assert len(run_sentence(run)) <= 601 and run_sentence(run).endswith("…") and len(run_words(run)) == 67
