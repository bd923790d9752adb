"""Tests of the model of a database's commits, with answers calculated by hand."""

import pytest
from simulate_database import Costs, Setting, planned, simulate

COSTS = Costs(worker=100.0, database=200.0, syncs=(300.0,), trip=50.0)


def test_one_connection_waits_for_everything() -> None:
    """A single commit takes the sum of its parts, and shares its sync with no other commit."""
    carried = simulate(Setting(1, lanes=1), COSTS, commits=1_000)
    assert 1e6 / 650 == pytest.approx(carried.per_s)
    assert (650.0, 650.0, 1.0) == (carried.p50_us, carried.p99_us, carried.per_sync)


def test_a_space_carries_one_commit_after_the_other() -> None:
    """Commits to one space run one after the other, however many workers there are."""
    few, many = (
        simulate(Setting(workers, spaces=1, cores=8), COSTS, commits=5_000) for workers in (1, 20)
    )
    assert 1e6 / 500 == pytest.approx(few.per_s, rel=0.01)
    assert few.per_s == pytest.approx(many.per_s, rel=0.01)


def test_cores_bound_what_syncs_do_not() -> None:
    """With many connections commits share syncs, and the database's cores limit the rate."""
    carried = simulate(Setting(20, cores=4), COSTS)
    assert 4e6 / 200 == pytest.approx(carried.per_s, rel=0.02)
    assert carried.per_sync > 4
    assert 1.0 == pytest.approx(carried.busy, abs=0.02)


def test_a_thread_bounds_its_worker() -> None:
    """A worker commits no faster than its thread runs."""
    costs = Costs(worker=1_000.0, database=10.0, syncs=(10.0,))
    assert 1_000 == pytest.approx(simulate(Setting(1, cores=8), costs).per_s, rel=0.01)


def test_workers_on_the_database_machine_take_its_cores() -> None:
    """Workers on the database's machine share its cores, so the rate is lower."""
    apart, together = (
        simulate(Setting(4, cores=2, together=shared), COSTS).per_s for shared in (False, True)
    )
    assert 2e6 / 200 == pytest.approx(apart, rel=0.05)
    assert 2e6 / 300 == pytest.approx(together, rel=0.05)


def test_the_same_arguments_give_the_same_answer() -> None:
    """The same arguments give the same figures, because the random source has a seed."""
    costs = Costs(worker=100.0, database=200.0, syncs=(100.0, 300.0, 900.0))
    setting = Setting(4, spaces=3)
    assert simulate(setting, costs, commits=2_000) == simulate(setting, costs, commits=2_000)
    assert simulate(setting, costs, commits=2_000) != simulate(
        setting, costs, commits=2_000, seed=2
    )


def test_every_planned_setting_is_carried() -> None:
    """The model gives figures for each setting on the page about scale."""
    assert all(simulate(setting, costs, commits=2_000).per_s > 0 for _, setting, costs in planned())
