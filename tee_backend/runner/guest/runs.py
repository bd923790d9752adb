"""What a run is asked to do, and what came of it.

Facts only: nothing here starts a process or needs wasmtime, so that grants, ledgers and receipts are built on it.

Example:
    request = RunRequest(sha256, Target.WASIP1, environment_of(system, secrets), input=b"{}", secrets_delivered=True)
    result = await executor.run(request, load)
    result.reason is None and result.answer
"""

import base64
import codecs
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from ..reasons import Reason, RunRefused
from ..shares import OPERATOR, Payer
from .environment import NO_VARIABLES, Environment

MAX_INPUT_BYTES: Final = 10_000_000
MAX_OUTPUT_BYTES: Final = 10_000_000
MAX_ANSWER_BYTES: Final = 14_000_000
"""Of an output as JSON text: base64 of the longest output has fewer, ten megabytes of NUL as text would be sixty."""
MAX_STDERR_BYTES: Final = 64 * 1024
"""What is kept of standard error; the rest is counted."""
MAX_PROGRAM_BYTES: Final = 10_000_000
MILLION: Final = 1_000_000
"""Instructions are counted in whole millions, in answers and in the limits of callers (RN1, RN2)."""
MAX_COMPILE_S: Final = 20
"""Processor time of one compilation (RN18)."""

Load: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the bytes of a program, untrusted; raises RunRefused where there are none."""


class Target(Enum):
    """What the program was built for, as its publication declares; another kind of binary is refused, never tried."""

    WASIP1 = "wasm32-wasip1"
    WASIP2 = "wasm32-wasip2"


class ResponseFormat(Enum):
    """How standard output becomes an answer."""

    TEXT = "Text"
    JSON = "Json"
    BYTES = "Bytes"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        max_instructions: as wasmtime counts fuel, 1 to 5e11.
        max_memory_mb: MiB of all linear memories together, 1 to 512.
        max_execution_s: whole seconds from the start of the program to its end, 1 to 180.
        max_output_bytes: of standard output, 1 to `MAX_OUTPUT_BYTES`.

    Raises:
        RunRefused: `limits-invalid`, a limit is outside these bounds.
    """

    max_instructions: int = 10_000_000_000
    max_memory_mb: int = 128
    max_execution_s: int = 60
    max_output_bytes: int = MAX_OUTPUT_BYTES

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:  # RN1
                raise RunRefused("limits-invalid", name)


_MOST: Final = {
    "max_instructions": 500_000_000_000,
    "max_memory_mb": 512,
    "max_execution_s": 180,
    "max_output_bytes": MAX_OUTPUT_BYTES,
}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run, after everything about authority is decided.

    Attributes:
        wasm_sha256: 64 lower-case hex digits, of the bytes that are compiled.
        target: what the publication declares.
        environment: all variables, in order, from `environment.environment_of`.
        input: what the program reads from standard input, at most `MAX_INPUT_BYTES`.
        response_format: how standard output becomes an answer.
        limits: what the run may use.
        secrets_delivered: whether the environment or the input holds a secret. Such a run gets a child process that ran
            nothing before and runs nothing after it.
        hosts: that the program may send requests to, each as `sealspace.documents.run_grants.checked_host` takes it.
        origin: whose program it is. What was compiled for one origin runs for no other, which may not have the bytes.
        payer: whose share of children and compilations the run uses.
        developer: whose compile seconds are used where the program has to be compiled.
        compile_s: processor seconds that a compilation may take, 1 to `MAX_COMPILE_S`.
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


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        reason: why it failed; None when it completed.
        detail: names that the reason is about (imports, variables), or the guest's exit code; contains no value.
        output: standard output where the run completed, else empty.
        answer: the output as JSON text, by the response format; empty where the run failed.
        stderr: the first `MAX_STDERR_BYTES` of standard error; for a caller who owns all secrets that were delivered.
        stderr_bytes: how long standard error was; what a caller gets who may not see it.
        instructions: fuel used; the limit where the process was killed, because nobody knows then.
        time_ns: wall time in the child, from instantiation to end; to the kill where it was killed.
        memory_bytes: most linear memory at one time, all memories together; 0 where the process was killed.
        secrets_delivered: as asked for, and the program was started.
        hosts: that the program contacted, in ascending order.
        compile_s: processor seconds that were spent on compiling the program for this run, also in vain.
    """

    reason: Reason | None
    detail: str = ""
    output: bytes | memoryview = field(default=b"", repr=False)
    answer: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    stderr_bytes: int = 0
    instructions: int = 0
    time_ns: int = 0
    memory_bytes: int = 0
    secrets_delivered: bool = False
    hosts: tuple[str, ...] = ()
    compile_s: float = 0.0

    @property
    def rounded_instructions(self) -> int:
        """Instructions rounded up to a million: exact ones would tell a caller about secrets (RN2)."""
        return -(-self.instructions // MILLION) * MILLION

    @property
    def rounded_time_ms(self) -> int:
        """Milliseconds rounded up to ten, for the same reason (RN2)."""
        return -(-self.time_ns // 10_000_000) * 10


def answer_of(output: bytes | memoryview, response_format: ResponseFormat) -> bytes:
    """Return standard output as the JSON text of an answer.

    Args:
        output: at most `MAX_OUTPUT_BYTES`, untrusted.
        response_format: Text gives a JSON string, Json the output itself, Bytes a string of standard base64.

    Raises:
        RunRefused: `output-format`: not UTF-8, or not one JSON text (RN3); `limit-output`: more than `MAX_ANSWER_BYTES`
            (RN159).
    """
    try:
        if response_format is ResponseFormat.BYTES:
            return b'"%b"' % base64.b64encode(output)
        answer, is_text = bytearray(b'"'), response_format is ResponseFormat.TEXT
        # Piece by piece: one letter outside Latin can make the text of the whole four times as large.
        pieces = (bytes(output[at : at + _PIECE_BYTES]) for at in range(0, len(output), _PIECE_BYTES))
        for text in codecs.iterdecode(pieces, "utf-8"):
            if is_text:
                answer += msgspec.json.encode(text)[1:-1]
            if len(answer) >= MAX_ANSWER_BYTES:  # RN159
                raise RunRefused("limit-output")
        if is_text:
            return bytes(answer + b'"')
        # Checked, not built: ten megabytes of `[[],[],…]` would be a gigabyte of objects.
        _JSON.decode(output)
    except (ValueError, RecursionError) as exc:
        raise RunRefused("output-format") from exc
    return bytes(output)


_JSON: Final = msgspec.json.Decoder(msgspec.Raw)
_PIECE_BYTES: Final = 1 << 16
