"""System calls that are refused to children, and runners without a filter."""

import errno
import json
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from guest_programs import are_gone, children, code, guest, ran
from tests_support import REPOSITORY

from tee_backend.confinement.landlock import landlock_version
from tee_backend.confinement.system_calls import (
    ALWAYS,
    ONCE_READY,
    ONCE_READY_FOR_TASK,
    program,
)
from tee_backend.runner.guest import child as _child
from tee_backend.runner.guest import pool as _pool
from tee_backend.runner.guest.child import Child, ChildEnded, Module
from tee_backend.runner.guest.executor import Executor
from tee_backend.runner.guest.pool import Pool
from tee_backend.runner.guest.runs import TaskFolders
from tee_backend.runner.tasks.folders import task_folders

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS: tuple[Module, ...] = ("_run_child", "_compile_child")

_PROBE = r"""
import ctypes, json, mmap, os, socket, threading
from tee_backend.runner.guest import frames as _frames

receive = _frames.receive
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = (ctypes.c_long,) * 7
libc.syscall.restype = ctypes.c_long

def called(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments, *[0] * (6 - len(arguments)))
    return ctypes.get_errno() if result < 0 else 0

def attempt(work):
    try:
        work()
    except OSError as exc:
        return exc.errno
    return 0

def under_i386():
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))  # getpid by int 0x80
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()

def probed(connection):
    payload, files = receive(connection)
    if not payload.startswith(b"probe"):
        return payload, files
    what, given = json.loads(payload[5:])
    if what == "calls":
        found = [called(*each) for each in given]
    elif what == "connect":
        found = attempt(lambda: socket.socket().connect(("127.0.0.1", given)))
    elif what == "open":
        calls = (lambda: open(given), lambda: os.unlink(given), lambda: os.memfd_create("x"))
        found = [attempt(call) for call in calls]
    elif what == "exec":
        found = attempt(lambda: os.execv(given, [given]))
    elif what == "fork":
        found = [attempt(os.fork), called(given, 17)]
    elif what == "make":
        path = "output/" + given
        makers = {
            "file": lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)),
            "folder": lambda: os.mkdir(given, dir_fd=os.open("output", os.O_RDONLY)),
            "link": lambda: os.link("output/file", path),
            "symlink": lambda: os.symlink("/", path),
            "pipe": lambda: os.mkfifo(path),
            "device": lambda: os.mknod(path, 0o020600, 0x103),
            "socket": lambda: os.mknod(path, 0o140600),
        }
        found = attempt(makers[given])
    elif what == "thread":
        thread = threading.Thread(target=bool)
        found = attempt(thread.start)
        thread.join()
    elif what == "i386":
        found = under_i386()
    else:
        os.abort()
    body = json.dumps(found).encode()
    connection.sendall(_frames.LENGTH.pack(len(body)) + body)
    return probed(connection)

_frames.receive = probed
"""
"""Has each child answer questions about itself: what becomes of a system call that it makes."""

_CALLS = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
}
"""Calls that are refused from the start, by number on x86-64 and on arm64."""
_LATER = {
    "openat": (257, 56),
    "openat2": (437, 437),
    "memfd_create": (319, 279),
    "socketpair": (53, 199),
    "sendmsg": (46, 211),
    "prctl": (157, 167),
    "kill": (62, 129),
    "tkill": (200, 130),
    "unlinkat": (263, 35),
    "file_setattr": (469, 469),
    "truncate": (76, 45),
}
_NEEDED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "pread64": (17, 67),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "futex": (202, 98),
    "clock_nanosleep": (230, 115),
    "getrandom": (318, 278),
    "exit_group": (231, 94),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
_OWN = 4242


def _judged(code: bytes, architecture: int, number: int, first: int = 0, second: int = 0) -> int:
    """Evaluate a BPF program on a call as the kernel would."""
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


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    """Each machine that has a filter."""
    return str(request.param)


