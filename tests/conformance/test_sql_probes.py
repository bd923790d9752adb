"""Replay of every recorded database request, which is answered as recorded or as listed."""

import pytest
from conformance.replay_node import ReplayNodes
from conformance.sql_differences import (
    SQL_DIFFERENCES,
    SQL_KEPT_FAULTS,
    SQL_SETUP_DIFFERENCES,
)
from wire_replay import Answer, Case, Result, load_cases, normalise

pytestmark = pytest.mark.shared

CASES = load_cases(file="probes-sql.jsonl")
# Texts of SQLite and of its parser may differ after these words.
PREFIXES = ("SQLite error: ", "Parse error: ")
DATABASE = b"SQLite format 3\0"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.asyncio(loop_scope="module")
async def test_case(case: Case, replay_nodes: ReplayNodes) -> None:
    """The decisive answer equals the recorded one, or is the listed difference (SQ1 to SQ28).

    Earlier answers have the recorded status.
    """
    node = await replay_nodes.node_for(case)
    *setup, last = [answer async for answer in node.replay(case.exchanges)]
    result = comparable(case, last)
    if (difference := SQL_DIFFERENCES.get(case.name)) is not None:
        assert (result.status, result.body) == (difference.status, difference.body)
        assert (result.status, result.body) != (case.result.status, case.result.body), "stale"
        return
    assert result == case.result
    statuses = [answer.status for answer in setup]
    same = statuses == [exchange.answer.status for exchange in case.setup]
    assert same == (case.name not in SQL_SETUP_DIFFERENCES)


def comparable(case: Case, answer: Answer) -> Result:
    """Return an answer in comparable form; an exported file equals any other one."""
    result, recorded = normalise(case, answer), case.result
    is_alike = answer.body.startswith(DATABASE) or (
        result.status == recorded.status == 400
        and case.name not in SQL_DIFFERENCES
        and any(result.body.startswith(p) and recorded.body.startswith(p) for p in PREFIXES)
    )
    return Result(result.status, recorded.body, result.headers) if is_alike else result


def test_differences_name_cases_and_faults() -> None:
    """Every difference belongs to a case, and every recorded fault has a decision."""
    names = {case.name for case in CASES}
    assert names >= {*SQL_DIFFERENCES, *SQL_SETUP_DIFFERENCES, *SQL_KEPT_FAULTS}
    faults = {case.name for case in CASES if case.fault}
    assert faults - set(SQL_DIFFERENCES) == set(SQL_KEPT_FAULTS)
