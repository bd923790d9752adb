"""What a run is asked to do, and what came of it.

Facts only: nothing here starts a process or needs wasmtime, so that grants, ledgers and receipts
are built on it.

Example:
    request = RunRequest(sha256, Target.WASIP1, environment_of(system, secrets), input=b"{}", secrets_delivered=True)
    result = await executor.run(request, load)
    result.reason is None and result.answer
"""

import base64
import codecs
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from ..reasons import Reason, RunRefused
from ..shares import OPERATOR, Payer
from .environment import NO_VARIABLES, Environment

MAX_INPUT_BYTES: Final = 10_000_000
MAX_OUTPUT_BYTES: Final = 10_000_000
MAX_ANSWER_BYTES: Final = 14_000_000
"""Of an output as JSON text: base64 of the longest output has fewer, ten megabytes of NUL as text
would be sixty."""
MAX_STDERR_BYTES: Final = 64 * 1024
"""What is kept of standard error; the rest is counted."""
MAX_PROGRAM_BYTES: Final = 10_000_000
MILLION: Final = 1_000_000
"""Instructions are counted in whole millions, in answers and in the limits of callers (RN1,
RN2)."""
MAX_COMPILE_S: Final = 20
"""Processor time of one compilation (RN18)."""
LIMIT_NAMES: Final = {
    "maxInstructions": "max_instructions",
    "maxMemoryMb": "max_memory_mb",
    "maxExecutionSeconds": "max_execution_s",
}
"""Limits that callers and owners state: names on the wire, and members of `Limits`."""

Load: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the bytes of a program, untrusted; raises RunRefused where there are none."""


class Target(StrEnum):
    """What the program was built for, as its publication declares; another kind of binary is
    refused, never tried."""

    WASIP1 = "wasm32-wasip1"
    WASIP2 = "wasm32-wasip2"


class ResponseFormat(StrEnum):
    """How standard output becomes an answer."""

    TEXT = "Text"
    JSON = "Json"
    BYTES = "Bytes"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use."""

    max_instructions: int = 10_000_000_000
    max_memory_mb: int = 128
    max_execution_s: int = 60
    max_output_bytes: int = MAX_OUTPUT_BYTES

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:  # RN1
                raise RunRefused("limits-invalid", name)

    @property
    def shown(self) -> dict[str, int]:
        """The limits that callers state, by their names on the wire."""
        return {name: getattr(self, member) for name, member in LIMIT_NAMES.items()}


_MOST: Final = {
    "max_instructions": 500_000_000_000,
    "max_memory_mb": 512,
    "max_execution_s": 180,
    "max_output_bytes": MAX_OUTPUT_BYTES,
}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run, after everything about authority is decided."""

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
    """What came of a run."""

    reason: Reason | None
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
    def ran(self) -> bool:
        """Whether the program was started."""
        return self.reason is None or self.reason.ran

    @property
    def rounded_instructions(self) -> int:
        """Instructions rounded up to a million: exact ones would tell a caller about secrets
        (RN2)."""
        return -(-self.instructions // MILLION) * MILLION

    @property
    def rounded_time_ms(self) -> int:
        """Milliseconds rounded up to ten, for the same reason (RN2)."""
        return -(-self.time_ns // 10_000_000) * 10


def answer_of(output: bytes | memoryview, response_format: ResponseFormat) -> bytes:
    """Return standard output as the JSON text of an answer.

    Args:
        output: at most `MAX_OUTPUT_BYTES`, untrusted.
        response_format: Text gives a JSON string, Json the output itself, Bytes a string of
            standard base64.

    Raises:
        RunRefused: `output-format`: not UTF-8, or not one JSON text (RN3); `limit-output`: more
            than `MAX_ANSWER_BYTES` (RN159).
    """
    try:
        if response_format is ResponseFormat.BYTES:
            return b'"%b"' % base64.b64encode(output)
        answer, is_text = bytearray(b'"'), response_format is ResponseFormat.TEXT
        # Piece by piece: one letter outside Latin can make the text of the whole four times as
        # large.
        pieces = (
            bytes(output[at : at + _PIECE_BYTES]) for at in range(0, len(output), _PIECE_BYTES)
        )
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
