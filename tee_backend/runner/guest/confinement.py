"""What a child gives up before it sees a program: its uid, privileges, files, processes and core
dumps.

A child calls this after everything is imported that will be: it may be unable to read the files
afterwards.
"""

import ctypes
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
_MOST_FILES: Final = 16
"""Open at one time: a connection, what comes over it, and what wasmtime's threads wait with."""
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(uid: int | None, parent: int) -> None:
    """Give up what no guest needs, and take a uid of its own if the parent has one for it; OSError
    where that fails."""
    if uid is not None:  # RN20
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # RN21
    # After the uid: a change of it takes both back. A child that is not dumpable is closed to
    # others of its uid.
    undump()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # RN22
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def name(of_process: str) -> None:
    """Name this process in lists of processes, in at most 15 bytes."""
    _libc.prctl(_PR_SET_NAME, of_process.encode(), 0, 0, 0)


def undump() -> None:
    """Make this process's memory unreadable to other processes of its uid, and without core dumps
    (RN23)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def limit(file_bytes: int) -> None:
    """Bound the files that a process has and writes; it starts no process and no thread from here
    on (RN24)."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        resource.setrlimit(kind, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def open_statm() -> int:
    """Open the kernel's account of this process's memory, for `limit_data`: nothing can be opened
    later (RN181)."""
    return os.open("/proc/self/statm", os.O_RDONLY)


def limit_data(statm: int, more_bytes: int, hard_bytes: int) -> None:
    """Bound private writable memory to what there is now and `more_bytes`; the hard limit never
    rises (RN24)."""
    now = int(os.pread(statm, 100, 0).split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (min(now + more_bytes, hard_bytes), hard_bytes))


def limit_cpu(more_s: int) -> None:
    """Bound processor time to what was used and `more_s` seconds; beyond, the kernel ends the
    process (RN24)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + more_s
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
