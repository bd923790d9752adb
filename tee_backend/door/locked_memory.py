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

    With a limit on locked memory, every later allocation beyond it would fail, so nothing is locked
    then.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and not _may_lock_all():
        return False
    flags = _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT
    return bool(ctypes.CDLL(None, use_errno=True).mlockall(flags) == 0)


def _may_lock_all() -> bool:
    """Return whether the limit does not apply to this process."""
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False
