"""The Python base: a component that runs the file `app.py` of an archive.

`build.py` makes a component of this file, with all modules that are imported then. At a run the
interpreter continues from the state that it had when the component was built. Everything that must
differ between two runs is made anew in `_forget_the_build`.
"""

import _sqlite3
import asyncio
import atexit
import contextlib
import errno
import gc
import gzip
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
import zipfile
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
        self._folders = {
            path[:end] for path in files for end, char in enumerate(path) if char == "/"
        }

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
            return _folder_spec(fullname, place) if place in self._folders else None
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

    def get_source(self, fullname: str) -> str:
        """Return the text of a module."""
        try:
            return self._files[self.get_filename(fullname)]
        except KeyError:
            raise ImportError(f"the archive has no module {fullname}", name=fullname) from None

    @staticmethod
    def source_to_code(data: Any, path: Any = "<string>", **_: Any) -> types.CodeType:
        """Compile a file of the archive.

        As text, so that Python ignores an encoding that the file names. In some encodings, text
        that looks like a comment in the archive would be code.
        """
        text = data.decode().removeprefix("\ufeff")
        return compile(text, path, "exec", dont_inherit=True)


def _folder_spec(fullname: str, place: str) -> importlib.machinery.ModuleSpec:
    """Return the spec of a package without `__init__.py`."""
    spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
    spec.submodule_search_locations = [place]
    return spec


class Run(exports.Run):  # type: ignore[misc]  # it is generated when the component is built
    """The entry point of the component, `wasi:cli/run`."""

    def run(self) -> None:
        """Run the archive's `app.py` as `__main__`.

        The run fails, as it does for any program that exits with a code other than 0, if `app.py`
        exits with one or ends with an exception.
        """
        _forget_the_build()
        archive = _Archive(json.loads(program.read())["files"])
        # Before the finder of files. A task's caller could otherwise give it a module of a package
        # that is named `iexec_in`.
        files = sys.meta_path.index(importlib.machinery.PathFinder)
        sys.meta_path.insert(files, archive)
        is_done = _run_main(archive)
        atexit._run_exitfuncs()
        if not (_write_buffers() and is_done):
            raise componentize_py_types.Err(None)


def _forget_the_build() -> None:
    """Replace what was made when the component was built and must differ between runs.

    The runtime has set the environment and the arguments, and has seeded `random` afresh.
    """
    sys.path.clear()  # the folders of the build
    for name in ("base", "preloaded"):  # a program may have modules with these names
        sys.modules.pop(name, None)
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
        _draw_real_numbers(self)


def _draw_real_numbers(connection: sqlite3.Connection) -> None:
    """Replace the SQL functions that draw random numbers."""
    connection.create_function("random", 0, lambda: secrets.randbits(64) - (1 << 63))
    connection.create_function("randomblob", 1, lambda size: os.urandom(max(1, size)))


def _connect(*args: Any, **named: Any) -> sqlite3.Connection:
    """Open a database, as `sqlite3.connect`."""
    if len(args) < 6:  # the sixth argument is the factory
        named.setdefault("factory", _Connection)
    connection: sqlite3.Connection = _sqlite_connect(*args, **named)
    if not isinstance(connection, _Connection):  # the program's factory made another one
        _draw_real_numbers(connection)
    return connection


_sqlite_connect: Any = sqlite3.connect
_sqlite: Any
# `_sqlite3` has the same names for programs that import it directly.
for _sqlite in (sqlite3, sqlite3.dbapi2, _sqlite3):
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
        exec(archive.source_to_code(archive.get_data(_MAIN), _MAIN), main.__dict__)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return not ended.code
        _show(str(ended.code))
        return False
    except BaseException as failed:
        if isinstance(failed, ModuleNotFoundError) and failed.name:
            failed.add_note(
                f"neither the archive nor its Python base has the module {failed.name};"
                " next: add it to the folder of the program if it is pure Python"
            )
        shown = failed.with_traceback(_program_frames(failed.__traceback__))
        _show("".join(traceback.format_exception(shown)).removesuffix("\n"))
        return False
    return True


def _program_frames(first: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without the frames of this module and of imports.

    They say nothing about the program.
    """
    kept = []
    while first is not None:
        file = first.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen importlib"):
            kept.append(first)
        first = first.tb_next
    shown = None
    for one in reversed(kept):
        shown = types.TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _show(text: str) -> None:
    """Print a line on standard error, or on the stream that the program has put in its place."""
    with contextlib.suppress(ValueError):  # the program has closed it
        print(text, file=sys.stderr or sys.__stderr__)


_UNWRITTEN: tuple[tuple[tuple[type, ...], str], ...] = (
    ((io.TextIOWrapper,), "flush"),
    ((gzip.GzipFile, zipfile.ZipFile), "close"),
    ((io.BufferedWriter, io.BufferedRandom), "flush"),
)
"""Kinds of files and the method that writes what each still has, before those that it writes to."""


def _write_buffers() -> bool:
    """Write what open files still have in their buffers.

    Plain Python closes files before it exits, but in any order: some of their text can be lost.

    Returns:
        Whether all could be written.
    """
    is_done = True
    objects = gc.get_objects()
    for kinds, method in _UNWRITTEN:
        for file in [one for one in objects if issubclass(type(one), kinds)]:
            try:
                getattr(file, method)()
            except ValueError:  # the program has closed it
                pass
            except OSError as failed:
                _show(f"a file could not be written: {failed}")
                is_done = False
    return is_done


gc.collect()  # so that the component does not contain garbage
gc.freeze()  # so that `_write_buffers` looks at the objects of the run alone
