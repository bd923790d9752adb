"""The Python base: a component that runs the file `app.py` of an archive.

`build.py` makes a component of this file, with all modules that are imported then. At a run the
interpreter continues from the state that it had when the component was built. Everything that must
differ between two runs is made anew in `_forget_the_build`.
"""

import asyncio
import atexit
import errno
import gc
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import logging
import mimetypes
import os
import secrets
import sqlite3
import sys
import tempfile
import time
import traceback
import types
import uuid
from collections.abc import Sequence
from typing import Any

import componentize_py_types
import preloaded
from wit_world import exports
from wit_world.imports import program

_MAIN = "app.py"

for _name in preloaded.MODULES:  # a run has no files to import them from
    importlib.import_module(_name)


class _Archive(importlib.abc.SourceLoader):
    """Imports the modules of an archive."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, or None if the archive does not have it."""
        place = fullname.replace(".", "/")
        is_package = f"{place}/__init__.py" in self._files
        if not is_package and f"{place}.py" not in self._files:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=self.get_filename(fullname), is_package=is_package
        )
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [place]
        return spec

    def get_filename(self, fullname: str) -> str:
        """Return the path of a module in the archive."""
        if fullname == "__main__":
            return _MAIN
        place = fullname.replace(".", "/")
        package = f"{place}/__init__.py"
        return package if package in self._files else f"{place}.py"

    def get_data(self, path: str | bytes) -> bytes:
        """Return a file of the archive."""
        try:
            return self._files[os.fsdecode(path)].encode()
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "the archive has no such file", path) from None


class Run(exports.Run):  # type: ignore[misc]  # it is generated when the component is built
    """The entry point of the component, `wasi:cli/run`."""

    def run(self) -> None:
        """Run the archive's `app.py` as `__main__`.

        The run fails, as it does for any program that exits with a code other than 0, if `app.py`
        exits with one or ends with an exception.
        """
        _forget_the_build()
        archive = _Archive(json.loads(program.read())["files"])
        sys.meta_path.append(archive)
        is_done = _run_main(archive)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        if not is_done:
            raise componentize_py_types.Err(None)


def _forget_the_build() -> None:
    """Replace what was made when the component was built and must differ between runs.

    The runtime has set the environment and the arguments, and has seeded `random` afresh.
    """
    sys.path.clear()  # the folders of the build
    sys.argv[:] = [_MAIN, *sys.argv[1:]]
    sys.path_importer_cache.clear()
    for module, name, value in (
        (uuid, "_node", None),
        (uuid, "_last_timestamp", None),
        (tempfile, "_name_sequence", None),
        (tempfile, "tempdir", None),
        (mimetypes, "inited", False),
        (logging, "_startTime", time.time_ns()),
    ):
        setattr(module, name, value)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        "utf-8",
        "backslashreplace",
        line_buffering=True,
    )
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


class _SleepingLoop(asyncio.BaseEventLoop):
    """An event loop for programs without sockets, signals and threads: it only waits for timers."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self

    def select(self, timeout_s: float | None) -> list[object]:
        """Wait for the next timer.

        Raises RuntimeError if the program waits for something that cannot happen.
        """
        if timeout_s is None:
            raise RuntimeError("all tasks wait for each other, or for a socket or a thread")
        if timeout_s > 0:
            time.sleep(timeout_s)
        return []

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _Connection(sqlite3.Connection):
    """A database connection whose SQL functions draw real random numbers.

    SQLite's own generator is seeded from the time in seconds, because it finds no device for random
    numbers: two runs in one second would draw the same ones.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.create_function("random", 0, lambda: secrets.randbits(64) - (1 << 63))
        self.create_function("randomblob", 1, lambda size: os.urandom(max(1, size)))


def _connect(*args: Any, **named: Any) -> sqlite3.Connection:
    """Open a database, as `sqlite3.connect`."""
    named.setdefault("factory", _Connection)
    return _sqlite_connect(*args, **named)


_sqlite_connect: Any = sqlite3.connect
_sqlite: Any
for _sqlite in (sqlite3, sqlite3.dbapi2):
    _sqlite.connect = _connect
    _sqlite.Connection = _Connection
_unix_events: Any = asyncio.unix_events
_unix_events._UnixDefaultEventLoopPolicy._loop_factory = _SleepingLoop
for _events in (asyncio, _unix_events):
    _events.EventLoop = _SleepingLoop


def _run_main(archive: _Archive) -> bool:
    """Run `app.py`, and return whether it ended with success."""
    main = types.ModuleType("__main__")
    main.__file__ = _MAIN
    main.__loader__ = archive
    sys.modules["__main__"] = main
    try:
        code = compile(archive.get_data(_MAIN), _MAIN, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return not ended.code
        print(ended.code, file=sys.stderr)
        return False
    except BaseException as failed:
        if isinstance(failed, ModuleNotFoundError):
            failed.add_note(
                f"neither the archive nor its Python base has the module {failed.name};"
                " next: add it to the folder of the program if it is pure Python"
            )
        own_frames = failed.__traceback__
        # Without the frame of this function, which says nothing about the program.
        shown = failed.with_traceback(own_frames.tb_next if own_frames else None)
        sys.stdout.flush()
        traceback.print_exception(shown)
        return False
    return True


gc.collect()  # so that the component does not contain garbage
