"""The system calls that each kind of child process may make (RN180, RN181, TG5).

They were found by running the tests of each kind under their filter, with Python 3.11 and glibc
2.36 on x86-64. Added are those that other versions of Python, glibc, musl and wasmtime make in the
same places. The lists for arm64 are derived and not measured: they have the same names, without the
calls that arm64 never had, and with the calls that its C libraries make instead, such as `ppoll`
for `poll`. So each list is a little longer than what one machine needs.

Not listed is what these libraries can do without. They try it and go on after ENOSYS: `clone3`
instead of `clone`; `memfd_create`, `pkey_alloc` and `io_uring_setup`; `prctl`, by which threads get
a name; and `ioctl`, by which Python asks whether a file is a terminal.
"""

import errno
import fcntl

from .system_calls import ALLOWED, OWN_PROCESS, CallList, IfBit, IfEqual, Refused, Verdict

_CLONE_THREAD = 0x10000


def _allowed(*groups: tuple[str, ...]) -> dict[str, Verdict]:
    """Return the calls of all groups, as allowed."""
    calls = dict[str, Verdict]()
    for group in groups:
        for name in group:
            calls[name] = ALLOWED
    return calls


# `newfstatat` and `statx` without a path are the `fstat` of some C libraries. With a path they
# also tell whether a file exists.
_BYTES = (
    "read",
    "readv",
    "write",
    "writev",
    "pread64",
    "close",
    "fstat",
    "newfstatat",
    "statx",
)
_CONNECTION = (
    "recvfrom",
    "recvmsg",
    "sendto",
    "poll",
    "ppoll",
)
# `membarrier`: without it, wasmtime loads no program on arm64.
_MEMORY = (
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "membarrier",
)
_THREAD = (
    "futex",
    "set_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
    "getpid",
)
# `restart_syscall` is made by the kernel, when a process that was stopped goes on to wait.
_SIGNALS = (
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "restart_syscall",
)
_TIME = (
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "nanosleep",
    "clock_nanosleep",
    "getrusage",
)
_OTHER = (
    "getrandom",
    "exit",
    "exit_group",
)
_EVERY_CHILD: dict[str, Verdict] = {
    **_allowed(_BYTES, _CONNECTION, _MEMORY, _THREAD, _SIGNALS, _TIME, _OTHER),
    # `abort` signals its own process: glibc by `tgkill`, musl by `tkill`.
    "tgkill": IfEqual(0, (OWN_PROCESS,)),
    "tkill": IfEqual(0, (OWN_PROCESS,)),
    # The error of the resource limit (RN24), after which wasmtime goes on without a thread.
    "clone": Refused(errno.EAGAIN),
}
_OWN_LIMITS: dict[str, Verdict] = {"prlimit64": IfEqual(0, (0,))}
# With PermissionError, Python takes a module for missing; after another error it cannot import.
_NO_FILES: dict[str, Verdict] = {"open": Refused(errno.EPERM), "openat": Refused(errno.EPERM)}

COMPILE_CHILD = CallList({**_EVERY_CHILD, **_OWN_LIMITS, **_NO_FILES})
"""Calls of a child that compiles, once it is ready."""

BODY_CHILD = CallList({**_EVERY_CHILD, **_OWN_LIMITS, **_NO_FILES})
"""Calls of a child that separates a request body, once it is ready."""

PROVENANCE_CHILD = CallList({**_EVERY_CHILD, **_OWN_LIMITS, **_NO_FILES})
"""Calls of a child that verifies a provenance bundle, once it is ready."""

# wasmtime's helper thread waits for events, and was started before.
_EVENTS = (
    "epoll_wait",
    "epoll_pwait",
)

RUN_CHILD = CallList({**_EVERY_CHILD, **_OWN_LIMITS, **_NO_FILES, **_allowed(_EVENTS)})
"""Calls of a child that runs programs, once it is ready."""

# What WASI needs. Landlock says which files (TG4).
_FILES_OF_TASK = (
    "openat",
    "openat2",
    "readlinkat",
    "getdents64",
    "lseek",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fadvise64",
    "fsync",
    "fdatasync",
    "mkdirat",
    "unlinkat",
    "renameat",
    "renameat2",
)
# A program asks for these, and is told that they are not permitted.
_REFUSED_TO_TASK = (
    "linkat",
    "symlinkat",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchownat",
    "utimensat",
)

TASK_CHILD = CallList(
    {
        **_EVERY_CHILD,
        **_OWN_LIMITS,
        **_allowed(_EVENTS, _FILES_OF_TASK),
        **dict.fromkeys(_REFUSED_TO_TASK, Refused(errno.EPERM)),
        "fcntl": IfEqual(1, (fcntl.F_GETFL,)),  # listing a folder reads its flags
        "clone": IfBit(argument=0, bit=_CLONE_THREAD, error=errno.EAGAIN),
    }
)
"""Calls of a task's child, once it is ready (TG5)."""

_FORKING = (
    "clone",
    "tgkill",
    "tkill",
    "setsid",
    "getppid",
    "uname",
    "sysinfo",
)
_PATHS = (
    "open",
    "openat",
    "openat2",
    "stat",
    "lstat",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "chdir",
    "chmod",
    "fchmodat",
    "fchmodat2",
)
_DESCRIPTORS = (
    "fcntl",
    "ioctl",
    "dup",
    "dup2",
    "dup3",
    "lseek",
    "epoll_create1",
    "epoll_ctl",
    "eventfd2",
    "getsockname",
    "getsockopt",
)
_PRIVILEGES = (
    "getpriority",
    "setpriority",
    "setgroups",
    "setresgid",
    "setresuid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "prctl",
    "setrlimit",
    "getrlimit",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
)

STARTING = CallList(
    {
        **COMPILE_CHILD.calls,
        **RUN_CHILD.calls,
        **TASK_CHILD.calls,
        **_allowed(_FORKING, _PATHS, _DESCRIPTORS, _PRIVILEGES),
    }
)
"""Calls of the template, and of its children until they are ready."""

_FILES_OF_SQL = (
    "open",
    "openat",
    "stat",
    "lstat",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "lseek",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "fchmod",
    "fchown",
    "unlink",
    "unlinkat",
    "geteuid",
    "getsockname",
    "getsockopt",
    "sendmsg",
)
_LOCKS = (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW)
_OWN_DESCRIPTORS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)

SQL_CHILD = CallList(
    {
        **_EVERY_CHILD,
        **_OWN_LIMITS,  # it limits the length of a log
        **_allowed(_FILES_OF_SQL),
        # Not F_SETOWN and F_SETSIG, by which the kernel signals another process.
        "fcntl": IfEqual(1, (*_LOCKS, *_OWN_DESCRIPTORS)),
    }
)
"""Calls of a child that runs SQL statements."""
