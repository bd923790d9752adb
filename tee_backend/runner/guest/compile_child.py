"""Main function of the child process that compiles a program.

The template forks it, and the runner's own process never imports this module. It imports wasmtime
and, of this project, only modules of this folder.
"""

import os
import socket

from wasmtime import Engine, Module, WasmtimeError
from wasmtime import component as components

from . import frames as _frames
from . import wasm as _wasm
from .confinement import confine, limit, limit_cpu, limit_data, open_statm
from .system_calls import ONCE_READY, refuse

_DATA_BYTES = 1024 * 1024 * 1024
_CPU_S = 20
_ARTEFACT_BYTES = 256 * 1024 * 1024


def main(connection: socket.socket, uid: int | None, parent: int) -> None:
    """Confine this process, then compile one program.

    The caller exits afterwards.
    """
    engine = Engine(_wasm.configured())
    confine(uid, parent)
    limit(_ARTEFACT_BYTES)
    limit_data(open_statm(), _DATA_BYTES, _DATA_BYTES)  # RN18
    limit_cpu(_CPU_S)  # RN18
    refuse(ONCE_READY)  # RN181
    connection.sendall(_frames.PROCESS.pack(-os.getpid()))
    payload, (source, artefact) = _frames.receive(connection)
    target, seconds = payload.decode().split()
    limit_cpu(min(int(seconds), _CPU_S))  # RN166: the seconds that the payer's budget covers
    code, detail = _compile(engine, target, source, artefact)
    body = (
        bytes([_frames.COMPILED.index(code)])
        + detail.encode("utf-8", "replace")[: _frames.MAX_DETAIL_BYTES]
    )
    connection.sendall(_frames.LENGTH.pack(len(body)) + body)


def _compile(engine: Engine, target: str, source: int, artefact: int) -> tuple[str, str]:
    """Compile a program, and return a result code with details.

    The result code is one of `COMPILED`. The compiled program is written to the file `artefact`.
    """
    kind = Module if target == _wasm.PREVIEW_1 else components.Component
    try:
        program = kind(engine, os.pread(source, os.fstat(source).st_size, 0))
    except WasmtimeError as exc:
        return "program-invalid", str(exc)
    except MemoryError:
        return "compile-limit", ""
    if missing := _wasm.missing_imports(engine, program):  # RN13
        return "program-imports", ", ".join(missing)
    if _wasm.start_of(engine, program) is None:
        return "program-no-start", ""
    left = memoryview(program.serialize())
    while left:
        left = left[os.write(artefact, left) :]
    return "", ""
