"""A part of the model of releases: its properties, some guards, and traces replayed by a node.

All of it is in tests/soak/soak_release_model.py, because each search compiles a program first.
"""

import re
from pathlib import Path

import pytest
from release_model.replay import new_replay, replay_stage
from release_model.spin import (
    BACKED_UP,
    GUARDS,
    MODEL,
    SCENARIOS,
    Guard,
    check,
    needs_spin,
    simulate,
)

PAGE = MODEL.parent / "README.md"
# Without crashes; `make models` searches with them.
SMALL = ("LOSSES=0", "RESTARTS=0")
RUNS = 32
# The more people act, the fewer keys are opened.
DRAWN = (
    ("REVOCATION", "WITHDRAWAL", "OPERATOR", "DAMAGE", "ASKS=2", "LOSSES=0"),
    ("ONE_REVOKER", "ASKS=2", "LOSSES=0"),
    ("ONE_WITHDRAWAL", "ONE_CHANGE", "ASKS=2", "LOSSES=0"),
    ("OPERATOR", "ASKS=2", "LOSSES=0"),
)
TRIED = ("NO_LIVE", "NO_NETWORK_STAMP", "NO_LIVE_SESSION")


def test_each_guard_is_in_the_model_and_on_its_page() -> None:
    """The model can leave out each guard, and the page has it."""
    text, page = MODEL.read_text(), PAGE.read_text()
    names = {name for guard in (*GUARDS, *BACKED_UP) for name in guard.names}
    assert len(names) >= 20
    for name in names:
        assert f"def {name}\n" in text, name
        assert f"`{name}`" in page, name


@needs_spin()
@pytest.mark.slow
def test_nothing_is_released_after_a_revocation(tmp_path: Path) -> None:
    """No order of steps releases a key after an acknowledged revocation."""
    checked = check(tmp_path, *SCENARIOS["revocation"], *SMALL)
    assert checked.violated == ""
    assert checked.states > 100_000


@needs_spin()
@pytest.mark.slow
async def test_random_runs_are_replayed(tmp_path: Path) -> None:
    """A node takes each step of random runs of the model, with the same outcome."""
    opened = conflicts = steps = 0
    async with replay_stage(tmp_path / "node") as stage:
        for seed in range(RUNS):
            events = simulate(tmp_path / "spin", seed, *DRAWN[seed % len(DRAWN)])
            replay = await new_replay(stage)
            replayed = await replay.run(events)
            assert replayed.diverged == "", (seed, replayed, events)
            opened += replayed.opened
            conflicts += replayed.conflicts
            steps += replayed.steps
    print(f"{RUNS} runs, {steps} steps, {opened} keys opened, {conflicts} commits refused")
    assert opened >= RUNS / 10
    assert conflicts >= RUNS / 10


@needs_spin()
@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
async def test_a_counterexample_fails_at_a_node(tmp_path: Path, name: str) -> None:
    """A node refuses a step of the counterexample that the model without a guard has."""
    (guard,) = [one for one in GUARDS if one.names == (name,)]
    print(await diverged(tmp_path, guard))


async def diverged(folder: Path, guard: Guard) -> str:
    """Replay the counterexample of a guard, which a node refuses at the right step."""
    checked = check(folder / "spin", *SCENARIOS[guard.scenario], *guard.names, "LOSSES=0")
    assert checked.violated == guard.violates
    async with replay_stage(folder / "node") as stage:
        replay = await new_replay(stage)
        replayed = await replay.run(checked.events)
    assert re.sub(r" \d+", "", replayed.diverged) == guard.at_node, (replayed, checked.events)
    return replayed.diverged
