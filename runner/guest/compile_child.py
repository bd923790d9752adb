"""Main function of the child process that compiles a program.

The template forks it, and the runner's own process never imports this module. It imports wasmtime
and, of this project, only modules of this folder.
"""

import os
import socket

from wasmtime import Engine, Module, WasmtimeError
from wasmtime import component as components

from serving.confinement.allowed_calls import COMPILE_CHILD
from serving.confinement.privileges import confine
from serving.confinement.resource_limits import limit, limit_cpu, limit_data, open_statm
from serving.confinement.system_calls import allow_only

from . import frames as _frames
from . import wasm as _wasm
from .data_segments import merge_segments


def main(connection: socket.socket, uid: int | None, parent: int) -> None:
    """Confine this process, then compile one program.

    The caller exits afterwards.
    """
    confine(uid, parent)
    limit(files=_frames.MAX_OPEN_FILES, file_bytes=_frames.MAX_ARTEFACT_BYTES)
    # compiling may need far more memory than the program (RN18)
    limit_data(open_statm(), _frames.MAX_COMPILE_BYTES, _frames.MAX_COMPILE_BYTES)
    # an upper limit until the payer's own is known (RN18)
    limit_cpu(_frames.MAX_COMPILE_S)
    allow_only(COMPILE_CHILD)  # before it reads the program (RN181)
    connection.sendall(_frames.PROCESS.pack(-os.getpid()))
    payload, (source, artefact) = _frames.receive(connection)
    target, seconds = payload.decode().split()
    # RN166: the seconds that the payer's budget covers
    limit_cpu(int(seconds))
    code, detail = _compile(target, source, artefact)
    body = (
        bytes([_frames.COMPILED.index(code)])
        + detail.encode("utf-8", "replace")[: _frames.MAX_DETAIL_BYTES]
    )
    connection.sendall(_frames.LENGTH.pack(len(body)) + body)


def _compile(target: str, source: int, artefact: int) -> tuple[str, str]:
    """Compile a program, and return a result code with details.

    The result code is one of `COMPILED`. The compiled program is written to the file `artefact`.
    """
    # Merging validates the modules of a component too, each of which has one memory.
    validator = Engine(_wasm.configured(multi_memory=False))
    kind: type[_wasm.Program]
    if target == _wasm.PREVIEW_1:
        engine = validator
        kind = Module
    else:
        engine = Engine(_wasm.configured())
        kind = components.Component
    try:
        binary = os.pread(source, os.fstat(source).st_size, 0)
        program = kind(engine, merge_segments(binary, validator))
    except WasmtimeError as exc:
        return "program-invalid", str(exc)
    except MemoryError:
        os.abort()  # as wasmtime does when it is out of memory
    missing = _wasm.missing_imports(engine, program, is_base=target == _frames.PYTHON_BASE)
    if missing:  # the refusal names them (RN13)
        return "program-imports", ", ".join(missing)
    if _wasm.start_of(engine, program) is None:
        return "program-no-start", ""
    left = memoryview(program.serialize())
    while left:
        written = os.write(artefact, left)
        left = left[written:]
    return "", ""
