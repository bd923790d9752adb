"""Tests of how answers are read, and of which faults a plan draws."""

import random

import pytest
from history.campaign import Plan
from history.checker import Did, Said
from history.faulty_systems import KILLS, Fault
from history.party import ImpossibleAnswer, said_of
from running_node import Reply


def reply(status: int, text: str = "") -> Reply:
    return Reply(status, {}, text.encode())


@pytest.mark.parametrize(
    ("did", "status", "text"),
    [
        (Did.PUT, 404, ""),
        (Did.PUT, 500, ""),
        (Did.GET, 401, "Cannot find parent delegation"),
        (Did.GET, 412, ""),
        (Did.DECRYPT, 403, "release refused: evidence_expired"),
        (Did.REVOKE, 402, ""),
    ],
)
def test_impossible_answers(did: Did, status: int, text: str) -> None:
    """An answer that no correct node gives in a history is not explained away."""
    with pytest.raises(ImpossibleAnswer, match=did.name):
        said_of(did, reply(status, text))


def test_undecidable_tokens_are_turned_away() -> None:
    """A token whose replay record may have been deleted is not counted as used before."""
    text = "duplicate invocation cannot be ruled out: by the clock of the node's store"
    assert said_of(Did.PUT, reply(409, text)) is Said.TURNED_AWAY
    assert said_of(Did.PUT, reply(409, "duplicate invocation")) is Said.USED_BEFORE


def test_faults_of_a_plan() -> None:
    """A plan has as many kills as it says, of every kind, and the same for the same seed."""
    plan = Plan(operations=100, kills=12, seed=7)
    drawn = plan.faults(list(Fault), random.Random(7))
    assert sum(fault in KILLS for fault in drawn) == plan.kills
    assert len(drawn) == 18
    assert set(drawn) >= KILLS
    assert drawn == plan.faults(list(Fault), random.Random(7))
