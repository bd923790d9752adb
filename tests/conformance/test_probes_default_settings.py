"""Replay of the recorded cases with default settings, hosting `auto` and attestation `delegates`.

With these, a sign-in hosts the owner's spaces (store §6), and only the owner in person or approved
code receives a key (RL2, RL5).
"""

import json

import pytest
from conformance.differences import DEFAULT_SETTINGS_DIFFERENCES, DIFFERENCES, Difference
from conformance.replay_node import ReplayNodes
from conformance.test_probes import CASES, GROUPS, check
from wire_replay import Answer, Case, normalise

pytestmark = pytest.mark.shared

# Group -> cases that differ only in that a space is `activated` which was `skipped`.
HOSTED_BY_SIGNING_IN = {
    "header": 2,
    "cacao": 22,
    "recap": 9,
    "ucan": 26,
    "ability": 11,
    "delegate": 19,
}

_ALL = {**DIFFERENCES, **DEFAULT_SETTINGS_DIFFERENCES}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.asyncio(loop_scope="module")
async def test_group(group: str, default_nodes: ReplayNodes) -> None:
    """With default settings a group's cases have the same answers, except for listed cases."""
    hosted, unexplained = 0, {}
    for case in (case for case in CASES if case.group == group):
        node = await default_nodes.node_for(case)
        answer = await node.decide(case)
        if _only_hosted(case, answer):
            hosted += 1
            continue
        try:
            check(case, answer, _ALL)
        except AssertionError:
            unexplained[case.name] = (_expected(case), normalise(case, answer))
    assert unexplained == {}
    assert hosted == HOSTED_BY_SIGNING_IN.get(group, 0)


def _expected(case: Case) -> tuple[int, str]:
    difference: Difference | None = _ALL.get(case.name)
    return (
        (case.result.status, case.result.body)
        if difference is None
        else (difference.status, difference.body)
    )


def _only_hosted(case: Case, answer: Answer) -> bool:
    """Return whether an answer differs from the expected one only by further hosted spaces."""
    status, body = _expected(case)
    result = normalise(case, answer)
    if result.status != status or result.body == body or not body.startswith('{"activated":'):
        return False
    expected, given = json.loads(body), json.loads(result.body)
    return (
        given["cid"] == expected["cid"]
        and sorted(given["activated"] + given["skipped"])
        == sorted(expected["activated"] + expected["skipped"])
        and set(expected["activated"]) < set(given["activated"])
    )


def test_listed_changes_are_changes_of_replayed_cases() -> None:
    """Every listed change belongs to a replayed case and differs from its other answer."""
    names = {case.name for case in CASES}
    assert set(DEFAULT_SETTINGS_DIFFERENCES) <= names
    assert all(
        DIFFERENCES.get(name) != difference
        for name, difference in DEFAULT_SETTINGS_DIFFERENCES.items()
    )
