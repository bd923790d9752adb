"""Tests that histories with faults find faults of the product, each planted into a copy of it.

make histories
"""

from pathlib import Path

import pytest
from history.campaign import run
from history.faulty_database import DatabaseSystem
from history.faulty_disk import NO_DISK, can_mount
from history.faulty_systems import DiskSystem
from history.planted_faults import PLANTED_FAULTS, PlantedFault
from postgres_server import PROGRAMS_ABSENT, programs

MOST_TRIES = 3


@pytest.mark.parametrize("planted", PLANTED_FAULTS, ids=[one.name for one in PLANTED_FAULTS])
async def test_a_planted_fault_is_found(tmp_path: Path, planted: PlantedFault) -> None:
    """A copy of the product with one fault breaks a rule in one of a few runs."""
    if planted.system is DiskSystem and not can_mount(tmp_path):
        pytest.skip(NO_DISK)
    if planted.system is DatabaseSystem and programs() is None:
        pytest.skip(PROGRAMS_ABSENT)
    product = planted.copy_to(tmp_path / "product")
    for seed in range(MOST_TRIES):
        system = planted.system(tmp_path / str(seed), product=product)
        system.folder.mkdir()
        report = await run(system, planted.plan(seed))
        if report.violations:
            print(f"{planted.name}: seed {seed}: {report.violations[0][:300]}")
            return
    raise AssertionError(f"nothing was found in {MOST_TRIES} runs")
