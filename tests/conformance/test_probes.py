"""Replay of every recorded case, which is answered as recorded or with a listed difference."""

import json
from collections.abc import Mapping

import pytest
from conformance.differences import (
    ADDED_HEADERS,
    DIFFERENCES,
    HEADER_DIFFERENCES,
    KEPT_FAULTS,
    MOST_NOT_YET,
    NOT_YET,
    PARENTS_DIFFERENCES,
    SETUP_DIFFERENCES,
    TIME_DIFFERENCES,
    Difference,
)
from conformance.replay_node import ReplayNodes
from libipld import decode_multibase
from wire_replay import (
    Answer,
    Case,
    Result,
    hidden_members,
    hidden_times,
    load_cases,
    normalise,
    release_fault,
)

from capabilities.tokens import parse_delegation

pytestmark = pytest.mark.shared

GROUPS = (
    "header",
    "cacao",
    "recap",
    "ucan",
    "uri",
    "ability",
    "delegate",
    "invoke",
    "revoke",
    "net",
    "decrypt",
    "caps",
    "status",
    "query",
    "peer",
    "info",
    "kv",
    "signed",
    "public",
    "admin",
    "quota",
    "hooks",
    "http",
    "cors",
    "nocors",
)
CASES = load_cases(GROUPS)
# What the recorded server kept of a second, this node may round.
_TIME_TOLERANCE_S = 1.0


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.asyncio(loop_scope="module")
async def test_case(case: Case, replay_nodes: ReplayNodes) -> None:
    """The decisive answer of a case equals the recorded one, or is the listed difference.

    Earlier answers are as recorded too, unless the end differs or the case is listed for that.
    """
    node = await replay_nodes.node_for(case)
    *setup, last = [answer async for answer in node.replay(case.exchanges)]
    check(case, last, DIFFERENCES)
    if case.name not in DIFFERENCES:
        same = [_comparable(case, answer) for answer in setup] == [
            normalise(case, e.answer) for e in case.setup
        ]
        assert same == (case.name not in SETUP_DIFFERENCES)


def check(case: Case, answer: Answer, differences: Mapping[str, Difference]) -> None:
    """Assert that an answer is as recorded, or as the list of differences says."""
    result = _comparable(case, answer)
    difference = differences.get(case.name)
    if difference is not None:
        assert (result.status, result.body) == (difference.status, difference.body), (
            difference.reason
        )
        assert (result.status, result.body) != (case.result.status, case.result.body), (
            "the entry is stale"
        )
        return
    if case.name in PARENTS_DIFFERENCES:
        assert_own_parents(answer)
        assert result != case.result, "the entry is stale"
        assert _without_parents(result) == _without_parents(case.result)
    elif (others := HEADER_DIFFERENCES.get(case.name)) is not None:
        headers = others.instead_of(case.result.headers)
        assert headers != case.result.headers, "the entry is stale"
        assert result == Result(case.result.status, case.result.body, headers), others.reason
    else:
        assert result == case.result
    assert hidden_members(answer) == hidden_members(case.last.answer)
    if case.name in TIME_DIFFERENCES:
        with pytest.raises(AssertionError):
            assert_same_times(hidden_times(answer), hidden_times(case.last.answer))
        return
    assert_same_times(hidden_times(answer), hidden_times(case.last.answer))
    assert release_fault(case, answer) == ""


def _comparable(case: Case, answer: Answer) -> Result:
    """Return an answer in comparable form, without the headers that this node adds on purpose."""
    result = normalise(case, answer)
    headers = tuple((name, value) for name, value in result.headers if name not in ADDED_HEADERS)
    return Result(result.status, result.body, headers)


def assert_own_parents(answer: Answer) -> None:
    """Assert that the delegations of a list contain their own parents, as bytes of CIDs (Q23)."""
    for reported in json.loads(answer.body).values():
        cited = parse_delegation(reported["raw"]).parents
        assert [decode_multibase(parent.echo)[1] for parent in cited] == [
            bytes(parent) for parent in reported["parents"]
        ]


def _without_parents(result: Result) -> Result:
    reported = json.loads(result.body)
    kept = {
        cid: {name: item for name, item in one.items() if name != "parents"}
        for cid, one in reported.items()
    }
    return Result(result.status, json.dumps(kept, sort_keys=True), result.headers)


def assert_same_times(times: list[tuple[str, float]], recorded: list[tuple[str, float]]) -> None:
    """Assert that the times of two answers differ by at most a second."""
    assert [name for name, _ in times] == [name for name, _ in recorded]
    for (name, time), (_, expected) in zip(times, recorded, strict=True):
        assert time == pytest.approx(expected, abs=_TIME_TOLERANCE_S), name


def test_differences_name_cases_and_reasons() -> None:
    """Every difference belongs to a replayed case and has a reason; few are `not yet`."""
    partial = (SETUP_DIFFERENCES, TIME_DIFFERENCES, PARENTS_DIFFERENCES)
    others = [reason for listed in (*partial, ADDED_HEADERS) for reason in listed.values()]
    stated = [difference.reason for difference in DIFFERENCES.values()]
    reasons = [*stated, *(difference.reason for difference in HEADER_DIFFERENCES.values()), *others]
    assert set(DIFFERENCES).union(*partial, HEADER_DIFFERENCES) <= {case.name for case in CASES}
    assert all(reasons)
    assert sum(reason.startswith(NOT_YET) for reason in reasons) <= MOST_NOT_YET


def test_each_fault_of_the_recorded_server_has_a_decision() -> None:
    """Each recorded fault is either answered differently or kept for a stated reason."""
    faults = {case.name for case in CASES if case.fault}
    assert faults - {*DIFFERENCES, *TIME_DIFFERENCES} == set(KEPT_FAULTS) & faults
    assert set(KEPT_FAULTS) <= faults
