"""Landlock, by which a process restricts itself to some files and folders.

Linux only: a security module of its kernel.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Mapping

# Rights to what is below a folder, or to one file. Nobody gets the others: to execute (0x1), and to
# make devices (0x40, 0x800), sockets (0x200), pipes (0x400) or symbolic links (0x1000).
WRITE_FILE = 0x2
READ_FILE = 0x4
READ_FOLDER = 0x8
REMOVE_FOLDER = 0x10
REMOVE_FILE = 0x20
MAKE_FOLDER = 0x80
MAKE_FILE = 0x100
MOVE = 0x2000
TRUNCATE = 0x4000

# The number of rights that versions 1 to 5 know. They are the lowest bits of a mask.
_KNOWN_RIGHTS = (13, 14, 15, 15, 16)

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_BELOW_PATH = 1
_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has; -1 if it has none."""
    return int(_libc.syscall(_LANDLOCK_CREATE, None, 0, 1))


def restrict_to(paths: Mapping[str, int]) -> None:
    """Restrict this thread, and those that it starts, to paths with these rights (TG4).

    Call it after `no_new_privs` is set. Raises OSError if it fails, and FileNotFoundError if a path
    does not exist.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # All rights that the kernel knows are forbidden, except those of the rules below.
    version = min(landlock_version(), len(_KNOWN_RIGHTS))
    handled = (1 << _KNOWN_RIGHTS[version - 1]) - 1
    attributes = struct.pack("=Q", handled)
    ruleset = _libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    for path, rights in paths.items():
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", rights & handled, descriptor)
        _libc.syscall(_LANDLOCK_ADD, ruleset, _BELOW_PATH, rule, 0)
        os.close(descriptor)
    # Only this call is checked. It fails if the ruleset was not made. If a rule was not added, its
    # path stays forbidden, so the process has fewer rights and not more.
    if _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "cannot restrict a process to its files")
    os.close(ruleset)
