"""Helpers for durable file writes."""

import errno
import os
import shutil
from pathlib import Path
from sys import maxsize

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The `errno` values of a write that failed for lack of space."""


RESERVE_BYTES = 256 * 1024 * 1024
"""Free disk below which no large value is stored."""

STORE_RESERVE_BYTES = RESERVE_BYTES // 4
"""Free disk below which not every commit is accepted (ST17)."""

_REFUSED_BELOW = {
    RESERVE_BYTES: "values of over 64 KiB are refused",
    STORE_RESERVE_BYTES: "everything but small values and changes is refused",
    STORE_RESERVE_BYTES // 2: "writes are refused; revocations and reads, of secrets too, go on",
    STORE_RESERVE_BYTES // 4: "writes and reads of secrets are refused; revocations go on",
    STORE_RESERVE_BYTES // 8: "writes, reads of secrets and revocations are refused",
}
"""Free disk -> what is refused below it, largest first (spec/operations/running.md)."""

FREE_SPACE = "free space on that disk, or move the folder to a larger disk"


def free_space(folder: Path) -> tuple[int, int]:
    """Return the free bytes on the disk of a folder, and the lowest threshold above them.

    Without such a threshold, and for a folder that does not exist, it is the largest integer. A
    node on a database may have no data folder.
    """
    free_bytes = RESERVE_BYTES  # no threshold is above this
    if folder.is_dir():
        free_bytes = shutil.disk_usage(folder).free
    thresholds_bytes = [at for at in _REFUSED_BELOW if free_bytes < at]
    return free_bytes, min(thresholds_bytes, default=maxsize)


def low_space(folder: Path, *, name: str = "") -> str:
    """Return a message if the disk of a folder has too little free space, otherwise "".

    `name` replaces the folder's path.
    """
    free_bytes, needed_bytes = free_space(folder)
    refused = _REFUSED_BELOW.get(needed_bytes)
    if refused is None:
        return ""
    return (
        f"the disk of {name or folder} is nearly full: {free_bytes >> 20} MiB are free; below"
        f" {needed_bytes >> 20} MiB {refused}"
    )


def sync_folder(folder: Path) -> None:
    """Sync a folder's directory entries to disk.

    This call blocks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
