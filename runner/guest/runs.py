"""Data types for program runs.

Nothing here starts a process or imports wasmtime, so that grants, ledger and receipts can use it.

Example:
    request = RunRequest(sha256, "wasm32-wasip1", environment_of(system, secrets), input=b"{}")
    result = await executor.run(request, load)
    result.reason is None and result.answer
"""

import asyncio
import base64
import codecs
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from capabilities.frozen import frozen
from sealspace.apps.programs import Target
from sealspace.documents.builds import Build
from serving.shares import OPERATOR, Payer

from ..reasons import Reason, RunRefused
from .environment import NO_VARIABLES, Environment
from .frames import MAX_COMPILE_S

MAX_INPUT_BYTES = 10_000_000
MAX_OUTPUT_BYTES = 10_000_000
MAX_ANSWER_BYTES = 14_000_000
"""Longest output as JSON text.

The longest output fits as base64. As text it may not: ten million NUL bytes become sixty million.
"""
MAX_STDERR_BYTES = 64 * 1024
"""Part of standard error that is kept; the rest is only counted."""
MILLION = 1_000_000
"""Unit of instructions in answers and in the limits of callers (RN1, RN2)."""
LIMIT_NAMES = {
    "maxInstructions": "max_instructions",
    "maxMemoryMb": "max_memory_mb",
    "maxExecutionSeconds": "max_execution_s",
}
"""Names of limits in JSON, each with its member of `Limits`."""

Load = Callable[[], Awaitable[bytes]]
"""Function that returns the untrusted bytes of a program, or raises RunRefused."""
StorageState = Literal["none", "written", "unknown"]
"""Whether a run wrote to its project's storage (RN206)."""
Handler = Callable[[bytes], Coroutine[None, None, bytes]]
"""Function that answers an untrusted message of a guest with another message."""


class ResponseFormat(StrEnum):
    """The encoding of a program's standard output in a response."""

    TEXT = "Text"
    JSON = "Json"
    BYTES = "Bytes"


@frozen
class Limits:
    """The resource limits of a program run."""

    max_instructions: int = 10_000_000_000
    max_memory_mb: int = 128
    max_execution_s: int = 60
    max_output_bytes: int = MAX_OUTPUT_BYTES

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:  # also if the operator set it (RN1)
                raise RunRefused("limits-invalid", name)

    @property
    def as_json(self) -> dict[str, int]:
        """The limits that callers can set, as a JSON object."""
        return {name: getattr(self, member) for name, member in LIMIT_NAMES.items()}


_MOST = {
    "max_instructions": 500_000_000_000,
    "max_memory_mb": 512,
    "max_execution_s": 180,
    "max_output_bytes": MAX_OUTPUT_BYTES,
}


class TaskFolders(NamedTuple):
    """The folders of one task; `tasks.folders` makes and removes them.

    Attributes:
        input: the folder `input` that the program reads as `/iexec_in`; it has no folders.
        output: the folder `output` beside it, which the program reads and writes as `/iexec_out`.
        max_bytes: longest file that the program can write.
        filled: ends once the program has written more than it may.
        is_within_limits: whether what the program wrote is within its limits. It reads the folder,
            so it is called in a thread, after the program has ended.
    """

    input: Path
    output: Path
    max_bytes: int
    filled: "asyncio.Task[object]"
    is_within_limits: Callable[[], bool]


class ReuseScope(NamedTuple):
    """The calls that may run in one child, one after another (RN260).

    Attributes:
        series: digest of the caller, the API key and the program.
        contents: digest of the grants, secret values, hosts and limits of the call.
    """

    series: bytes
    contents: bytes


@frozen
class RunRequest:
    """An authorised request to run a program.

    `start_by_s` is when a run that has not started is refused, in the time of the event loop. Only
    a task has `folders`, and only a task can have `arguments`. A run with secrets or storage and
    without `reuse` has a child of its own.
    """

    wasm_sha256: str
    target: Target
    environment: Environment = field(default=NO_VARIABLES, repr=False)
    input: bytes = field(default=b"", repr=False)
    response_format: ResponseFormat = ResponseFormat.TEXT
    limits: Limits = Limits()
    secrets_delivered: bool = False
    hosts: frozenset[str] = frozenset()
    origin: str = ""
    payer: Payer = OPERATOR
    developer: str = ""
    compile_s: int = MAX_COMPILE_S
    start_by_s: float | None = None
    storage: Handler | None = field(default=None, repr=False)
    has_storage: bool = False
    build: Build | None = None
    is_build_proven: bool = False
    arguments: tuple[str, ...] = field(default=(), repr=False)
    folders: TaskFolders | None = None
    reuse: ReuseScope | None = field(default=None, repr=False)


