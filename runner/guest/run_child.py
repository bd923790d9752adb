"""Main function of a child process that runs programs.

The template forks it, and the runner's own process never imports this module. It imports wasmtime
and, of this project, only modules of this folder.
"""

import ctypes
import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from wasmtime import Engine, ExitTrap, Module, Store, Trap, WasiConfig, WasmtimeError, wat2wasm
from wasmtime import _ffi as ffi
from wasmtime import component as components

from serving.confinement.allowed_calls import RUN_CHILD, TASK_CHILD
from serving.confinement.landlock import (
    MAKE_FILE,
    MAKE_FOLDER,
    MOVE,
    READ_FILE,
    READ_FOLDER,
    REMOVE_FILE,
    REMOVE_FOLDER,
    TRUNCATE,
    WRITE_FILE,
    restrict_to,
)
from serving.confinement.privileges import confine
from serving.confinement.resource_limits import limit, limit_cpu, limit_data, open_statm
from serving.confinement.system_calls import allow_only

from . import frames as _frames
from . import wasm as _wasm
from .frames import Answer
from .guest_http import DATA_BYTES, GuestHttp
from .guest_python import GuestPython
from .linear_memory import NO_FINALIZER, MemoryBudget

_SLACK_BYTES = 64 * 1024 * 1024
"""Memory beside the linear memories: machine code, and resources, tables and output of the host."""
_HARD_DATA_BYTES = 2 * 1024 * 1024 * 1024
"""Hard memory limit of the process; the limit of each run is far lower."""
_SLACK_CPU_S = 5
"""CPU time beyond a run's own limit. It applies only if the runner fails to end the run itself."""
_MAX_STDERR_BYTES = 64 * 1024
_TABLE_ELEMENTS = 100_000
_TASK_FILES, _TASK_THREADS = 256, 64
"""Open files and threads of a task's process (TG6)."""
_TASK_READS = READ_FILE | READ_FOLDER
_TASK_CHANGES = WRITE_FILE | TRUNCATE | MAKE_FILE | MAKE_FOLDER | MOVE | REMOVE_FILE | REMOVE_FOLDER
_OWN_PROGRAM = r"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\01\00\00\00.")
  (func (export "nothing"))
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))
"""
"""A module that writes one byte to standard output."""
_WARM_UPS = 16
"""After so many runs Python has optimised the code of a run, which each child would do again."""
# Most instances, tables and memories of a run (RN15). A component that was made from a module
# already has four instances (the program, its adapter and two shims) and two memories.
_MOST = {_wasm.PREVIEW_1: (1, 4, 1), _wasm.PREVIEW_2: (16, 16, 4)}
_WRITE = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_size_t
)


class _Prepared(NamedTuple):
    program: _wasm.Program
    start: str
    makes_requests: bool
    python: bytes = b""


class _Output:
    """The standard output and standard error of one program run.

    Both are limited in length. wasmtime's C code calls these callbacks directly. Those of the
    Python binding copy the data before its length can be checked. They also turn a failure into an
    error for the guest, which could ignore it and answer with a part of its output.
    """

    def __init__(self, connection: socket.socket, most: int) -> None:
        self._connection = connection
        self._left = most
        self.parts: list[bytes] = []
        # wasmtime keeps pointers to these, so they have to live as long as the store
        self.callbacks: Any = (_WRITE(self._write), _WRITE(self._write_error))
        self.stderr = b""
        self.stderr_bytes = 0

    def close(self) -> None:
        """Forget the output once the store is closed.

        The callbacks refer to this object, so it would live until the next garbage collection.
        """
        self.callbacks = None
        self.parts = []

    def _write(self, _: object, data: Any, size: int) -> int:
        """Store a chunk of the program's standard output (RN16).

        If the output is too long, this process ends.
        """
        if size > self._left:
            answer = Answer(
                ended=_frames.OVERFLOWED,
                flags=0,
                exit_code=0,
                instructions=0,
                time_ns=0,
                memory_bytes=0,
                stderr_bytes=0,
                output_bytes=0,
            )
            self._connection.sendall(_frames.pack(answer, b"", b""))
            os._exit(0)
        self._left -= size
        self.parts.append(ctypes.string_at(data, size))
        return size

    def _write_error(self, _: object, data: Any, size: int) -> int:
        """Store a chunk of the program's standard error (RN16).

        All bytes are counted, but only the first ones are stored.
        """
        self.stderr_bytes += size
        self.stderr += ctypes.string_at(data, min(size, _MAX_STDERR_BYTES - len(self.stderr)))
        return size


class Guests:
    """The wasmtime engine and the loaded programs of a child process.

    The template makes it once, so that each child has it immediately after the fork.
    """

    _connection: socket.socket
    _statm: int

    def __init__(self) -> None:
        self._budget = MemoryBudget()
        config = _wasm.configured()
        self._budget.configure_allocator(config)
        self._engine = Engine(config)
        self._http = GuestHttp(self._exchange)
        self._python = GuestPython()
        self._linkers = _wasm.linkers(self._engine, self._http, self._python, self._exchange)
        self._prepared: dict[str, _Prepared] = {}
        self._bases: dict[str, _Prepared] = {}
        self._own_program = Module(self._engine, bytes(wat2wasm(_OWN_PROGRAM))).serialize()
        self.is_tried = False  # whether a child of this template has run the test program

    def _exchange(self, kind: int, message: bytes) -> bytes:
        return _frames.exchange(self._connection, kind, message)

    def load_base(self, sha256: str, artefact: int) -> None:
        """Load a compiled Python base, which all children then have (PY11).

        Args:
            sha256: identifies the base.
            artefact: descriptor of the compiled base; it is closed.
        """
        # As a file, so that no child has a copy: its pages are those of the sealed file.
        program = components.Component.deserialize_file(self._engine, f"/proc/self/fd/{artefact}")
        os.close(artefact)
        self._bases[sha256] = self._prepared_component(program)

    def warm_up(self) -> None:
        """Run a part of a test program, so that children start with warm caches (RN138).

        The template calls this, so it makes no `WasiConfig` (RN133).
        """
        for _ in range(_WARM_UPS):
            self._run_own("nothing", None)

    def try_out(self, *, of_task: bool) -> None:
        """Run the test program (RN138)."""
        request = {"environment": [], "arguments": ["program"] if of_task else []}
        output = _Output(self._connection, 1)
        self._run_own("_start", _wasi(request, b"", output))
        if output.parts != [b"."]:
            raise RuntimeError("the child process could not run the built-in test program")

    def _run_own(self, start: str, wasi: WasiConfig | None) -> None:
        """Run a function of the test program.

        Raises RuntimeError if it does not complete.
        """
        program = self._load(_wasm.PREVIEW_1, self._own_program)
        self._budget.set_budget(1 << 16)
        store = self._store(_wasm.PREVIEW_1, 1000)
        if wasi is not None:
            store.set_wasi(wasi)
        if self._execute(store, program._replace(start=start)) != (_frames.COMPLETED, 0):
            raise RuntimeError("the built-in test program did not complete")
        store.close()

    def open_files(self, connection: socket.socket, *, of_task: bool) -> None:
        """Open the files needed for running programs.

        Call it before `limit`.
        """
        self._connection = connection
        self._statm = open_statm()
        if of_task:
            # TG4: before any other thread begins, because it is per thread
            restrict_to({"input": _TASK_READS, "output": _TASK_READS | _TASK_CHANGES})
        # wasmtime starts its helper threads at the first use of a file, and after `limit` no thread
        # can be started.
        WasiConfig().stdin_file = "input" if of_task else os.devnull

    def serve(self) -> None:
        """Run the requested programs until the runner disconnects."""
        while True:
            self._serve_one()

    def _serve_one(self) -> None:
        """Run one program.

        Nothing refers to its request while the next one is awaited.
        """
        payload, files = _frames.receive(self._connection)
        request, standard_input = _frames.unpack_request(payload)
        self._prepare(request, files)
        self._run(request, standard_input)

    def _prepare(self, request: dict[str, Any], files: list[int]) -> None:
        """Load the requested program, and unload evicted programs."""
        for key in request["forget"]:
            del self._prepared[key]
        for file in files:
            # Loading copies the program, so the limit of the last run is raised first. A loaded
            # program is read-only memory, which no limit of a run counts.
            limit_data(self._statm, _HARD_DATA_BYTES, _HARD_DATA_BYTES)
            # `deserialize_file` would avoid the copies and share pages with other children, but it
            # opens a file by its path, which the filter refuses (RN181).
            artefact = os.pread(file, os.fstat(file).st_size, 0)
            os.close(file)
            if request["base"]:
                prepared = self._bases[request["base"]]._replace(python=artefact)
            else:
                prepared = self._load(request["target"], artefact)
            self._prepared[request["program"]] = prepared

    def _load(self, target: str, artefact: bytes | bytearray) -> _Prepared:
        if target == _wasm.PREVIEW_1:
            # The compiling child has required the entry point.
            module = Module.deserialize(self._engine, artefact)
            return _Prepared(program=module, start="_start", makes_requests=False)
        return self._prepared_component(components.Component.deserialize(self._engine, artefact))

    def _prepared_component(self, program: components.Component) -> _Prepared:
        return _Prepared(
            program=program,
            start=_wasm.start_of(self._engine, program) or "",
            makes_requests=_wasm.makes_requests(self._engine, program),
        )

    def _store(self, target: str, fuel: int) -> Store:
        store = Store(self._engine)
        store.set_fuel(fuel)  # the program traps when none is left (RN10)
        instances, tables, memories = _MOST[target]
        # otherwise a small program could make the child allocate without end (RN15)
        store.set_limits(
            table_elements=_TABLE_ELEMENTS, instances=instances, tables=tables, memories=memories
        )
        return store

    def _run(self, request: dict[str, Any], standard_input: bytes) -> None:
        """Run a loaded program, and send the answer."""
        prepared = self._prepared[request["program"]]
        # RN24: the memory of the run, and what this process and wasmtime keep for it
        data_bytes = request["memory_bytes"] + 3 * request["output_bytes"] + _SLACK_BYTES
        if prepared.makes_requests:
            data_bytes += DATA_BYTES
        limit_data(self._statm, data_bytes, _HARD_DATA_BYTES)
        limit_cpu(request["seconds"] + _SLACK_CPU_S)
        self._budget.set_budget(request["memory_bytes"])
        self._http.begin()
        self._python.begin(prepared.python)
        output = _Output(self._connection, request["output_bytes"])
        # RN175: wasmtime traps when it checks the fuel and none is left, but does not check at the
        # end of a function. With one unit more than the limit, some fuel is left exactly if the
        # program stayed within its limit.
        fuel = request["instructions"] + 1
        store = self._store(request["target"], fuel)
        store.set_wasi(_wasi(request, standard_input, output))
        begun = time.perf_counter_ns()
        ended, exit_code = self._execute(store, prepared)
        took = time.perf_counter_ns() - begun
        left = store.get_fuel()
        flags = 0
        if self._budget.refused:
            flags |= _frames.MEMORY_REFUSED
        if not left:
            flags |= _frames.NO_FUEL
        written = b"".join(output.parts)
        answer = Answer(
            ended=ended,
            flags=flags,
            exit_code=exit_code,
            instructions=fuel - left,
            time_ns=took,
            memory_bytes=self._budget.peak,
            stderr_bytes=output.stderr_bytes,
            output_bytes=len(written),
        )
        # Frees the run's memories, which `MemoryBudget.set_budget` requires. Before the answer, so
        # that its time counts for this run, and the runner measures what is left (RN261).
        store.close()
        output.close()
        self._connection.sendall(_frames.pack(answer, written, output.stderr))

    def _execute(self, store: Store, prepared: _Prepared) -> tuple[int, int]:
        """Run a program, and return the outcome and the exit code."""
        program = prepared.program
        of_modules, of_components = self._linkers
        ended = _frames.REFUSED  # until the program is instantiated
        try:
            if isinstance(program, Module):
                start = of_modules.instantiate(store, program).exports(store)[prepared.start]
                ended = _frames.TRAPPED
                code = 0
                start(store)  # type: ignore[operator]  # start_of saw that it is a function
            else:
                instance = of_components.instantiate(store, program)
                ended = _frames.TRAPPED
                index = program.get_export_index("run", program.get_export_index(prepared.start))
                run = instance.get_func(store, index) if index else None
                assert run is not None  # the compiling child required it by `start_of`
                code = 0 if run(store).tag == "ok" else 1
        except ExitTrap as exit_trap:
            code = exit_trap.code
        except Trap:
            return _frames.TRAPPED, 0
        except WasmtimeError:
            # Either the program cannot be linked, or it started and its exit code is invalid.
            return ended, 0
        return (_frames.EXITED if code else _frames.COMPLETED), code


def _wasi(request: dict[str, Any], standard_input: bytes, output: _Output) -> WasiConfig:
    """Return a WASI configuration without access to files (RN12), or of a task (TG1).

    The guest gets an environment, standard streams, clocks and random numbers.
    """
    wasi = WasiConfig()
    wasi.env = request["environment"]
    if arguments := request["arguments"]:  # only a task has them
        wasi.argv = arguments
        wasi.preopen_dir("input", "/iexec_in", fs_mutable=False)
        wasi.preopen_dir("output", "/iexec_out")
    data = ffi.wasm_byte_vec_t()
    copied = (ffi.wasm_byte_t * len(standard_input)).from_buffer_copy(standard_input)
    ffi.wasm_byte_vec_new(ctypes.byref(data), len(standard_input), copied)
    # As bytes: wasmtime would read a file in threads, and a child may start none.
    ffi.wasi_config_set_stdin_bytes(wasi.ptr(), ctypes.byref(data))
    ffi.wasi_config_set_stdout_custom(wasi.ptr(), output.callbacks[0], None, NO_FINALIZER)
    ffi.wasi_config_set_stderr_custom(wasi.ptr(), output.callbacks[1], None, NO_FINALIZER)
    return wasi


def main(
    guests: Guests, connection: socket.socket, uid: int | None, parent: int, file_bytes: int
) -> None:
    """Confine this process, then run programs until the runner disconnects.

    The process of a task can write files of `file_bytes`, and any other one of 0. The caller exits
    afterwards.
    """
    of_task = file_bytes > 0
    if of_task:
        # TG2: the child's user may read and write the files, whatever the runner's umask is. Other
        # users cannot reach the folder that they are in.
        for path in [Path(), *Path().rglob("*")]:
            path.chmod(0o777)
    confine(uid, parent)
    guests.open_files(connection, of_task=of_task)
    if of_task:
        # Without a uid of its own, the limit would count the threads of the runner too.
        threads = _TASK_THREADS if uid else None
        # WASI opens files and starts threads (TG6)
        limit(files=_TASK_FILES, file_bytes=file_bytes, threads=threads)
    else:
        limit(files=_frames.MAX_OPEN_FILES, file_bytes=0)
    # before it reads a program (TG5, RN181)
    allow_only(TASK_CHILD if of_task else RUN_CHILD)
    if of_task or not guests.is_tried:
        # RN138: after all restrictions, so that it shows that runs work in them
        guests.try_out(of_task=of_task)
    connection.sendall(_frames.PROCESS.pack(-os.getpid()))
    guests.serve()
