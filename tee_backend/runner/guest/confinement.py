"""Confinement of child processes, with fewer privileges and limited resources.

A child imports everything it needs before it confines itself. Afterwards it may be unable to read
the files of its modules.
"""

import ctypes
import os
import resource
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_MOST_FILES = 16
"""Open files of a child: its connection, files received over it, and those of wasmtime."""
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_RIGHTS = {"input": 0xC, "output": 0x61BE}
"""Landlock's rights to the folders of a task.

0xC is to read files (0x4) and folders (0x8). The others are to write files (0x2), to remove folders
(0x10) and files (0x20), to make folders (0x80) and files (0x100), to move both (0x2000), and to
truncate files (0x4000). Not granted are the rights to execute (0x1), and to make devices (0x40,
0x800), sockets (0x200), pipes (0x400) or links (0x1000).
"""
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(uid: int | None, parent: int) -> None:
    """Drop the privileges of this process.

    Raises OSError if one of these steps fails.
    """
    if uid is not None:  # RN20
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # RN21
    # After the change of uid, because the kernel resets both settings when a uid changes.
    undump()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # RN22
    if os.getppid() != parent:  # the parent died before the line above, so no signal would come
        os._exit(1)


def name(of_process: str) -> None:
    """Set the process name that tools such as `ps` show.

    A name has at most 15 bytes.
    """
    _libc.prctl(_PR_SET_NAME, of_process.encode(), 0, 0, 0)


def undump() -> None:
    """Disable core dumps and debugging of this process (RN23).

    Other processes of the same uid then cannot read its memory.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def limit(file_bytes: int, files: int = _MOST_FILES, threads: int | None = 0) -> None:
    """Set the resource limits of this process (RN24, TG6).

    The limits restrict files, and forbid new processes and threads. With None, the number of
    threads stays as it is.
    """
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NPROC, threads),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, file_bytes),
    ):
        if most is not None:
            resource.setrlimit(kind, (most, most))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has; -1 if it has none."""
    return int(_libc.syscall(_LANDLOCK_CREATE, None, 0, 1))


def restrict_to_folders() -> None:
    """Restrict this thread, and those that it starts, to the folders of a task (TG4).

    They are `input` and `output` in the current folder. Raises OSError if it fails.
    """
    # Version 1 has 13 rights, and versions 2, 3 and 5 have one more each.
    handled = (1 << (13, 14, 15, 15, 16)[min(landlock_version(), 5) - 1]) - 1
    ruleset = _libc.syscall(_LANDLOCK_CREATE, struct.pack("=Q", handled), 8, 0)
    for folder, rights in _RIGHTS.items():
        rule = struct.pack("=Qi", rights & handled, os.open(folder, os.O_PATH))
        _libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
    # Fails without a ruleset. Without a rule, the process reaches less.
    if _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "cannot restrict a task to its folders")


def open_statm() -> int:
    """Open `/proc/self/statm` for later calls of `limit_data` (RN181).

    Later, this process cannot open files.
    """
    return os.open("/proc/self/statm", os.O_RDONLY)


def limit_data(statm: int, more_bytes: int, hard_bytes: int) -> None:
    """Limit the private memory of this process (RN24).

    The process may use `more_bytes` more than now, but at most `hard_bytes` in total.
    """
    now = int(os.pread(statm, 100, 0).split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (min(now + more_bytes, hard_bytes), hard_bytes))


def limit_cpu(more_s: int) -> None:
    """Limit the remaining CPU time of this process (RN24).

    After `more_s` further seconds, rounded up, the kernel kills the process.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + more_s
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
