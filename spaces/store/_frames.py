"""What workers and the storekeeper say to each other: frames of a 4-byte big-endian length and MessagePack.

    worker       → ["commit/1", number, settle16, settle_at, commit]
    storekeeper  → ["outcome/2", number, kind, settled]

`number` pairs an answer with its question on one connection. `settle16` names the commit for good: sent again on
another connection, with the same bytes, it is written once and answered as settled.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

from ..errors import CommitInvalid, StoreError, StoreFull, StoreUnavailable
from ._writer import Outcome, Sealed
from .contract import MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_LIVE, Commit, Committed, Refused

_LENGTH_BYTES: Final = 4
# A commit at all its bounds; keys of every kind and the framing of MessagePack included.
MAX_ASK_BYTES: Final = MAX_COMMIT_BYTES + 4 * MAX_LIVE * (MAX_KEY_BYTES + 64)
MAX_ANSWER_BYTES: Final = 64


class FrameInvalid(StoreUnavailable):
    """The other side does not speak this protocol; the connection is useless."""


class Kind(IntEnum):
    """How a commit ended."""

    COMMITTED = 0
    REFUSED = 1
    FULL = 2
    INVALID = 3


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="commit/1"):
    """A commit on its way to the storekeeper."""

    number: int
    settle: bytes
    settle_at: int
    commit: Commit

    def sealed(self) -> Sealed:
        """The commit as the writer takes it."""
        return Sealed(self.commit, self.settle, self.settle_at)


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="outcome/2"):
    """An outcome on its way back."""

    number: int
    kind: Kind
    settled: bool = False

    def outcome(self) -> Outcome:
        """The outcome as the caller of `commit` sees it."""
        match self.kind:
            case Kind.COMMITTED:
                return Committed(self.settled)
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
        case Committed(settled=settled):
            return Answer(number, Kind.COMMITTED, settled)
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


def parse_ask(payload: bytes | memoryview) -> Ask:
    """Read a question.

    Raises:
        FrameInvalid: it is none.
    """
    try:
        return _ASKS.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise FrameInvalid("a frame is not a commit") from exc


def parse_answer(payload: bytes | memoryview) -> Answer:
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
        self._held = bytearray()  # the beginning of a frame
        self._wanted_bytes = _LENGTH_BYTES  # with so many bytes held there is something to do

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Take bytes, yield the payloads that are complete, each without a copy.

        Raises:
            FrameInvalid: a frame claims to be longer than it may be.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._wanted_bytes:
                return
        view = memoryview(self._held or data)
        start, self._wanted_bytes = 0, _LENGTH_BYTES
        while (body := start + _LENGTH_BYTES) <= len(view):
            size_bytes = int.from_bytes(view[start:body], "big")
            if size_bytes > self._max_bytes:
                raise FrameInvalid("a frame is too long")
            if len(view) < body + size_bytes:
                self._wanted_bytes = _LENGTH_BYTES + size_bytes
                break
            yield view[body : body + size_bytes]
            start = body + size_bytes
        self._held = bytearray(view[start:])
