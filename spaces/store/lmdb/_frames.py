"""The protocol between workers and the storekeeper: frames of a 4-byte big-endian length and
MessagePack.

    worker       → ["commits/1", [[number, settle16, key_expires_at, commit], …]]
    storekeeper  → ["outcomes/1", [[number, kind, settled], …]]

A frame contains the questions or answers of one iteration of the event loop. `number` pairs an
answer with its question on one connection. `settle16` identifies the commit permanently: sent again
on another connection, with the same bytes, it is written once and answered as settled.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Annotated, Final, Literal, cast

import msgspec

from ...space_errors import CommitInvalid, StoreFull, StoreUnavailable
from ..contract import MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_LIVE, Committed, Refused
from ._writer import BATCH_COMMITS, CommitRequest, Outcome

_LENGTH_BYTES: Final = 4
_COUNT_BYTES: Final = 4
# A commit at all its bounds; keys of every kind, the framing of MessagePack and that of the frame
# included.
MAX_ASK_BYTES: Final = MAX_COMMIT_BYTES + 4 * MAX_LIVE * (MAX_KEY_BYTES + 64)
# An outcome is a number of at most 9 bytes, two of one byte and their framing.
MAX_ANSWER_BYTES: Final = 64 + 16 * BATCH_COMMITS


class FrameInvalid(StoreUnavailable):
    """The other side does not speak this protocol; the connection is useless."""


class Kind(IntEnum):
    """How a commit ended."""

    COMMITTED = 0
    REFUSED = 1
    FULL = 2
    INVALID = 3


class CommitReply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An outcome in transit back to the worker."""

    number: int
    kind: Kind
    already_applied: bool = False

    def outcome(self) -> Outcome:
        """The outcome as the caller of `commit` sees it."""
        match self.kind:
            case Kind.COMMITTED:
                return Committed(self.already_applied)
            case Kind.REFUSED:
                return Refused()
            case Kind.FULL:
                return StoreFull("the store has reached its bound")
            case Kind.INVALID:
                return CommitInvalid("the storekeeper does not take this commit")


_ENCODER: Final = msgspec.msgpack.Encoder()
encode_ask: Final = _ENCODER.encode
"""Encode a question, to be put into frames."""
_BATCH: Final = msgspec.Meta(min_length=1, max_length=BATCH_COMMITS)
_ASKS: Final = msgspec.msgpack.Decoder(
    tuple[Literal["commits/1"], Annotated[tuple[CommitRequest, ...], _BATCH]]
)
_ANSWERS: Final = msgspec.msgpack.Decoder(
    tuple[Literal["outcomes/1"], Annotated[tuple[CommitReply, ...], _BATCH]]
)
# The bytes before the questions of a frame: an array of the word and of an array whose length comes
# next.
_ASKS_HEAD: Final = _ENCODER.encode(("commits/1", ()))[:-1] + b"\xdd"
_MAX_ASKS_BYTES: Final = MAX_ASK_BYTES - len(_ASKS_HEAD) - _COUNT_BYTES


def answer_of(number: int, outcome: Outcome) -> CommitReply:
    """Return the answer that states an outcome."""
    if isinstance(outcome, Committed):
        return CommitReply(number, Kind.COMMITTED, outcome.already_applied)
    if isinstance(outcome, Refused):
        return CommitReply(number, Kind.REFUSED)
    return CommitReply(number, Kind.FULL if isinstance(outcome, StoreFull) else Kind.INVALID)


def ask_frames(asks: Sequence[bytes]) -> list[bytes]:
    """Put questions into as few frames as the bounds allow."""
    if len(asks) <= BATCH_COMMITS and sum(map(len, asks)) <= _MAX_ASKS_BYTES:
        return [_ask_frame(asks)]
    frames, held, held_bytes = [], list[bytes](), 0
    for ask in asks:
        if held and (len(held) == BATCH_COMMITS or held_bytes + len(ask) > _MAX_ASKS_BYTES):
            frames.append(_ask_frame(held))
            held, held_bytes = [], 0
        held.append(ask)
        held_bytes += len(ask)
    return [*frames, _ask_frame(held)]


def _ask_frame(asks: Sequence[bytes]) -> bytes:
    payload = b"".join((_ASKS_HEAD, len(asks).to_bytes(_COUNT_BYTES, "big"), *asks))
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def answer_frame(answers: Sequence[CommitReply]) -> bytes:
    """Encode a frame of at most BATCH_COMMITS answers."""
    payload = _ENCODER.encode(("outcomes/1", answers))
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def parse_asks(payload: bytes | memoryview) -> tuple[CommitRequest, ...]:
    """Read questions."""
    try:
        return _ASKS.decode(payload)[1]
    except (ValueError, RecursionError) as exc:
        raise FrameInvalid("a frame is not of commits") from exc


def parse_answers(payload: bytes | memoryview) -> tuple[CommitReply, ...]:
    """Read answers."""
    try:
        return _ANSWERS.decode(payload)[1]
    except (ValueError, RecursionError) as exc:
        raise FrameInvalid("a frame is not of outcomes") from exc


class FrameConnection(asyncio.Protocol):
    """One end of a connection that carries frames."""

    transport: asyncio.Transport

    def __init__(
        self,
        max_bytes: int,
        *,
        made: "Callable[[FrameConnection], None]",
        received: "Callable[[FrameConnection, memoryview], None]",
        lost: "Callable[[FrameConnection], None]",
    ) -> None:
        self._reader = FrameReader(max_bytes)
        self._made, self._received, self._lost = made, received, lost
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own transports do not derive from it
        self.transport = cast(asyncio.Transport, transport)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                self._received(self, payload)
        except FrameInvalid:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():  # cancelled with a task that waited for it
            self.closed.set_result(None)
        self._lost(self)


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()  # the beginning of a frame
        self._wanted_bytes = _LENGTH_BYTES  # with this many bytes there is something to do

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Take bytes, yield the payloads that are complete, each without a copy."""
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
