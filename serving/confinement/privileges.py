"""Privileges of a process, and what other processes can see of it.

Linux only: system calls.
"""

import ctypes
import errno
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def confine(uid: int | None, parent: int) -> None:
    """Drop the privileges of this process.

    Raises OSError if one of these steps fails.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if uid is not None:  # a child can signal and trace no process of another uid (RN20)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    # no program that it could execute gives it privileges (RN21)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # After the change of uid, because the kernel resets both settings when a uid changes.
    undump()
    # the kernel kills this process when its parent dies; nobody else would end it (RN22)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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
