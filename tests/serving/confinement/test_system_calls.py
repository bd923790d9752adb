"""Filters of system calls: what each list allows, on both machines."""

import errno
import re
import signal
import struct
from pathlib import Path

import pytest

from serving.confinement.allowed_calls import (
    BODY_CHILD,
    COMPILE_CHILD,
    PROVENANCE_CHILD,
    RUN_CHILD,
    SQL_CHILD,
    STARTING,
    TASK_CHILD,
)
from serving.confinement.call_numbers import COLUMNS, NUMBERS
from serving.confinement.system_calls import ALLOWED, OWN_PROCESS, CallList, Refused, program

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LISTS = {
    "starting": STARTING,
    "run": RUN_CHILD,
    "compile": COMPILE_CHILD,
    "body": BODY_CHILD,
    "provenance": PROVENANCE_CHILD,
    "task": TASK_CHILD,
    "sql": SQL_CHILD,
}
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_EPERM, _EAGAIN, _ENOSYS = (0x00050000 | code for code in (errno.EPERM, errno.EAGAIN, errno.ENOSYS))
_X32 = 0x40000000

# By number on x86-64 and on arm64. No child needs them, and many were used to attack kernels.
_NEVER = {
    "modify_ldt": (154, None),
    "io_setup": (206, 0),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "execve": (59, 221),
    "execveat": (322, 281),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "memfd_create": (319, 279),
    "kill": (62, 129),
    "truncate": (76, 45),
    "shmget": (29, 194),
    "msgsnd": (69, 189),
    "mq_open": (240, 180),
    "timer_create": (222, 107),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
    "ioprio_set": (251, 30),
    "file_setattr": (469, 469),
}
# Also refused once a child is ready, except that of a task.
_LATER = {
    "openat2": (437, 437),
    "unlinkat": (263, 35),
    "renameat2": (316, 276),
    "mkdirat": (258, 34),
    "ftruncate": (77, 46),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "setresuid": (117, 147),
    "sendmsg": (46, 211),
    "chdir": (80, 49),
}
_NEEDED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "sigaltstack": (131, 132),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "newfstatat": (262, 79),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}


