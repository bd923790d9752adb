"""CPU time and memory of the processes of a node, as the kernel counts them."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The clock of a whole process, threads that have ended included (clock_getcpuclockid in the C
# library).
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Used:
    """The resources that a process and everything below it have used.

    Attributes:
        cpu_s: user and system time of each process by its id, in nanoseconds' resolution.
        rss_bytes: resident memory together; pages that processes share count once for each of them.
        private_bytes: resident memory that no file backs, together: without the store's pages,
            which are the kernel's.
    """

    cpu_s: Mapping[int, float]
    rss_bytes: int
    private_bytes: int

    def since(self, before: "Used") -> "dict[int, float]":
        """Return the CPU seconds of each process since an earlier look; one that came meanwhile
        counts whole."""
        return {pid: cpu_s - before.cpu_s.get(pid, 0.0) for pid, cpu_s in self.cpu_s.items()}


def used_by(*pids: int) -> Used:
    """Return what these processes and their descendants have used; what has ended is not among
    them."""
    cpu_s: dict[int, float] = {}
    resident = shared = 0
    for one in [member for pid in pids for member in family(pid)]:
        with suppress(OSError):  # it may end while it is looked at
            pages = _pages(one)
            cpu_s[one] = _cpu_s(one)
            resident, shared = resident + pages[0], shared + pages[1]
    return Used(cpu_s, resident * _PAGE_BYTES, (resident - shared) * _PAGE_BYTES)


def family(pid: int) -> list[int]:
    """Return a process and its descendants; a child belongs to the thread that started it."""
    found, waiting = [], [pid]
    while waiting:
        found.append(one := waiting.pop())
        with suppress(OSError):  # a process or thread may end while it is looked at
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def _cpu_s(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def _pages(pid: int) -> tuple[int, int]:
    """Return the pages of a process that are resident, and those of them that belong to files."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]), int(fields[2])
