"""An unsynced LMDB environment that processes of one machine write through the map itself, with no call of the kernel.

Writing through a map saves the kernel's part of a transaction, four writes of pages, and has one danger: where the disk
has no block left for a page, the process that touches the page is ended (SIGBUS). So nobody maps a byte that was not
allocated before. The file starts small and grows in steps; whoever finds it full makes room, the others follow.

The file's size is the map's size in every process that grew or opened last, and never shrinks. LMDB cuts a file to the
map of whoever maps it, so looking at the size and mapping it are one step under a lock on the file.

A process that is killed in a transaction leaves pages that nothing refers to; one that is killed while the file grows
leaves a longer file. Allocated blocks hold what they promise only where files are overwritten in place: elsewhere, as
on file systems that write each block anew, the environment is written by calls of the kernel.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

import lmdb

from ...errors import StoreFull, StoreUnavailable

MOST_BYTES: Final = 64 << 30
FIRST_BYTES: Final = 256 << 10
_STEP_BYTES: Final = 64 << 20
# Not xfs: a copy of the folder may share blocks with it, which are then written anew.
_OVERWRITE_IN_PLACE: Final = frozenset({"ext4", "tmpfs"})
_NOT_OFFERED: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SharedMap:
    """One environment and the size of its file. Each process opens it once; its transactions and `grow` take turns."""

    def __init__(self, place: Path) -> None:
        """Open the environment in a folder, making it when it is new.

        Raises:
            StoreFull: the disk has no room for the file.
            StoreUnavailable: it does not open.
        """
        self._file = place / "data.mdb"
        with self._held() as descriptor:
            size_bytes = _allocated(descriptor, place)
            self._mapped_bytes = size_bytes or MOST_BYTES
            self.env = _open(place, self._mapped_bytes, writemap=size_bytes > 0)

    def grow(self) -> None:
        """Make room for more pages, or take up the room that another process made; no transaction may be open.

        Raises:
            StoreFull: there is none, on the disk or below the bound.
            StoreUnavailable: the file cannot be extended or mapped.
        """
        if self._mapped_bytes >= MOST_BYTES:
            raise StoreFull("the environment has reached its bound")
        with self._held() as descriptor:
            size_bytes = _whole_pages(descriptor)
            if size_bytes <= self._mapped_bytes:
                size_bytes += _step_bytes(descriptor, size_bytes)
            os.posix_fallocate(descriptor, 0, size_bytes)
            try:
                self.env.set_mapsize(size_bytes)
            except lmdb.Error as exc:
                raise StoreUnavailable("the environment cannot be mapped") from exc
            self._mapped_bytes = size_bytes

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    @contextmanager
    def _held(self) -> Iterator[int]:
        """Hold the file against everybody who would map it meanwhile; give its descriptor."""
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StoreUnavailable("the environment's file does not open") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        except OSError as exc:
            raise _error_of(exc) from exc
        finally:
            os.close(descriptor)


def _error_of(exc: OSError) -> StoreFull | StoreUnavailable:
    if exc.errno in _NO_ROOM:
        return StoreFull("the disk has no room for the environment")
    return StoreUnavailable("the environment's file cannot be extended")


def _open(place: Path, map_bytes: int, *, writemap: bool) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(place),
            map_size=map_bytes,
            max_readers=512,
            max_spare_txns=1,
            readahead=False,
            sync=False,
            mode=0o600,
            writemap=writemap,
        )
    except lmdb.Error as exc:
        raise StoreUnavailable("the environment does not open") from exc


def _allocated(descriptor: int, place: Path) -> int:
    """Allocate the whole file, with room to begin in; return its size, or 0 where it must not be written as a map."""
    if not _is_overwritten_in_place(descriptor):
        return 0
    if os.fstat(descriptor).st_size == 0:
        _open(place, FIRST_BYTES, writemap=False).close()  # LMDB takes a file of zeros for a foreign one
    size_bytes = max(_whole_pages(descriptor), FIRST_BYTES)
    try:
        # All of it, for an earlier version wrote without allocating.
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as exc:
        if exc.errno in _NOT_OFFERED:
            return 0
        raise
    return size_bytes


def _whole_pages(descriptor: int) -> int:
    """Return the size of a file; an extension that failed may have left part of a page."""
    return os.fstat(descriptor).st_size // PAGESIZE * PAGESIZE


def _step_bytes(descriptor: int, size_bytes: int) -> int:
    """Return by how much a file of this size grows. The less disk is free, the less is taken."""
    disk = os.fstatvfs(descriptor)
    step_bytes = min(size_bytes, _STEP_BYTES, disk.f_bavail * disk.f_frsize // 4, MOST_BYTES - size_bytes)
    return max(step_bytes // FIRST_BYTES, 1) * FIRST_BYTES


def _is_overwritten_in_place(descriptor: int) -> bool:
    """Tell whether the kernel names a file system for this file of which that is known."""
    device = os.fstat(descriptor).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ", 3)[2:3] == [number]:
            return source.partition(" ")[0] in _OVERWRITE_IN_PLACE
    return False
