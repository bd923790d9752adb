"""Landlock, by which a process restricts itself to folders."""

import ctypes
import os
import struct

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_RIGHTS = {"input": 0xC, "output": 0x61BE}
"""Landlock's rights to the folders of a task.

0xC is to read files (0x4) and folders (0x8). The others are to write files (0x2), to remove folders
(0x10) and files (0x20), to make folders (0x80) and files (0x100), to move both (0x2000), and to
truncate files (0x4000). Not granted are the rights to execute (0x1), and to make devices (0x40,
0x800), sockets (0x200), pipes (0x400) or links (0x1000).
"""
_libc = ctypes.CDLL(None, use_errno=True)


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
