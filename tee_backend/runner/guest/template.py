"""The process that children are forked from: it has imported what they need, and it never runs a
guest.

Started by `_child.Template`, never imported by the parent. Whatever it holds, each of its children
holds: an engine and linkers, a program of the runner's own (RN138), and no secret, other program or
random state. It makes no `WasiConfig`: that seeds wasmtime's generator, from which then all
children would draw the same numbers (RN133).
"""

import ctypes
import gc
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from . import compile_child as _compile_child
from . import frames as _frames
from . import run_child as _run_child
from .confinement import confine, name
from .system_calls import ALWAYS, refuse

_CLONE: Final = {"x86_64": 56, "aarch64": 220}
"""Numbers of the system call; Docker's usual filter refuses the newer `clone3`."""
_CLONE_PARENT: Final = 0x8000
_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock, as a fork has to
_python.syscall.argtypes = (ctypes.c_long,) * 6
_python.syscall.restype = ctypes.c_long


def main(connection: socket.socket, parent: int) -> None:
    """Import and confine, say that it is ready, and fork a child for each request; never
    returns."""
    try:
        name("_template")
        guests = _run_child.Guests()
        confine(None, parent)  # RN130; the uid is for each child to give up
        refuse(ALWAYS)  # RN180: children inherit it
        _refuse_what_children_would_share()
        gc.collect()
        gc.freeze()  # a collection in a child would copy each page that it marks
        connection.sendall(b"\0")
        while True:
            request, (file,) = _frames.receive(connection)
            module, uid = request.decode().split()
            with socket.socket(fileno=file) as of_child:
                process = _fork()
                if not process:
                    connection.close()  # RN136: before anything else
                    _become(module, guests, of_child, int(uid), parent)
                with suppress(OSError):  # the parent has closed it: it ended
                    if process > 0:  # RN134: where the fork failed, the parent reads the end
                        of_child.sendall(_frames.PROCESS.pack(process))
    finally:
        os._exit(1)


def _become(
    module: str, guests: _run_child.Guests, connection: socket.socket, uid: int, parent: int
) -> None:
    """Be a child of one kind; never returns."""
    try:
        name(module)
        os.setsid()
        if module == "_run_child":
            _run_child.main(guests, connection, uid or None, parent)
        else:
            _compile_child.main(connection, uid or None, parent)
    finally:
        os._exit(1)


def _fork() -> int:
    """Fork into a child of this process's parent (RN132): return its id, 0 in the child, less where
    it fails.

    The parent is then who waits for the child, kills it by an id that nobody else frees, and whose
    end ends it. The C library's own `fork` cannot do that. What that does beside the system call is
    for locks that other threads hold, of which there are none (RN131), and for its record of the
    thread's id, which stays the template's: it is compared with those of other threads of one
    process only.
    """
    _python.PyOS_BeforeFork()
    number = _CLONE[os.uname().machine]
    process = int(_python.syscall(number, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    (_python.PyOS_AfterFork_Parent if process else _python.PyOS_AfterFork_Child)()
    return process


def _refuse_what_children_would_share() -> None:
    """Refuse to be forked with a second thread, which would be lost, or memory that children could
    write for others."""
    if len(list(Path("/proc/self/task").iterdir())) != 1:  # RN131
        raise RuntimeError("a template with threads")
    access = [
        line.split(maxsplit=2)[1]
        for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    ]
    if [mode for mode in access if mode[1] == "w" and mode[3] == "s"]:  # RN131
        raise RuntimeError("a template with shared memory")
