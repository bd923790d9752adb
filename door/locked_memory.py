"""Locking of a process's memory, so that values are not written to a swap device.

Linux only: system calls and `/proc`.
"""

import ctypes
import resource
from pathlib import Path

_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4  # locks what is used, not what is only reserved
_CAP_IPC_LOCK = 14
_STATUS = Path("/proc/self/status")


def lock_memory() -> bool:
    """Lock this process's memory, and return whether that was possible.

    With a limit on locked memory, nothing is locked: every later allocation beyond the limit would
    fail.
    """
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft_limit != resource.RLIM_INFINITY and not _may_exceed_limit():
        return False
    flags = _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT
    c_library = ctypes.CDLL(None, use_errno=True)
    return bool(c_library.mlockall(flags) == 0)


def _may_exceed_limit() -> bool:
    """Return whether this process has the capability to lock more memory than the limit."""
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False
