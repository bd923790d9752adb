"""What the processes of a node have used so far: CPU time and memory, as the kernel counts them."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Used:
    """Sums over a process and everything below it.

    Attributes:
        cpu_s: user and system time, in steps of one clock tick (mostly 10 ms) for each process.
        rss_bytes: resident memory; pages that processes share count once for each of them.
    """

    cpu_s: float
    rss_bytes: int


def used_by(pid: int) -> Used:
    """Return what a process and its descendants have used."""
    family = list(_family(pid))
    return Used(sum(map(_cpu_s, family)), sum(map(_rss_bytes, family)))


def _family(pid: int) -> list[int]:
    """Return a process and its descendants; a child belongs to the thread that started it."""
    found, waiting = [], [pid]
    while waiting:
        found.append(one := waiting.pop())
        for task in Path(f"/proc/{one}/task").iterdir():
            waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def _cpu_s(pid: int) -> float:
    # Behind the name in brackets: user and system time are the 14th and 15th field of the line.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