async def test_what_is_refused_on_each_machine(machine: str) -> None:
    """RN180, RN181: each listed call is refused by its number; needed calls are not."""
    column, architecture = _MACHINES[machine]
    always, ready = program(ALWAYS, machine), program(ONCE_READY.format(process=_OWN), machine)
    assert {_REFUSE} == {
        _judged(always, architecture, numbers[column]) for numbers in _CALLS.values()
    }
    assert {_REFUSE} == {
        _judged(ready, architecture, numbers[column]) for numbers in _LATER.values()
    }
    needed = [numbers[column] for numbers in _NEEDED.values()]
    assert {_ALLOW} == {
        _judged(code, architecture, number) for number in needed for code in (always, ready)
    }
    assert {_ALLOW} == {
        _judged(always, architecture, numbers[column]) for numbers in _LATER.values()
    }


async def test_what_a_child_does_to_itself_alone(machine: str) -> None:
    """RN181: a child can signal and limit only its own process."""
    column, architecture = _MACHINES[machine]
    ready = program(ONCE_READY.format(process=_OWN), machine)
    for number, own in (((234, 131)[column], _OWN), ((302, 261)[column], 0)):
        assert _ALLOW == _judged(ready, architecture, number, own)
        assert {_REFUSE} == {
            _judged(ready, architecture, number, other) for other in (1, own + 1, 0xFFFFFFFF)
        }


async def test_what_a_task_s_child_may_do(machine: str) -> None:
    """TG5: it also opens, moves and removes files and starts threads, but no processes."""
    column, architecture = _MACHINES[machine]
    code = program(ONCE_READY_FOR_TASK.format(process=_OWN), machine)
    allowed = [(257, 56), (437, 437), (263, 35), (264, 38), (316, 276), (258, 34)]
    assert {_ALLOW} == {_judged(code, architecture, numbers[column]) for numbers in allowed}
    # linkat, symlinkat, mknodat, fchmodat, utimensat, truncate, memfd_create, socketpair, kill
    refused = [(265, 37), (266, 36), (259, 33), (268, 53), (280, 88), (76, 45), (319, 279)]
    refused += [(53, 199), (62, 129)]
    assert {_REFUSE} == {_judged(code, architecture, numbers[column]) for numbers in refused}
    clone, fcntl = (56, 220)[column], (72, 25)[column]
    thread = 0x3D0F00  # as C libraries start one
    assert _ALLOW == _judged(code, architecture, clone, thread)
    assert _REFUSE == _judged(code, architecture, clone, thread & ~0x10000)
    assert _REFUSE == _judged(code, architecture, clone, signal.SIGCHLD)
    assert 0x00050000 | errno.ENOSYS == _judged(code, architecture, 435, thread)
    assert _ALLOW == _judged(code, architecture, fcntl, 7, 3)
    assert {_REFUSE} == {_judged(code, architecture, fcntl, 3, each) for each in (0, 2, 4, 8, 1030)}


async def test_other_architectures(machine: str) -> None:
    """RN182: calls of another architecture end the process; numbers of x32 are refused."""
    column, architecture = _MACHINES[machine]
    for filtered in (program(ALWAYS, machine), program(ONCE_READY.format(process=_OWN), machine)):
        others = {0x40000003, 0x40000028, 0, *(value for _, value in _MACHINES.values())} - {
            architecture
        }
        numbers = {each[column] for each in _NEEDED.values()}
        assert {_KILL} == {
            _judged(filtered, other, number) for other in others for number in numbers
        }
        assert {_REFUSE} == {
            _judged(filtered, architecture, number | 0x40000000) for number in numbers
        }
        # `execve`, `ptrace`, `execveat` and others of x32, which kernels before 5.4 accept without
        # its bit too
        assert {_REFUSE} == {_judged(filtered, architecture, number) for number in range(512, 548)}


