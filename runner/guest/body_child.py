"""Main function of the child process that separates a long request body (RN251).

The template forks it, and the runner's own process never imports this module.
"""

import os
import socket

import msgspec

from serving.confinement.allowed_calls import BODY_CHILD
from serving.confinement.privileges import confine
from serving.confinement.resource_limits import limit, limit_cpu, limit_data, open_statm
from serving.confinement.system_calls import allow_only
from serving.messages import pack_parts

from . import frames as _frames
from .body_split import BodyRefused, BodyShape, split_body

_NICE = 19
"""Lowers the priority, because callers with small bodies use the same processors."""


def main(connection: socket.socket, uid: int | None, parent: int) -> None:
    """Confine this process, then separate one body.

    The caller exits afterwards.
    """
    os.nice(_NICE)
    confine(uid, parent)
    limit(files=_frames.MAX_OPEN_FILES, file_bytes=0)
    limit_data(open_statm(), _frames.MAX_BODY_DATA_BYTES, _frames.MAX_BODY_DATA_BYTES)
    limit_cpu(_frames.MAX_BODY_CPU_S)
    allow_only(BODY_CHILD)  # before it reads the body (RN181)
    connection.sendall(_frames.PROCESS.pack(-os.getpid()))
    payload, (file,) = _frames.receive(connection)
    try:
        shape = msgspec.json.decode(payload, type=BodyShape)
        data = os.pread(file, os.fstat(file).st_size, 0)
        parts = [b"", *split_body(data, shape)]
    except BodyRefused as refused:
        parts = [refused.code.encode(), refused.detail.encode("utf-8", "replace")]
    except MemoryError:
        os.abort()  # as a compilation does; the runner names the limit
    answer = pack_parts(parts)
    connection.sendall(_frames.LENGTH.pack(len(answer)) + answer)
