"""Histories with faults on each system, in batches, which are run by hand.

make histories OPERATIONS=100000 KILLS=1000 SEED=7

The operations and kills are divided among the systems that this machine can run. Each batch has a
new system and the next seed, and prints its report.
"""

import os
import shutil
from math import ceil
from pathlib import Path

import pytest
from history.campaign import Plan, Report, run
from history.faulty_database import DatabaseSystem
from history.faulty_disk import NO_DISK, can_mount
from history.faulty_node import NO_CLOCK, has_clock
from history.faulty_systems import DiskSystem, FaultySystem, FolderSystem
from postgres_server import needs_postgres

OPERATIONS, KILLS, SEED = 6_000, 60, 1
_BATCH = 2_000
_SYSTEMS = 3
_SHOWN = 5


def _number(name: str, default: int) -> int:
    return int(os.environ.get(f"HISTORIES_{name}") or default)


async def run_batches(kind: type[FaultySystem], folder: Path) -> Report:
    """Run one system's share of the operations and kills, and print a report of each batch."""
    # Rounded up, so that the systems together have as many as were asked for.
    operations = ceil(_number("OPERATIONS", OPERATIONS) / _SYSTEMS)
    batches = max(1, operations // _BATCH)
    kills = ceil(_number("KILLS", KILLS) / _SYSTEMS / batches)
    seed = _number("SEED", SEED)
    report = Report()
    for batch in range(batches):
        place = folder / str(batch)
        place.mkdir()
        plan = Plan(operations=operations // batches, kills=kills, seed=seed + batch)
        done = await run(kind(place), plan)
        shutil.rmtree(place)
        print(f"{kind.name}, seed {plan.seed}: {done}", flush=True)
        for violation in done.violations[:_SHOWN]:
            print(violation, flush=True)
        report.add(done)
    print(f"{kind.name}, {batches} batches: {report}", flush=True)
    if not has_clock():
        print(f"no clock was set: {NO_CLOCK}")
    return report


async def test_a_node_on_lmdb(tmp_path: Path) -> None:
    """A node on LMDB keeps its promises while processes are killed and stopped."""
    assert (await run_batches(FolderSystem, tmp_path)).violations == []


async def test_a_node_on_a_faulty_disk(tmp_path: Path) -> None:
    """A node on LMDB keeps its promises while its disk runs full and loses its power."""
    if not can_mount(tmp_path):
        pytest.skip(NO_DISK)
    assert (await run_batches(DiskSystem, tmp_path)).violations == []


@needs_postgres()
async def test_two_nodes_on_postgresql(tmp_path: Path) -> None:
    """Two nodes on a database keep their promises through partitions, kills and promotions."""
    assert (await run_batches(DatabaseSystem, tmp_path)).violations == []
