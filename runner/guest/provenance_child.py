"""Main function of the child process that verifies a provenance bundle (PV19).

The template forks it, and the runner's own process never imports this module, nor the library that
verifies bundles. It needs the extra `provenance`.
"""

import os
import socket

import msgspec

from serving.confinement.allowed_calls import PROVENANCE_CHILD
from serving.confinement.privileges import confine
from serving.confinement.resource_limits import limit, limit_cpu, limit_data, open_statm
from serving.confinement.system_calls import allow_only
from serving.messages import pack_parts

from . import frames as _frames

_NICE = 19
"""Lowers the priority, because runs use the same processors."""
# The first part of an answer; see `bundles.parse_answer`.
_PROVEN = b""
_REFUSED = b"refused"


def main(connection: socket.socket, uid: int | None, parent: int) -> None:
    """Confine this process, then verify one bundle and answer with its origin.

    The caller exits afterwards.

    Args:
        connection: to the runner. The request is the program's SHA-256, with the files of the
            bundle and of the trusted root.
        uid: the user for this process; None: the present one.
        parent: process id of the template, whose end is the end of this process.
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
    sha256, (bundle_file, root_file) = _frames.receive(connection)
    try:
        trusted_root = provenance.parse_trusted_root(_read_all(root_file))
        origin = provenance.verify_origin(_read_all(bundle_file), sha256.decode(), trusted_root)
        parts = [_PROVEN, msgspec.json.encode(origin)]
    except ProvenanceInvalid as invalid:
        reason = invalid.message.encode("utf-8", "replace")
        parts = [_REFUSED, reason[: _frames.MAX_DETAIL_BYTES]]
    except MemoryError:
        os.abort()  # as a compilation does; the runner names the limit
    answer = pack_parts(parts)
    connection.sendall(_frames.LENGTH.pack(len(answer)) + answer)


def _read_all(file: int) -> bytes:
    """Return the content of a file in memory, by its descriptor."""
    return os.pread(file, os.fstat(file).st_size, 0)
