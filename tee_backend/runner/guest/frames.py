"""Messages between the parent and its children: a length, then that many bytes; files go with the
length.

    fork       length (4) ‖ module, blank, uid or 0, with the child's end of a connection    parent to template
    begun      id of the child (4) by the template, its negative (4) by the child once confined      in any order
    request    length (4) ‖ length of the JSON (4) ‖ JSON ‖ input, with file descriptors     parent to child
    answer     length (4) ‖ `Answer` packed ‖ standard output ‖ standard error               child to parent
    fetch      length (4) with `FETCH` set ‖ message: what a guest wants to send             child to parent
    fetched    length (4) ‖ message: what was answered, or one part, an error                parent to child
    compile    length (4) ‖ target, with the descriptors of the program and of the artefact  parent to child
    compiled   length (4) ‖ index in `COMPILED` (1) ‖ detail                                 child to parent

A message is a list of parts, each a length (4, little-endian as in a guest's memory) and that many
bytes:

    request    method, URL, name and value of each header, body
    response   status in decimal digits, name and value of each header, body
    error      one of `FETCH_ERRORS`

The parent believes nothing of an answer: each length is compared with its bound before a byte is
read. Both sides import this module, so it imports nothing of this project.
"""

import json
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

LENGTH: Final = struct.Struct("!I")
PROCESS: Final = struct.Struct("!i")
MAX_REQUEST_BYTES: Final = 12 * 1024 * 1024
"""An input of 10 MB, an environment of 256 KiB, of which JSON makes at most six times as much, and
a few numbers."""
MAX_FILES: Final = 2
MAX_DETAIL_BYTES: Final = 400
COMPILED: Final = ("", "program-invalid", "program-imports", "program-no-start", "compile-limit")
"""What a compiling child answers: nothing is wrong, or the code of the reason."""

FETCH: Final = 1 << 31
"""Bit in a length: a guest's request follows, and the run goes on."""
MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""Of a request or of a response, all of it."""
FETCH_ERRORS: Final = (
    "request-invalid",
    "host-refused",
    "address-refused",
    "name-unknown",
    "connection-failed",
    "certificate-refused",
    "response-invalid",
    "response-too-large",
    "timed-out",
    "requests-exhausted",
)
"""Why a guest gets no response; a module sees -1 minus the index. `spec/runner/http.wit` says what
each means."""

COMPLETED, EXITED, TRAPPED, REFUSED, OVERFLOWED = range(5)
"""How a run ended. REFUSED: the program was not instantiated; OVERFLOWED: at one byte of output too
many."""
MEMORY_REFUSED, NO_FUEL = 1, 2
"""Flags of an answer."""

_PART: Final = struct.Struct("<I")
_ANSWER: Final = struct.Struct("!BBiQQQQI")


def pack_request(head: Mapping[str, object], standard_input: bytes) -> bytes:
    """Return the body of a request, the parent's half."""
    text = json.dumps(head).encode()
    return LENGTH.pack(len(text)) + text + standard_input


def unpack_request(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Read the body of a request, the child's half, which believes its parent: its JSON and the
    input."""
    (length,) = LENGTH.unpack_from(body)
    end = LENGTH.size + length
    return json.loads(body[LENGTH.size : end]), body[end:]


class Answer(NamedTuple):
    """How a run ended, as the child says, and what it used.

    `stderr_bytes` is what the guest wrote to standard error; of the bytes that follow,
    `output_bytes` are standard output, and the rest is what was kept of standard error.
    """

    ended: int
    flags: int
    exit_code: int
    instructions: int
    time_ns: int
    memory_bytes: int
    stderr_bytes: int
    output_bytes: int


ANSWER_BYTES: Final = _ANSWER.size


def pack(answer: Answer, output: bytes, stderr: bytes) -> bytes:
    """Return the frame of an answer."""
    body = _ANSWER.pack(*answer) + output + stderr
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes | bytearray) -> tuple[Answer, memoryview, bytes]:
    """Read an answer, the parent's half: it, standard output and standard error; ValueError where
    it is none."""
    if len(body) < ANSWER_BYTES:
        raise ValueError("an answer that is too short")
    answer = Answer(*_ANSWER.unpack_from(body))
    rest = len(body) - ANSWER_BYTES
    if answer.ended > OVERFLOWED or answer.output_bytes > rest:
        raise ValueError("an answer that contradicts itself")
    middle = ANSWER_BYTES + answer.output_bytes
    return answer, memoryview(body)[ANSWER_BYTES:middle], bytes(body[middle:])


def pack_parts(parts: Iterable[bytes]) -> bytes:
    """Return a message."""
    return b"".join(_PART.pack(len(part)) + part for part in parts)


def unpack_parts(message: bytes, most: int | None = None) -> list[bytes]:
    """Read a message, untrusted: its parts, at least one; ValueError where it is none, or has more
    than `most`."""
    parts: list[bytes] = []
    at = 0
    while at < len(message) or not parts:
        if len(parts) == most:  # a megabyte of empty ones would take the parent a tenth of a second
            raise ValueError("a message of too many parts")
        if len(message) - at < _PART.size:
            raise ValueError("a message that ends in a length")
        (length,) = _PART.unpack_from(message, at)
        at += _PART.size
        if length > len(message) - at:
            raise ValueError("a part that is longer than its message")
        parts.append(message[at : at + length])
        at += length
    return parts


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send a guest's request and return what came of it, the child's half; EOFError where the
    parent is gone."""
    connection.sendall(LENGTH.pack(len(message) | FETCH) + message)
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return _exactly(connection, length)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read one request and the files that come with it, the child's half; EOFError where the parent
    is gone."""
    prefix, files, _flags, _address = socket.recv_fds(connection, LENGTH.size, MAX_FILES)
    (length,) = LENGTH.unpack(prefix + _exactly(connection, LENGTH.size - len(prefix)))
    if length > MAX_REQUEST_BYTES:
        raise EOFError
    return _exactly(connection, length), files


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = connection.recv(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
