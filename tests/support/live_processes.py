"""The running processes of this machine.

All of it may be called while processes and threads start and end.
"""

import os
import select
from contextlib import suppress
from pathlib import Path

import pytest

looks_inside = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root looks into a process that is not dumpable"
)
"""The mark of tests that read open files, memory or environment of such a process in `/proc`."""


def processes_that_name(folder: Path) -> list[str]:
    """Return the command lines of running processes that contain a folder's name."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines


def started_by(process: int) -> list[int]:
    """Return the child processes of a process, of all its threads; none if it has ended."""
    found = list[int]()
    with suppress(FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
        for task in os.listdir(f"/proc/{process}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
                listed = Path(f"/proc/{process}/task/{task}/children").read_text()
                found += map(int, listed.split())
    return found


def has_ended(process: int, within_s: float) -> bool:
    """Wait until a process has ended; return False on a timeout."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return is_readable(watched, within_s)
    finally:
        os.close(watched)


def is_readable(descriptor: int, within_s: float) -> bool:
    """Wait until a descriptor can be read without waiting; return False on a timeout.

    A process that has many nodes has descriptors above 1,023, which `select()` refuses.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(within_s * 1000))


def takes_output(descriptor: int) -> bool:
    """Return whether a pipe or terminal takes output without waiting."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    return bool(room.poll(0))
