"""The folder that a runner uses for tasks by default, and whether this machine has it in memory."""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

TASK_MEMORY = Path("/dev/shm")
needs_task_memory = pytest.mark.skipif(
    not os.access(TASK_MEMORY, os.W_OK), reason="/dev/shm is missing, or cannot be written"
)
"""Marks tests that make folders there; where semaphores are not allowed, it is often closed."""


def fast_folder() -> Path | None:
    """Return a folder in memory for stores of tests that sync often, or None without one."""
    return TASK_MEMORY if os.access(TASK_MEMORY, os.W_OK) else None


@cache
def has_task_memory() -> bool:
    """Return whether a runner may use `/dev/shm` for tasks on this machine.

    `stat` answers, because the product's own check is what tests judge. In a chroot, mounts
    outside are not listed, but `stat` sees the file system.
    """
    if not os.access(TASK_MEMORY, os.W_OK):
        return False
    asked = subprocess.run(
        ["stat", "--file-system", "--format=%T", TASK_MEMORY],
        check=True,
        capture_output=True,
        text=True,
    )
    swap_areas = Path("/proc/swaps").read_text().count("\n") - 1  # below a line of titles
    return swap_areas == 0 and asked.stdout.strip() in ("tmpfs", "ramfs")
