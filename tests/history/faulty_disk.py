"""A disk that loses its power or runs full: ext4 in an image on a loop device.

Power is cut by the ioctl of ext4 that ends a mount without writing its journal. What was not synced
is then only in memory, and is dropped with the mount. The next mount replays the journal, as after
a power cut. The device itself keeps all that was written to it, so a disk that acknowledges a flush
and loses it is not simulated.

Mounting needs root.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from running_node import until

SIZE_BYTES = 192 << 20
NO_DISK = "mounting an ext4 image on a loop device needs root, mkfs.ext4 and a loop device"
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN of <linux/ext4.h>
_WITHOUT_JOURNAL = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
_BALLAST = "ballast"
_STEP_BYTES = 4096


class FaultyDisk:
    """An ext4 file system in an image, which is made when the disk is mounted first.

    Attributes:
        place: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self._image = folder / "disk.img"

    def mount(self) -> None:
        """Mount the file system; a journal that is left is replayed."""
        if not self._image.exists():
            with self._image.open("wb") as image:
                image.truncate(SIZE_BYTES)
            # without the share of blocks that only root may use, and complete at once
            _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", str(self._image))
        self.place.mkdir(exist_ok=True)
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        """Unmount the file system once no process uses it.

        Another process that has a mount namespace of its own may still have the file system
        mounted. A mount would find it there as it is: without power, if that was cut.
        """
        until(lambda: _ends_with_success("umount", str(self.place)))
        until(lambda: not self._has_device())

    def _has_device(self) -> bool:
        """Return whether a loop device still has the image."""
        told = subprocess.run(
            ["losetup", "--associated", str(self._image)], check=True, capture_output=True
        )
        return bool(told.stdout)

    def cut_power(self) -> None:
        """Drop what was not synced. Every later write fails until the next mount."""
        folder = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _WITHOUT_JOURNAL))
        finally:
            os.close(folder)

    def fill(self, *, left_bytes: int) -> None:
        """Take all space but some."""
        with (self.place / _BALLAST).open("wb") as ballast:
            while (more_bytes := shutil.disk_usage(self.place).free - left_bytes) >= _STEP_BYTES:
                size_bytes = os.fstat(ballast.fileno()).st_size
                try:
                    os.posix_fallocate(ballast.fileno(), size_bytes, min(more_bytes, 8 << 20))
                except OSError:  # what is free cannot all be allocated
                    return

    def empty(self) -> None:
        """Give the space back."""
        (self.place / _BALLAST).unlink(missing_ok=True)


def can_mount(folder: Path) -> bool:
    """Return whether this machine mounts such a disk."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    disk = FaultyDisk(folder)
    try:
        disk.mount()
    except subprocess.CalledProcessError:
        return False
    disk.unmount()
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _ends_with_success(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
