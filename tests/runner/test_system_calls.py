"""System calls that children may make, and runners without a filter."""

import errno
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from guest_programs import are_gone, children, code, cpu_bound_s, guest, run_guest
from tests_support import REPOSITORY

from runner.guest import child as _child
from runner.guest import pool as _pool
from runner.guest.child import Child, ChildEnded, Module
from runner.guest.executor import Executor
from runner.guest.pool import Pool
from runner.guest.runs import TaskFolders
from runner.tasks.folders import task_folders
from serving.confinement.allowed_calls import (
    BODY_CHILD,
    COMPILE_CHILD,
    PROVENANCE_CHILD,
    RUN_CHILD,
    TASK_CHILD,
)
from serving.confinement.call_numbers import NUMBERS
from serving.confinement.landlock import landlock_version
from serving.confinement.system_calls import CallList

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS: tuple[Module, ...] = ("_run_child", "_compile_child", "_body_child", "_provenance_child")
_LISTS: dict[Module, CallList] = {
    "_run_child": RUN_CHILD,
    "_compile_child": COMPILE_CHILD,
    "_body_child": BODY_CHILD,
    "_provenance_child": PROVENANCE_CHILD,
    "_task_child": TASK_CHILD,
}

_PROBE = r"""
import ctypes, json, mmap, os, socket, threading
from runner.guest import frames as _frames

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
    elif what == "import":
        try:
            found = __import__(given).__name__
        except ImportError as exc:
            found = type(exc).__name__
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

_REACHED_BEFORE = {"modify_ldt": (154, 0, 0, 0), "io_setup": (206, 1, 0), "splice": (275, 0, 0, 1)}
"""Calls by number on x86-64, with arguments. A filter that lists what is refused left them out."""
_CALLS = 600
"""More than the numbers of any kernel."""
_X32 = 0x40000000
_OF_PROBES = {335, 336}
"""`uretprobe` and `uprobe`: kernels from 6.11 on do not filter them. They only serve debuggers that
have put a probe into the process, and otherwise fail or end it."""


def _unlisted(allowed: CallList) -> list[list[int]]:
    """Return the numbers on x86-64 that a list does not have."""
    others = {NUMBERS[name][0] for name in allowed.calls} | _OF_PROBES
    return [[number] for number in range(_CALLS) if number not in others]


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
            assert errno.ENOSYS == await _request(child, "connect", server.getsockname()[1])
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
        refused = [errno.EPERM, errno.ENOSYS, errno.ENOSYS]
        assert refused == await _request(child, "open", str(file))
        assert errno.ENOSYS == await _request(child, "exec", sys.executable)
    assert file.exists()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_late_import(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN181: a module that a ready child has not imported is missing, and libraries continue
    without it.

    Python reports another error than PermissionError as such, and the run would end by it.
    """
    async with _probed(kind, monkeypatch) as child:
        assert "ModuleNotFoundError" == await _request(child, "import", "no_such_module")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the numbers of x86-64")
@pytest.mark.parametrize("name", _REACHED_BEFORE)
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_that_nothing_needs(
    kind: Module, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RN180: `modify_ldt`, `io_setup` and `splice` fail as if the kernel did not have them."""
    async with _probed(kind, monkeypatch) as child:
        assert [errno.ENOSYS] == await _request(child, "calls", [_REACHED_BEFORE[name]])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the numbers of x86-64")
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_a_child(kind: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN180, RN181, RN182: every call that is not listed fails, also by its x32 number."""
    numbers = _unlisted(_LISTS[kind])
    x32 = [[number | _X32] for number in range(_CALLS)]
    async with _probed(kind, monkeypatch) as child:
        for refused in (numbers, x32):
            assert {errno.ENOSYS} == set(await _request(child, "calls", refused))  # type: ignore[call-overload]  # a list
        others = [[234, os.getpid(), os.getpid(), 0], [200, os.getpid(), 0], [302, os.getpid(), 7]]
        assert [errno.EPERM] * 3 == await _request(child, "calls", others)
        own = [[234, child._process, child._process, 0], [200, child._process, 0], [302, 0, 7]]
        assert [0, 0, 0] == await _request(child, "calls", own)


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
                refused = [errno.EACCES, errno.ENOSYS, errno.ENOSYS]
                assert refused == await _request(child, "open", path), path
            assert [0, errno.ENOSYS, errno.ENOSYS] == await _request(child, "open", "input/data")
            made = ("file", "folder", "link", "symlink", "pipe", "device", "socket")
            assert {"file": 0, "folder": 0} == {
                name: found for name in made if not (found := await _request(child, "make", name))
            }
            assert errno.ENOSYS == await _request(child, "connect", 1)
            assert errno.ENOSYS == await _request(child, "exec", sys.executable)
            assert [errno.EAGAIN] * 2 == await _request(child, "fork", 56)
            assert 0 == await _request(child, "thread")
            numbers = [*_unlisted(TASK_CHILD), *_REACHED_BEFORE.values()]
            assert {errno.ENOSYS} == set(await _request(child, "calls", numbers))  # type: ignore[call-overload]  # a list
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
    await run_guest(executor, guest("count"))
    # A child that was forked a moment ago has no filter of its own yet.
    ran = next(child for child in children(kind="_run_child") if cpu_bound_s(child))
    of_kind = {"_template": children(kind="_template")[0], "_run_child": ran}
    for kind, filters in (("_template", {"1"}), ("_run_child", {"2"})):
        texts = [path.read_text() for path in Path(f"/proc/{of_kind[kind]}/task").glob("*/status")]
        assert filters == {
            found
            for text in texts
            for found in re.findall(r"^Seccomp_filters:\s*(\d+)$", text, re.M)
        }
        assert kind == "_template" or len(texts) > 1


_UNFILTERED = {
    "a machine without a table": "_system_calls.COLUMNS.clear()\n",
    "a kernel that takes no filter": (
        "_system_calls.NUMBERS['seccomp'] = 1 << 20, 1 << 20\n"
        "template.STARTING.calls.pop('seccomp')\n"
    ),
    "a child's filter that is refused": "template.STARTING.calls.pop('seccomp')\n",
}


@pytest.mark.parametrize("why", _UNFILTERED)
async def test_without_a_filter_no_child_starts(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RN183: without a filter no child starts, and the log gives reason and remedy."""
    broken = f"from serving.confinement import system_calls as _system_calls\n{_UNFILTERED[why]}"
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
from guest_programs import guest, run_guest
from runner.guest import pool as _pool
from runner.guest.executor import Executor

async def main():
    _pool._BLOCK_NAME = "\\0" + sys.argv[1] + "{}"
    async with Executor(children=1, spare=8) as executor:
        await run_guest(executor, guest("count"))
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
        assert "completed" == code(await run_guest(executor, guest("count"), fresh=True))
        assert theirs & {child.uid for child in executor._pool._alive}