_HEADERS = (
    (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+)\s+(\d+)"),
    (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
)


@pytest.mark.skipif(
    not all(path.exists() for path, _ in _HEADERS), reason="the kernel's headers are not installed"
)
async def test_numbers_are_the_kernel_s() -> None:
    """RN180, RN181: the tables have the numbers of the kernel's headers."""
    known = [dict(re.findall(pattern, path.read_text())) for path, pattern in _HEADERS]
    rows = [line.split()[:3] for line in (ALWAYS + ONCE_READY).split("\n") if line]
    assert len(rows) == len({name for name, *_ in rows}) > 80
    for name, *numbers in rows:
        for number, of_kernel in zip(numbers, known, strict=True):
            assert number == of_kernel.get(name, "-") or (
                name not in known[0] and int(number) > 446
            ), name


@asynccontextmanager
async def _probed(
    kind: Module, monkeypatch: pytest.MonkeyPatch, folders: TaskFolders | None = None
) -> AsyncIterator[Child]:
    """Start a confined child that answers `_request`."""
    with monkeypatch.context() as patched:
        patched.setattr(
            _child, "_BOOT", _child._BOOT.replace("template.main(", _PROBE + "template.main(")
        )
        pool = Pool(1)
        try:
            yield await pool.start(kind, folders)
        finally:
            await pool.close()


async def _request(child: Child, what: str, given: object = None) -> object:
    payload = b"probe" + json.dumps([what, given]).encode()
    return json.loads(await child.request(payload, [], most_bytes=1 << 16, within_s=60))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_connects_to_nothing(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN180: a child cannot connect to a listener on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with _probed(kind, monkeypatch) as child:
            assert errno.EPERM == await _request(child, "connect", server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_opens_nothing(
    kind: Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RN181: a ready child can open, create or remove no file."""
    file = tmp_path / "there"
    file.touch()
    tmp_path.chmod(0o777)
    async with _probed(kind, monkeypatch) as child:
        assert [errno.EPERM] * 3 == await _request(child, "open", str(file))
        assert errno.EPERM == await _request(child, "exec", sys.executable)
    assert file.exists()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the numbers of x86-64")
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_a_child(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN180, RN181, RN182: every listed call fails with EPERM, also by its x32 number."""
    numbers = [
        int(line.split()[1])
        for line in (ALWAYS + ONCE_READY).split("\n")
        if line and len(line.split()) == 3
    ]
    numbers += [number for number, _ in (*_CALLS.values(), *_LATER.values())]
    async with _probed(kind, monkeypatch) as child:
        refused = [[number] for number in numbers] + [[number | 0x40000000] for number in numbers]
        assert {errno.EPERM} == set(await _request(child, "calls", refused))  # type: ignore[call-overload]  # a list
        others = [[234, os.getpid(), os.getpid(), 0], [302, os.getpid(), 7]]
        assert [errno.EPERM] * 2 == await _request(child, "calls", others)
        own = [[234, child._process, child._process, 0], [302, 0, 7]]
        assert [0, 0] == await _request(child, "calls", own)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the numbers of x86-64")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_starts_no_process(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN24: neither a fork nor the plain system call starts a process."""
    async with _probed(kind, monkeypatch) as child:
        assert [errno.EAGAIN] * 2 == await _request(child, "fork", 56)


@pytest.mark.skipif(landlock_version() < 1, reason="this kernel has no Landlock")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the numbers of x86-64")
async def test_calls_of_a_task_s_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TG4, TG5: the process itself reaches no file outside its folders, and starts no process."""
    async with task_folders(tmp_path, max_bytes=1 << 20, max_files=9) as folders:
        (folders.input / "data").write_text("data")
        (folders.input.parent / "beside").write_text("beside")
        async with _probed("_task_child", monkeypatch, folders) as child:
            for path in ("/proc/self/environ", "/dev/null", "beside", ".", "/", "output/../beside"):
                refused = [errno.EACCES, errno.EPERM, errno.EPERM]
                assert refused == await _request(child, "open", path), path
            assert [0, errno.EPERM, errno.EPERM] == await _request(child, "open", "input/data")
            made = ("file", "folder", "link", "symlink", "pipe", "device", "socket")
            assert {"file": 0, "folder": 0} == {
                name: found for name in made if not (found := await _request(child, "make", name))
            }
            assert errno.EPERM == await _request(child, "connect", 1)
            assert errno.EPERM == await _request(child, "exec", sys.executable)
            assert [errno.EPERM, errno.EPERM] == await _request(child, "fork", 56)
            assert 0 == await _request(child, "thread")
            numbers = [[int(line.split()[1])] for line in ALWAYS.split("\n") if line]
            assert {errno.EPERM} == set(await _request(child, "calls", numbers))  # type: ignore[call-overload]  # a list
        assert ["file", "folder"] == sorted(os.listdir(folders.output))
        assert (folders.input / "data").read_text() == "data"


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="other machines have no second table of calls"
)
async def test_calls_of_i386(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN182: a child that makes an i386 call is killed."""
    async with _probed("_run_child", monkeypatch) as child:
        with pytest.raises(ChildEnded) as ended:
            await _request(child, "i386")
    assert ended.value.signal in (signal.SIGSYS, signal.SIGSEGV)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_can_abort(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN181: a compiler that runs out of memory ends by SIGABRT."""
    async with _probed(kind, monkeypatch) as child:
        with pytest.raises(ChildEnded) as ended:
            await _request(child, "abort")
    assert signal.SIGABRT == ended.value.signal


async def test_every_thread_is_filtered(executor: Executor) -> None:
    """RN180, RN181: each thread of a child has both filters, and the template's the first."""
    await ran(executor, guest("count"))
    of_kind = {kind: children(kind=kind) for kind in ("_template", "_run_child")}
    assert all(of_kind.values())
    for kind, filters in (("_template", {"1"}), ("_run_child", {"2"})):
        texts = [
            path.read_text()
            for one in of_kind[kind][:1]
            for path in Path(f"/proc/{one}/task").glob("*/status")
        ]
        assert filters == {
            found
            for text in texts
            for found in re.findall(r"^Seccomp_filters:\s*(\d+)$", text, re.M)
        }
        assert kind == "_template" or len(texts) > 1


_UNFILTERED = {
    "a machine without a table": "_system_calls._MACHINES.clear()\n",
    "a kernel that takes no filter": (
        "for m, (a, c, _) in list(_system_calls._MACHINES.items()):\n"
        "    _system_calls._MACHINES[m] = a, c, 1 << 20\n"
    ),
    "a child's filter that is refused": "template.ALWAYS += 'seccomp 317 277\\n'\n",
}


@pytest.mark.parametrize("why", _UNFILTERED)
async def test_without_a_filter_no_child_starts(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RN183: without a filter no child starts, and the log gives reason and remedy."""
    broken = (
        f"from tee_backend.confinement import system_calls as _system_calls\n{_UNFILTERED[why]}"
    )
    monkeypatch.setattr(
        _child, "_BOOT", _child._BOOT.replace("template.main(", broken + "template.main(")
    )
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(RuntimeError, match="cannot start a child process"),
    ):
        await Executor(children=1, spare=1).__aenter__()
    assert "seccomp" in caplog.text and "next: " in caplog.text


_OTHER = """
import asyncio, sys
from guest_programs import guest, ran
from tee_backend.runner.guest import pool as _pool
from tee_backend.runner.guest.executor import Executor

async def main():
    _pool._BLOCK_NAME = "\\0" + sys.argv[1] + "{}"
    async with Executor(children=1, spare=8) as executor:
        await ran(executor, guest("count"))
        uids = {child.uid for child in executor._pool._alive}
        print(*uids, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a child another uid")
async def test_two_runners_share_no_uid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RN184: children of two runners have different uids; a killed runner's are free again."""
    unique = f"{tmp_path}-"[-60:]
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests" / "support")))
    command = [sys.executable, "-c", _OTHER, unique]
    monkeypatch.setattr(_pool, "_BLOCK_NAME", f"\0{unique}{{}}", raising=False)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as other:
        try:
            assert other.stdout is not None
            theirs = {int(word) for word in other.stdout.readline().split()}
            async with Executor(children=1, spare=20) as executor:  # more than one block
                ours = {child.uid for child in executor._pool._alive}
            assert len(theirs) > 7 and len(ours) > 19 and not ours & theirs
            monkeypatch.setattr(_pool, "_BLOCKS", 1, raising=False)
            with pytest.raises(RuntimeError, match="cannot start a child process"):
                await Executor(children=1, spare=1).__aenter__()
            gone = [other.pid, *children(other.pid)]
        finally:
            other.kill()
        assert are_gone(gone)
    async with Executor(children=1, spare=8) as executor:
        assert "completed" == code(await ran(executor, guest("count"), fresh=True))
        assert theirs & {child.uid for child in executor._pool._alive}
