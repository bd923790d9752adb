"""Main function of the child process that verifies a provenance bundle (PV19).

The template forks it, and the runner's own process never imports this module, nor the library that
verifies bundles. It needs the extra `provenance`.
"""

import os
import socket

import msgspec

from tee_backend.confinement.allowed_calls import PROVENANCE_CHILD
from tee_backend.confinement.privileges import confine
from tee_backend.confinement.resource_limits import limit, limit_cpu, limit_data, open_statm
from tee_backend.confinement.system_calls import allow_only
from tee_backend.messages import pack_parts

from . import frames as _frames

_NICE = 19
"""Lowers the priority, because runs use the same processors."""


def main(connection: socket.socket, uid: int | None, parent: int) -> None:
    """Confine this process, then verify one bundle.

    The caller exits afterwards.
    """
    os.nice(_NICE)
    # Before the process is confined, because it cannot open files after that. The library and what
    # it imports are part of the runner's code; nothing that others sent has been read yet.
    from sealspace.apps import provenance
    from sealspace.errors import ProvenanceInvalid

    provenance.load_library()
    confine(uid, parent)
    limit(files=_frames.MAX_OPEN_FILES, file_bytes=0)
    limit_data(open_statm(), _frames.MAX_BUNDLE_DATA_BYTES, 2 * _frames.MAX_BUNDLE_DATA_BYTES)
    limit_cpu(_frames.MAX_BUNDLE_CPU_S)
    allow_only(PROVENANCE_CHILD)  # before it reads the bundle (RN181)
    connection.sendall(_frames.PROCESS.pack(-os.getpid()))
    payload, (bundle, root) = _frames.receive(connection)
    try:
        trusted_root = provenance.parse_trusted_root(_content(root))
        origin = provenance.verify_origin(_content(bundle), payload.decode(), trusted_root)
        parts = [b"", msgspec.json.encode(origin)]
    except ProvenanceInvalid as invalid:
        parts = [b"refused", invalid.message.encode("utf-8", "replace")[: _frames.MAX_DETAIL_BYTES]]
    except MemoryError:
        os.abort()  # as a compilation does; the runner names the limit
    answer = pack_parts(parts)
    connection.sendall(_frames.LENGTH.pack(len(answer)) + answer)


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)