@frozen
class RunResult:
    """The result of a program run.

    For a completed run, `reason` is None. For a task, `output` describes the sealed result,
    `stdout` is the beginning of standard output, and `fetch_s` is how long its data set was
    fetched. `answer_format` is that of the answer of a program that failed (RN263). With
    `is_stderr_private`, the caller is not told how long standard error was (RN85).
    """

    reason: Reason | None
    output: bytes | memoryview = field(default=b"", repr=False)
    answer: bytes = field(default=b"", repr=False)
    answer_format: ResponseFormat | None = None
    stderr: bytes = field(default=b"", repr=False)
    stdout: bytes = field(default=b"", repr=False)
    stderr_bytes: int = 0
    is_stderr_private: bool = False
    instructions: int = 0
    time_ns: int = 0
    memory_bytes: int = 0
    secrets_delivered: bool = False
    hosts: tuple[str, ...] = ()
    compile_s: float = 0.0
    fetch_s: float = 0.0
    storage: StorageState = "none"

    @property
    def ran(self) -> bool:
        """Whether the program was started."""
        return self.reason is None or self.reason.ran

    @property
    def rounded_instructions(self) -> int:
        """The instruction count, rounded up to whole millions (RN2).

        Exact counts would reveal secrets.
        """
        return -(-self.instructions // MILLION) * MILLION

    @property
    def rounded_time_ms(self) -> int:
        """The run time in milliseconds, rounded up to a multiple of 10 (RN2).

        Exact times would reveal secrets.
        """
        return -(-self.time_ns // 10_000_000) * 10


def answer_of(output: bytes | memoryview, response_format: ResponseFormat) -> bytes:
    """Encode a program's standard output as JSON text.

    Args:
        output: at most `MAX_OUTPUT_BYTES`, untrusted.
        response_format: Text gives a JSON string, Json the output itself, and Bytes a string of
            standard base64.

    Raises:
        RunRefused: `output-format` if it is not UTF-8 or not one JSON text (RN3), `limit-output` if
            the result is longer than `MAX_ANSWER_BYTES` (RN159).
    """
    try:
        if response_format is ResponseFormat.BYTES:
            return b'"%b"' % base64.b64encode(output)
        is_text = response_format is ResponseFormat.TEXT
        answer = bytearray(b'"')  # filled for a text only; for JSON the output itself is the answer
        # Decoded in pieces: one character outside Latin-1 makes a Python string up to four times
        # as large.
        pieces = (
            bytes(output[at : at + _PIECE_BYTES]) for at in range(0, len(output), _PIECE_BYTES)
        )
        for text in codecs.iterdecode(pieces, "utf-8"):
            if is_text:
                answer += msgspec.json.encode(text)[1:-1]  # without its quotation marks
            # escapes make a text up to six times as long (RN159)
            if len(answer) >= MAX_ANSWER_BYTES:
                raise RunRefused("limit-output")
        if is_text:
            return bytes(answer + b'"')
        # Only validated: ten megabytes of `[[],[],…]` would become a gigabyte of objects.
        _JSON.decode(output)
    except (ValueError, RecursionError) as exc:
        raise RunRefused("output-format") from exc
    return bytes(output)


def failed_answer_of(
    output: bytes | memoryview, response_format: ResponseFormat
) -> tuple[bytes, ResponseFormat]:
    """Encode the standard output of a program that failed, and return its format (RN263).

    A program often fails before its output is complete. Output that is not valid in the given
    format is returned as a text, or as bytes.
    """
    for one in (response_format, ResponseFormat.TEXT):
        with suppress(RunRefused):
            return answer_of(output, one), one
    return answer_of(output, ResponseFormat.BYTES), ResponseFormat.BYTES


_JSON = msgspec.json.Decoder(msgspec.Raw)
_PIECE_BYTES = 1 << 16
