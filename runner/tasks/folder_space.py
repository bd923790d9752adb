"""Reservation of space below the folder for tasks (RN249).

A data set states its size, so a download begins only if there is room for it. Otherwise downloads
that cannot end would fill the folder, which is in memory, until other tasks fail.

Example:
    with space.reserve(payer, record.size_bytes):
        await fetch_dataset(...)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.shares import Payer

from ..reasons import RunRefused
from .stage_errors import StageFailed


class FolderSpace:
    """The free space of a folder, less what downloads have reserved.

    An unknown payer's data set may take half of what is free.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reserved_bytes = 0

    @contextmanager
    def reserve(self, payer: Payer, size_bytes: int) -> Iterator[None]:
        """Reserve space for a download until the `with` block ends.

        What has arrived is counted twice meanwhile, as reserved and as used.

        Raises:
            StageFailed: the folder is too small, even when it is empty.
            RunRefused: `runner-busy`: other tasks use the space now.
        """
        status = os.statvfs(self._root)
        divisor = 1 if payer.is_known else 2
        most_bytes = status.f_blocks * status.f_frsize // divisor
        free_bytes = (status.f_bavail * status.f_frsize - self._reserved_bytes) // divisor
        if size_bytes > most_bytes:
            raise StageFailed(
                "PRE_COMPUTE_SAVING_PLAIN_DATASET_FAILED",
                f"the data set has {size_bytes} bytes; this runner has room for {most_bytes}",
            )
        if size_bytes > free_bytes:
            raise RunRefused(
                "runner-busy", f"the data set has {size_bytes} bytes; {max(free_bytes, 0)} are free"
            )
        self._reserved_bytes += size_bytes
        try:
            yield
        finally:
            self._reserved_bytes -= size_bytes
