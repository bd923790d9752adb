"""The whole search of the model of releases, with and without its guards, which is run by hand.

make models
"""

import re
from pathlib import Path

import pytest
from release_model.spin import BACKED_UP, GUARDS, MODEL, SCENARIOS, Guard, check, needs_spin
from release_model.test_release_model import diverged

pytestmark = needs_spin()

PAGE = MODEL.parent / "README.md"
REPLAYED = [guard for guard in GUARDS if guard.at_node]


def name_of(guard: Guard) -> str:
    return "+".join(guard.names)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_soak_of_the_model(tmp_path: Path, scenario: str) -> None:
    """No order of steps makes a property false, and the page has the number of states."""
    checked = check(tmp_path, *SCENARIOS[scenario])
    print(f"{scenario}: {checked.states:,} states, depth {checked.depth}")
    assert checked.violated == ""
    row = re.search(rf"^\| {scenario} \|.*$", PAGE.read_text(), re.MULTILINE)
    assert row is not None
    assert f"| {checked.states:,} | {checked.depth} |" in row.group()


@pytest.mark.parametrize("guard", (*GUARDS, *BACKED_UP), ids=name_of)
def test_soak_of_the_model_without_a_guard(tmp_path: Path, guard: Guard) -> None:
    """Without a guard that nothing backs up, the model has a counterexample."""
    checked = check(tmp_path, *SCENARIOS[guard.scenario], *guard.names)
    print(f"{name_of(guard)}: {checked.violated or 'none'}; {'; '.join(checked.events)}")
    assert checked.violated == guard.violates


@pytest.mark.parametrize("guard", REPLAYED, ids=name_of)
async def test_soak_of_counterexamples(tmp_path: Path, guard: Guard) -> None:
    """A node refuses a step of each counterexample that loses nothing."""
    print(f"{name_of(guard)}: {await diverged(tmp_path, guard)}")
