"""Wire format of the messages between the runner and child processes.

A frame is a length (4 bytes, big-endian) and that many bytes. File descriptors are sent with the
length.

    frame      from      bytes after the length
    fork       runner    module, uid or 0, 1 if tried, blanks between  + the child's end of a socket
    request    runner    length of the JSON (4) ‖ JSON ‖ input       + program, unless loaded
    answer     child     `Answer` packed ‖ standard output ‖ standard error
    fetch      child     a guest's request as a message; the length has the bit `FETCH`
    fetched    runner    a response as a message, or a message of one part: the error
    storage    child     a guest's operation as a message; the length has the bits `STORAGE`
    stored     runner    its results as a message
    compile    runner    target, blank, CPU seconds                  + program and artefact
    compiled   child     index in `COMPILED` (1) ‖ detail
    bundle     runner    SHA-256 of the program                + bundle and trusted root
    proven     child     a message: an empty part and the `Origin` as JSON; or a word and the detail
                         of a refusal
    body       runner    `BodyShape` as JSON                       + body
    separated  child     a message: an empty part, members, input; or the code and detail of a
                         refusal

After a fork the runner receives two numbers without a length, in any order: the child's process id
(4) from the template, and its negative (4) from the child once it is confined.

A message is a list of parts, as `serving.messages` packs them:

    request    method, URL, name and value of each header, body
    response   status in decimal digits, name and value of each header, body
    error      one of `FETCH_ERRORS`
    operation  name of the function in `near:storage/api`, arguments; numbers in decimal digits
    results    error, empty for success; then the function's other results

The runner does not trust a child: it compares each length with its bound before it reads a byte.
Both sides import this module, so it imports nothing of this project but that format.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from serving.messages import MAX_MESSAGE_BYTES

LENGTH = struct.Struct("!I")
PROCESS = struct.Struct("!i")
MAX_REQUEST_BYTES = 12 * 1024 * 1024
"""An input of 10 MB, and an environment of 256 KiB, which JSON makes at most six times as long."""
MAX_FILES = 2
MAX_OPEN_FILES = 16
"""Open files of a child: its connection, files received over it, and those of wasmtime (RN24)."""
MAX_DETAIL_BYTES = 400
MAX_COMPILE_S = 60
"""CPU seconds of one compilation (RN18).

The slowest program measured took 28 s on two busy cores: JavaScript, 12 MB.
"""
MAX_COMPILE_BYTES = 1 << 30
"""Private memory of a compilation (RN18). The largest measured took 350 MB: Python, 19 MB."""
MAX_ARTEFACT_BYTES = 256 << 20
"""Longest compiled program (RN18). The same two had 35 and 37 MB."""
MAX_BODY_CPU_S = 10
"""CPU seconds for one request body (RN251). The slowest of 20 MB took 2.5 s."""
MAX_BODY_DATA_BYTES = 1 << 30
"""Private memory for one request body (RN251)."""
MAX_BUNDLE_CPU_S = 10
"""CPU seconds for one provenance bundle (PV19), after its libraries were imported."""
MAX_BUNDLE_DATA_BYTES = 256 << 20
"""Private memory for one provenance bundle (PV19)."""
PYTHON_BASE = "python-base"
"""Target of a compilation of a Python base, which is a component (PY10)."""
COMPILED = ("", "program-invalid", "program-imports", "program-no-start")
"""Results of a compilation: empty for success, else the code of a reason."""

FETCH = 1 << 31
"""Bit in a length that marks a guest's HTTP request, sent while its run goes on."""
STORAGE = FETCH | 1 << 30
"""Bits in a length that mark a guest's storage operation."""
FETCH_ERRORS = (
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
"""Errors of a guest's HTTP request. A module gets -1 minus the index; `http.wit` describes each."""

COMPLETED, EXITED, TRAPPED, REFUSED, OVERFLOWED = range(5)
"""Ends of a run. REFUSED: it was not instantiated. OVERFLOWED: its output exceeded the limit."""
MEMORY_REFUSED, NO_FUEL = 1, 2
"""Flags of an answer."""

_ANSWER = struct.Struct("!BBiQQQQI")


def pack_request(head: Mapping[str, object], standard_input: bytes) -> bytes:
    """Encode a request to run a program.

    The request is a JSON object with a length prefix, then the program's input.
    """
    text = json.dumps(head).encode()
    return LENGTH.pack(len(text)) + text + standard_input


def unpack_request(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode a request to run a program.

    Returns a JSON object and the program's input. The request is not checked, because a child
    trusts the runner.
    """
    (length,) = LENGTH.unpack_from(body)
    end = LENGTH.size + length
    return json.loads(body[LENGTH.size : end]), body[end:]


class Answer(NamedTuple):
    """A child process's report on a program run.

    `stderr_bytes` counts all that the guest wrote to standard error. In the frame, `output_bytes`
    bytes of standard output follow, then the part of standard error that was kept.
    """

    ended: int
    flags: int
    exit_code: int
    instructions: int
    time_ns: int
    memory_bytes: int
    stderr_bytes: int
    output_bytes: int


ANSWER_BYTES = _ANSWER.size


def pack(answer: Answer, output: bytes, stderr: bytes) -> bytes:
    """Encode a run report and the program's output."""
    body = _ANSWER.pack(*answer) + output + stderr
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes | bytearray) -> tuple[Answer, memoryview, bytes]:
    """Decode an untrusted run report and the program's output.

    Raises ValueError if the message is malformed.

    Returns:
        The answer, standard output and standard error.
    """
    if len(body) < ANSWER_BYTES:
        raise ValueError("the answer of the child process is too short")
    (
        ended,
        flags,
        exit_code,
        instructions,
        time_ns,
        memory_bytes,
        stderr_bytes,
        output_bytes,
    ) = _ANSWER.unpack_from(body)
    answer = Answer(
        ended=ended,
        flags=flags,
        exit_code=exit_code,
        instructions=instructions,
        time_ns=time_ns,
        memory_bytes=memory_bytes,
        stderr_bytes=stderr_bytes,
        output_bytes=output_bytes,
    )
    rest = len(body) - ANSWER_BYTES
    if answer.ended > OVERFLOWED or answer.output_bytes > rest:
        raise ValueError(
            "the child process's answer has an unknown outcome, or an output of the wrong length"
        )
    middle = ANSWER_BYTES + answer.output_bytes
    return answer, memoryview(body)[ANSWER_BYTES:middle], bytes(body[middle:])


def exchange(connection: socket.socket, kind: int, message: bytes) -> bytes:
    """Send a guest's request to the runner, and return the response.

    Both are encoded messages. The kind is `FETCH` or `STORAGE`. A message that is too long is sent
    as an empty one, which is invalid. Raises EOFError if the runner has closed the connection.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        message = b""
    connection.sendall(LENGTH.pack(len(message) | kind) + message)
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return _exactly(connection, length)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read a request, with its file descriptors, from the runner.

    Raises EOFError if the connection was closed or the request is too long.
    """
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
