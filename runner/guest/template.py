"""Main function of the fork server process.

All children are forked from this process, the template. `child.Template` starts it, and the
runner's own process never imports this module. Each child inherits all its memory: an engine,
linkers, the runner's own program (RN138) and the Python bases (PY11), but no secret, no other
program and no random state.
It must not create a `WasiConfig`, which would seed wasmtime's generator: all children would then
draw the same random numbers (RN133).
"""

import ctypes
import gc
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from serving.confinement.allowed_calls import (
    BODY_CHILD,
    COMPILE_CHILD,
    PROVENANCE_CHILD,
    RUN_CHILD,
    STARTING,
    TASK_CHILD,
)
from serving.confinement.privileges import confine, name
from serving.confinement.system_calls import allow_only, prepare_filter

from . import body_child as _body_child
from . import compile_child as _compile_child
from . import frames as _frames
from . import provenance_child as _provenance_child
from . import run_child as _run_child

_CLONE = {"x86_64": 56, "aarch64": 220}
"""Numbers of the system call `clone`; Docker's default filter refuses the newer `clone3`."""
_CLONE_PARENT = 0x8000
_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock, as a fork has to
_python.syscall.argtypes = (ctypes.c_long,) * 6
_python.syscall.restype = ctypes.c_long


def main(connection: socket.socket, parent: int, bases: Mapping[str, int] | None = None) -> None:
    """Confine this process, then fork a child for each request.

    `bases` has the descriptor of each compiled Python base by its SHA-256 (PY11).
    """
    try:
        name("_template")
        # Of wasmtime's helper threads. The default is one for each processor, in every child.
        os.environ["TOKIO_WORKER_THREADS"] = "1"
        guests = _run_child.Guests()
        for sha256, artefact in (bases or {}).items():
            guests.load_base(sha256, artefact)
        guests.warm_up()  # each child would otherwise prepare the same (RN138)
        confine(None, parent)  # RN130; it keeps its uid, because each child changes to its own
        allow_only(STARTING)  # RN180: children inherit it
        for calls in (RUN_CHILD, COMPILE_CHILD, BODY_CHILD, PROVENANCE_CHILD, TASK_CHILD):
            prepare_filter(calls)
        _require_forkable()
        gc.collect()
        gc.freeze()  # a collection in a child would write to, and so copy, each object's page
        connection.sendall(b"\0")
        while True:
            request, (file,) = _frames.receive(connection)
            module, uid, tried, file_bytes, folder = os.fsdecode(request).split(" ", 4)
            guests.is_tried = tried == "1"
            with socket.socket(fileno=file) as of_child:
                process = _fork()
                if not process:
                    connection.close()  # RN136: before anything else
                    # TG2: as this user, because the child's user cannot reach a task's folder by
                    # its path
                    os.chdir(folder)
                    name(module)
                    os.setsid()
                    own_uid = int(uid) or None
                    if module == "_compile_child":
                        _compile_child.main(of_child, own_uid, parent)
                    elif module == "_body_child":
                        _body_child.main(of_child, own_uid, parent)
                    elif module == "_provenance_child":
                        _provenance_child.main(of_child, own_uid, parent)
                    else:
                        _run_child.main(guests, of_child, own_uid, parent, int(file_bytes))
                    os._exit(1)
                with suppress(OSError):  # the runner has closed the connection
                    if process > 0:  # RN134: after a failed fork the runner reads end of file
                        of_child.sendall(_frames.PROCESS.pack(process))
    finally:
        os._exit(1)


def _fork() -> int:
    """Fork this process, and make the copy a child of the runner (RN132).

    So the runner can wait for the child, no other process gets the child's id before that, and the
    child ends with the runner. The C library's `fork` cannot set the parent. Beyond the system call
    it only resets locks of other threads, which do not exist here (RN131), and its copy of the
    thread's id. That copy stays the template's. This is harmless, because it is compared only with
    threads of the same process.

    Returns:
        The child's process id; 0 in the child; a negative number if it fails.
    """
    _python.PyOS_BeforeFork()
    number = _CLONE[os.uname().machine]
    # Looked up before the fork, so that not each child looks it up.
    after_child = _python.PyOS_AfterFork_Child
    process = int(_python.syscall(number, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if process:
        _python.PyOS_AfterFork_Parent()
    else:
        after_child()
    return process


def _require_forkable() -> None:
    """Raise RuntimeError unless this process can safely fork.

    The process must have only one thread, and no writable shared memory. A second thread would be
    lost in a fork. Shared memory would let one child write to others.
    """
    # a fork copies one thread alone (RN131)
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("a process that forks children must not have a second thread")
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        _addresses, access, *_ = line.split(
            maxsplit=2
        )  # access such as `rw-p`, or `rw-s` if shared
        # one child could write to others (RN131)
        if access[1] == "w" and access[3] == "s":
            raise RuntimeError("a process that forks children must not have writable shared memory")
