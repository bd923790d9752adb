"""Small runs of histories with faults; `make histories` runs large ones."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engines import needs_folder
from history.campaign import Plan, run
from history.faulty_disk import NO_DISK, FaultyDisk, can_mount
from history.faulty_systems import DiskSystem, Fault, FolderSystem
from running_node import until

pytestmark = [pytest.mark.slow, needs_folder()]

SEED = 20_261_126


async def test_kills_and_pauses_of_processes(tmp_path: Path) -> None:
    """Histories of a node whose processes are killed and stopped keep the store's promises (ST1,
    ST2, ST4, ST7, ST8)."""
    kinds = (Fault.KILL_STOREKEEPER, Fault.KILL_WORKER, Fault.PAUSE_STOREKEEPER)
    plan = Plan(operations=150, kills=2, seed=SEED, kinds=kinds)
    report = await run(FolderSystem(tmp_path), plan)
    print(report)
    assert report.violations == []
    assert report.faults == dict.fromkeys(kinds, 1)
    assert report.operations >= plan.operations
    assert {"PUT DONE", "PUT CONDITION_FAILED", "DECRYPT DONE", "REVOKE DONE"} <= set(
        report.answers
    )


def test_a_disk_is_mounted_after_nobody_has_it(tmp_path: Path) -> None:
    """A process in another mount namespace does not keep the disk without power."""
    if not can_mount(tmp_path):
        pytest.skip(NO_DISK)
    disk = FaultyDisk(tmp_path)
    disk.mount()
    other = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None and other.stdout.readline()
    disk.cut_power()
    with ThreadPoolExecutor() as pool:
        unmounting = pool.submit(disk.unmount)
        until(lambda: not disk.place.is_mount())
        assert not unmounting.done()
        other.communicate()
        unmounting.result()
    disk.mount()
    (disk.place / "written").write_text("after the power cut")
    disk.unmount()


async def test_a_power_cut(tmp_path: Path) -> None:
    """Histories of a node whose disk loses its power keep the store's promises."""
    if not can_mount(tmp_path):
        pytest.skip(NO_DISK)
    plan = Plan(operations=80, kills=1, seed=SEED, kinds=(Fault.POWER,))
    report = await run(DiskSystem(tmp_path), plan)
    print(report)
    assert report.violations == []
    assert report.faults == {Fault.POWER: 1}
