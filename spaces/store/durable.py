"""Helpers for durable file writes."""

import errno
import os
import shutil
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The `errno` values of a write that failed for lack of space."""


RESERVE_BYTES = 256 * 1024 * 1024
"""Free disk below which no large value is stored; rows are refused at a quarter of it."""

FREE_SPACE = "free space on that disk, or move the folder to a larger disk"


def low_space(folder: Path, needed_bytes: int = RESERVE_BYTES, *, name: str = "") -> str:
    """Return a message if the disk of a folder has too little free space, otherwise "".

    `name` replaces the folder's path.
    """
    # A node on a database may have no data folder.
    free_bytes = shutil.disk_usage(folder).free if folder.is_dir() else needed_bytes
    if free_bytes >= needed_bytes:
        return ""
    return (
        f"the disk of {name or folder} is nearly full: {free_bytes >> 20} MiB are free, but"
        f" {needed_bytes >> 20} MiB are needed to store values"
    )


def sync_folder(folder: Path) -> None:
    """Sync a folder's directory entries to disk.

    This call blocks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
