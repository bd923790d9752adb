"""The comparable form of answers, tested on the recorded answers."""

import pytest
from wire_replay import (
    SDK_SCENARIOS,
    load_cases,
    load_network_keys,
    load_scenario,
    normalise,
    release_fault,
)

pytestmark = pytest.mark.shared


def test_normalised_recorded_answers_are_the_recorded_results() -> None:
    """Each recorded answer is normalised to the result that its case states."""
    cases = load_cases()
    wrong = [case.name for case in cases if case.result != normalise(case, case.last.answer)]
    assert wrong == []
    assert len(cases) == 883


def test_recorded_releases_keep_what_the_protocol_promises() -> None:
    """Every recorded decrypt answer passes the checks, except for low-order receiver keys."""
    releases = [
        case for case in load_cases(["decrypt"]) if b'"wrappedKey"' in case.last.answer.body
    ]
    faults = {
        case.name: fault for case in releases if (fault := release_fault(case, case.last.answer))
    }
    assert faults == {}
    assert len(releases) > 30


def test_recordings_are_complete() -> None:
    """Every scenario of the SDK and every network key is recorded."""
    assert [len(load_scenario(name)) for name in SDK_SCENARIOS] == [7, 31, 68, 62, 27, 46, 23, 44]
    assert len(load_network_keys()) > 100
