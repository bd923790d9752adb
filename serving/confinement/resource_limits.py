"""Resource limits of a process, which the kernel enforces.

Linux only: the memory of a process is read in `/proc`.
"""

import os
import resource

# The place of the private memory, in pages, among the numbers in `/proc/self/statm`.
_DATA_PAGES_FIELD = 5


def limit(*, files: int, file_bytes: int | None, threads: int | None = 0) -> None:
    """Set the resource limits of this process (RN24, TG6).

    The limits restrict open files and the length of each file, and forbid new processes and
    threads. With None, a limit stays as it is.
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


def open_statm() -> int:
    """Open `/proc/self/statm` for later calls of `limit_data` (RN181).

    Later, this process cannot open files.
    """
    return os.open("/proc/self/statm", os.O_RDONLY)


def limit_data(statm: int, more_bytes: int, hard_bytes: int) -> None:
    """Limit the private memory of this process (RN24).

    The process may use `more_bytes` more than now, but at most `hard_bytes` in total.
    """
    fields = os.pread(statm, 100, 0).split()
    now_bytes = int(fields[_DATA_PAGES_FIELD]) * resource.getpagesize()
    soft_bytes = min(now_bytes + more_bytes, hard_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (soft_bytes, hard_bytes))


def limit_cpu(more_s: int) -> None:
    """Limit the remaining CPU time of this process (RN24).

    After `more_s` further seconds, rounded up, the kernel kills the process.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft_s = int(used.ru_utime + used.ru_stime) + 1 + more_s  # the used time is rounded up
    _, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft_s, hard_s))
