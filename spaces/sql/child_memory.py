"""How much memory a child process uses, as it reports itself to the keeper that started it.

The keeper cannot read it itself: where other processes are hidden below `/proc` (systemd's
`ProtectProc=invisible`), those that cannot be dumped are hidden from their parent too. A child that
somebody controls can report less than it uses, and is limited by the kernel all the same.
"""

import mmap
import os
import struct

_NUMBER = struct.Struct("=Q")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class MemoryReport:
    """A number in memory that a process shares with a child that it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _NUMBER.size)
        self._statm = -1

    @property
    def bytes(self) -> int:
        """The number of bytes that the child reported last, or 0 before its first report."""
        (size_bytes,) = _NUMBER.unpack_from(self._shared)
        return int(size_bytes)

    def open_source(self) -> None:
        """Open the file that `update` reads. A confined child can no longer open it."""
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def update(self) -> None:
        """Report the private memory of this process, which is the child."""
        _, resident_pages, shared_pages, *_ = os.pread(self._statm, 256, 0).split()
        private_pages = int(resident_pages) - int(shared_pages)
        _NUMBER.pack_into(self._shared, 0, private_pages * _PAGE_BYTES)

    def close(self) -> None:
        """Release the shared memory."""
        self._shared.close()
