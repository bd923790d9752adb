"""Syncing folders to disk, and the error numbers of a full disk."""

import errno
import os
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write for which there is no free space."""


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of a folder to disk. This call blocks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