def _judged(code: bytes, architecture: int, number: int, first: int = 0, second: int = 0) -> int:
    """Return the verdict of a BPF program on a call, as the kernel would evaluate it."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, first, second, 0, 0, 0, 0)
    instructions, at, held = list(struct.iter_unpack("<HBBI", code)), 0, 0
    while True:
        operation, if_so, if_not, operand = instructions[at]
        at += 1
        if operation == 0x06:
            return int(operand)
        if operation == 0x20:
            (held,) = struct.unpack_from("<I", data, operand)
        else:
            compared = {0x15: held == operand, 0x35: held >= operand, 0x45: held & operand}
            at += if_so if compared[operation] else if_not


@pytest.fixture(params=list(COLUMNS))
def machine(request: pytest.FixtureRequest) -> str:
    """The machine architectures that have a filter."""
    return str(request.param)


@pytest.fixture(params=list(_LISTS))
def allowed(request: pytest.FixtureRequest) -> CallList:
    """The lists of allowed system calls."""
    return _LISTS[request.param]


def _numbers_of(machine: str, calls: dict[str, tuple[int | None, ...]]) -> set[int]:
    numbers = {numbers[COLUMNS[machine]] for numbers in calls.values()}
    return {number for number in numbers if number is not None}


def test_a_call_that_is_not_listed_does_not_exist(machine: str, allowed: CallList) -> None:
    """RN180, RN181, RN182: every system call that is not listed fails with ENOSYS."""
    architecture, code = _ARCHITECTURES[machine], program(allowed, machine)
    listed = {NUMBERS[name][COLUMNS[machine]]: name for name in allowed.calls}
    for number in range(1024):
        verdict = allowed.calls[listed[number]] if number in listed else Refused(errno.ENOSYS)
        found = _judged(code, architecture, number)
        if verdict == ALLOWED:
            assert found == _ALLOW, number
        elif isinstance(verdict, Refused):
            assert found == 0x00050000 | verdict.error, number
        assert _judged(code, architecture, number | _X32) == _ENOSYS
    assert _judged(code, architecture, 0xFFFFFFFF) == _ENOSYS


def test_what_no_child_may_do(machine: str, allowed: CallList) -> None:
    """RN180: system calls that attacks need are in no list."""
    architecture, code = _ARCHITECTURES[machine], program(allowed, machine)
    for number in _numbers_of(machine, dict(_NEVER)):
        assert _judged(code, architecture, number) == _ENOSYS, number


def test_what_a_ready_child_may_no_longer_do(machine: str) -> None:
    """RN181: a ready child can neither open nor change files, nor remove its filter."""
    architecture = _ARCHITECTURES[machine]
    open_at = {"x86_64": (2, 257), "aarch64": (56,)}[machine]
    for allowed in (RUN_CHILD, COMPILE_CHILD, BODY_CHILD):
        code = program(allowed, machine)
        for number in _numbers_of(machine, dict(_LATER)):
            assert _judged(code, architecture, number) == _ENOSYS, number
        assert {_judged(code, architecture, number) for number in open_at} == {_EPERM}


def test_what_every_child_needs(machine: str, allowed: CallList) -> None:
    """RN180, RN181: memory, signals, time and the connection remain usable."""
    architecture, code = _ARCHITECTURES[machine], program(allowed, machine)
    for number in _numbers_of(machine, dict(_NEEDED)):
        assert _judged(code, architecture, number) == _ALLOW, number


@pytest.mark.parametrize("ready", [RUN_CHILD, COMPILE_CHILD, BODY_CHILD, TASK_CHILD])
def test_a_ready_child_s_calls_are_allowed_before(ready: CallList) -> None:
    """RN180: the first filter allows every system call that the second filter allows."""
    for name, verdict in ready.calls.items():
        if not isinstance(verdict, Refused):
            assert STARTING.calls[name] in (ALLOWED, verdict), name


def test_what_a_child_does_to_itself_alone(machine: str, allowed: CallList) -> None:
    """RN181: a child signals and limits only its own process."""
    architecture, code = _ARCHITECTURES[machine], program(allowed, machine)
    signals, limits = ((234, 200), 302) if machine == "x86_64" else ((131, 130), 261)
    assert _judged(code, architecture, limits, 0) == _ALLOW
    assert _judged(code, architecture, limits, 1) == _EPERM
    if allowed is not STARTING:
        for number in signals:
            assert _judged(code, architecture, number, OWN_PROCESS) == _ALLOW
            others = {_judged(code, architecture, number, other) for other in (1, 0, 0xFFFFFFFF)}
            assert others == {_EPERM}


def test_processes_and_threads(machine: str) -> None:
    """RN24, TG5: a ready child starts no process; only that of a task starts threads."""
    architecture = _ARCHITECTURES[machine]
    clone = 56 if machine == "x86_64" else 220
    thread = 0x3D0F00  # as C libraries start one
    for name, allowed in _LISTS.items():
        code = program(allowed, machine)
        if name == "starting":
            assert _judged(code, architecture, clone, signal.SIGCHLD) == _ALLOW
            continue
        assert _judged(code, architecture, clone, signal.SIGCHLD) == _EAGAIN
        assert _judged(code, architecture, clone, thread & ~0x10000) == _EAGAIN
        expected = _ALLOW if name == "task" else _EAGAIN
        assert _judged(code, architecture, clone, thread) == expected


def test_what_a_task_s_child_may_do(machine: str) -> None:
    """TG5: a task's child opens, moves and removes files, but may not make links or change
    modes."""
    column, architecture = COLUMNS[machine], _ARCHITECTURES[machine]
    code = program(TASK_CHILD, machine)
    files = [(257, 56), (437, 437), (263, 35), (264, 38), (316, 276), (258, 34), (77, 46)]
    assert {_ALLOW} == {_judged(code, architecture, numbers[column]) for numbers in files}
    # linkat, symlinkat, fchmod, fchmodat, fchownat, utimensat
    refused = [(265, 37), (266, 36), (91, 52), (268, 53), (260, 54), (280, 88)]
    assert {_EPERM} == {_judged(code, architecture, numbers[column]) for numbers in refused}
    fcntl = (72, 25)[column]
    assert _ALLOW == _judged(code, architecture, fcntl, 7, 3)
    assert {_EPERM} == {_judged(code, architecture, fcntl, 3, each) for each in (0, 2, 4, 8, 1030)}


def test_what_an_sql_child_may_do_to_a_descriptor(machine: str) -> None:
    """An SQL child can lock files but cannot make the kernel send signals."""
    architecture, code = _ARCHITECTURES[machine], program(SQL_CHILD, machine)
    fcntl = 72 if machine == "x86_64" else 25
    lock, owner, signalled, flags = 6, 8, 10, 4
    assert _judged(code, architecture, fcntl, 3, lock) == _ALLOW
    refused = {_judged(code, architecture, fcntl, 3, what) for what in (owner, signalled, flags)}
    assert refused == {_EPERM}


def test_other_architectures(machine: str, allowed: CallList) -> None:
    """RN182: calls of another architecture end the process."""
    code = program(allowed, machine)
    others = {0x40000003, 0x40000028, 0, *_ARCHITECTURES.values()} - {_ARCHITECTURES[machine]}
    numbers = _numbers_of(machine, dict(_NEEDED))
    assert {_KILL} == {_judged(code, other, number) for other in others for number in numbers}


def test_every_number_is_used() -> None:
    """RN180: every system call in the table of numbers is in some list."""
    listed = {name for allowed in _LISTS.values() for name in allowed.calls}
    assert listed == set(NUMBERS)


_HEADERS = (
    (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+)\s+(\d+)"),
    (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
)
_GENERIC_NAMES = {"newfstatat": "fstatat"}
_NEWER = {"fchmodat2"}
"""Calls that headers of the kernel before 6.6 do not have."""


@pytest.mark.skipif(
    not all(path.exists() for path, _ in _HEADERS), reason="the kernel's headers are not installed"
)
def test_numbers_are_the_kernel_s() -> None:
    """RN180: the table contains the numbers of the kernel's headers."""
    x86_64, generic = (dict(re.findall(pattern, path.read_text())) for path, pattern in _HEADERS)
    assert len(NUMBERS) > 100
    for name, (on_x86_64, on_arm64) in NUMBERS.items():
        if name in _NEWER and name not in x86_64:
            continue
        assert str(on_x86_64) == x86_64[name], name
        expected = generic.get(_GENERIC_NAMES.get(name, name))
        assert (None if on_arm64 is None else str(on_arm64)) == expected, name
