"""Fast `sealspace` and `python` commands for shell tests, forked from one process.

What a program gets is a process of its own, with the shell's arguments, folder, environment and
streams. What it does not get is a start from nothing, which is tested elsewhere, and signals from
the shell.

Example:
    subprocess.run([forked_program("sealspace"), "version"])
"""

import atexit
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from patience import PATIENCE_S

import node.cli
import runner.cli
import sealspace.cli
import tee_backend.cli
from sealspace.cli import root as cli

# The kernel takes no blank in the path of an interpreter, so a shell starts Python: the first lines
# are a text to Python. pip writes its programs in this way too.
_ASK = """#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
'''
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({place!r})
    asked = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    line.sendall(asked)
    sys.exit(int(line.recv(8) or b"255"))
"""


KILLED = 256 - signal.SIGKILL
"""The exit status of a program whose process was killed."""


def forked_program(name: str) -> str:
    """Return the path of `sealspace` or `python`. All tests of this process share one parent."""
    return str(program_folder() / name)


@functools.cache
def program_folder() -> Path:
    """Return the folder with the two programs, and start the process on the first call."""
    running = ExitStack()
    atexit.register(running.close)
    folder = running.enter_context(tempfile.TemporaryDirectory(prefix="sealspace-programs-"))
    return running.enter_context(_forked_programs(Path(folder)))


@contextmanager
def _forked_programs(folder: Path) -> Iterator[Path]:
    """Start the process and yield a folder with the two programs."""
    place, programs = folder / "line", folder / "bin"
    programs.mkdir()
    for name in ("sealspace", "python"):
        program = programs / name
        program.write_text(_ASK.format(python=sys.executable, place=str(place), name=name))
        program.chmod(0o700)
    process = subprocess.Popen(
        [sys.executable, __file__, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield programs
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def _serve(place: str) -> NoReturn:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what was forked
        gc.freeze()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:  # its end: the process of the tests was killed
                sys.exit()
            line, _ = listener.accept()
            with line:
                if os.fork() == 0:
                    listener.close()
                    _answer(line)


def _answer(line: socket.socket) -> NoReturn:
    """Run the requested program in a process of its own, and report how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (program := os.fork()) != 0:  # a program may become another one, which reports nothing
        status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        line.sendall(str(status).encode())
        os._exit(0)
    status = 255
    try:
        head, streams, _, _ = socket.recv_fds(line, 4, 3)
        with line.makefile("rb") as stream:
            name, arguments, folder, environment = json.loads(
                stream.read(int.from_bytes(head, "big"))
            )
        for here, given in enumerate(streams):
            os.dup2(given, here)
            os.close(given)
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), "utf-8")
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(
                io.FileIO(number, "w", closefd=False), "utf-8", errors, write_through=True
            )
            for number, errors in ((1, "strict"), (2, "backslashreplace"))
        )
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        status = _ended(name, arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(name: str, arguments: list[str]) -> int:
    sys.argv = [name, *arguments]
    try:
        if name == "sealspace":
            return cli.main(arguments)
        if arguments[0] == "-c":
            sys.path[0], sys.argv = "", ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.path[0], sys.argv = str(Path(arguments[0]).parent), arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as exit:
        if exit.code is None:
            return 0
        return exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    for package in (node.cli, runner.cli, sealspace.cli, tee_backend.cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("sealspace.sync.client", "asyncpg"):
        importlib.import_module(name)
    # Programs in files import what is beside them in `tests`.
    sys.path.append(str(Path(__file__).parents[1]))
    _serve(sys.argv[1])
