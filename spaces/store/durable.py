"""Helpers for durable file writes: folder sync and out-of-space error codes."""

import errno
import os
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The `errno` values of a write that failed for lack of space."""


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of a folder to disk. This call blocks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
