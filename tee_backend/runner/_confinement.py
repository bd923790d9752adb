"""What a child gives up before it sees a program: its uid, privileges, files, processes and core dumps.

Runs in children only, after everything is imported that will be; imports nothing of this project.
"""

import ctypes
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(uid: int | None, parent: int) -> None:
    """Give up what no guest needs; each step that fails ends the child, because the exception does.

    Args:
        uid: of this child alone, where the parent is root; else None, and the child keeps the parent's.
        parent: process id of the parent.
    """
    if uid is not None:  # RN20
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # RN21
    # After the uid: a change of it takes both back. A child that is not dumpable is closed to others of its uid.
    undump()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # RN22
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def undump() -> None:
    """Make this process's memory unreadable to other processes of its uid, and without core dumps (RN23)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def limit(files: int, file_bytes: int) -> None:
    """Bound what a process may open, write and start (RN24).

    Args:
        files: open files at one time.
        file_bytes: longest file that it writes.
    """
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),  # no process and no further thread
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (most, most))


def limit_data(more_bytes: int, hard_bytes: int) -> None:
    """Bound private writable memory to what there is now and `more_bytes`; the hard limit never rises (RN24)."""
    now = _data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (min(now + more_bytes, hard_bytes), hard_bytes))


def limit_cpu(more_s: int) -> None:
    """Bound processor time to what was used and `more_s` seconds; beyond, the kernel ends the process (RN24)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + more_s
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _data_bytes() -> int:
    with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123  # pathlib is not imported for one line
        return int(stream.read().split()[5]) * resource.getpagesize()
