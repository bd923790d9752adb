"""What workers and the storekeeper say to each other: frames of a 4-byte big-endian length and MessagePack.

    worker       → ["commit/1", number, settle16, settle_at, commit]
    storekeeper  → ["outcome/1", number, kind, previous, settled]

`number` pairs an answer with its question on one connection. `settle16` names the commit for good: sent again on
another connection, with the same bytes, it is written once and answered as settled.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

from ..errors import CommitInvalid, StoreError, StoreFull, StoreUnavailable
from ._writer import Outcome, Sealed
from .contract import (
    MAX_COMMIT_BYTES,
    MAX_KEY_BYTES,
    MAX_LIVE,
    MAX_PUTS,
    MAX_VALUE_BYTES,
    Commit,
    Committed,
    Record,
    Refused,
)

_LENGTH_BYTES: Final = 4
# A commit at all its bounds; keys of every kind and the framing of MessagePack included.
MAX_ASK_BYTES: Final = MAX_COMMIT_BYTES + 4 * MAX_LIVE * (MAX_KEY_BYTES + 64)
# An outcome returns what every put replaced.
MAX_ANSWER_BYTES: Final = MAX_PUTS * (MAX_VALUE_BYTES + 64) + 4096


class FrameInvalid(StoreUnavailable):
    """The other side does not speak this protocol; the connection is useless."""


class Kind(IntEnum):
    """How a commit ended."""

    COMMITTED = 0
    REFUSED = 1
    FULL = 2
    INVALID = 3


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="commit/1"):
    """A commit on its way to the storekeeper."""

    number: int
    settle: bytes
    settle_at: int
    commit: Commit

    def sealed(self) -> Sealed:
        """The commit as the writer takes it."""
        return Sealed(self.commit, self.settle, self.settle_at)


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="outcome/1"):
    """An outcome on its way back."""

    number: int
    kind: Kind
    previous: tuple[Record | None, ...] = ()
    settled: bool = False

    def outcome(self) -> Outcome:
        """The outcome as the caller of `commit` sees it."""
        match self.kind:
            case Kind.COMMITTED:
                return Committed(self.previous, self.settled)
            case Kind.REFUSED:
                return Refused()
            case Kind.FULL:
                return StoreFull("the store has reached its bound")
            case Kind.INVALID:
                return CommitInvalid("the storekeeper does not take this commit")


_ENCODER: Final = msgspec.msgpack.Encoder()
_ASKS: Final = msgspec.msgpack.Decoder(Ask)
_ANSWERS: Final = msgspec.msgpack.Decoder(Answer)


def answer_of(number: int, outcome: Outcome) -> Answer:
    """Put an outcome into words."""
    match outcome:
        case Committed(previous=previous, settled=settled):
            return Answer(number, Kind.COMMITTED, previous, settled)
        case Refused():
            return Answer(number, Kind.REFUSED)
        case StoreFull():
            return Answer(number, Kind.FULL)
        case StoreError():
            return Answer(number, Kind.INVALID)


def encode_frame(message: Ask | Answer) -> bytes:
    """Lay out a frame."""
    payload = _ENCODER.encode(message)
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def parse_ask(payload: bytes) -> Ask:
    """Read a question.

    Raises:
        FrameInvalid: it is none.
    """
    try:
        return _ASKS.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise FrameInvalid("a frame is not a commit") from exc


def parse_answer(payload: bytes) -> Answer:
    """Read an answer.

    Raises:
        FrameInvalid: it is none.
    """
    try:
        return _ANSWERS.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise FrameInvalid("a frame is not an outcome") from exc


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes, yield the payloads that are complete.

        Raises:
            FrameInvalid: a frame claims to be longer than it may be.
        """
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            size_bytes = int.from_bytes(self._buffer[start : start + _LENGTH_BYTES], "big")
            if size_bytes > self._max_bytes:
                raise FrameInvalid("a frame is too long")
            end = start + _LENGTH_BYTES + size_bytes
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[start + _LENGTH_BYTES : end])
            start = end
        del self._buffer[:start]
