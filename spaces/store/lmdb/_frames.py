"""The protocol between workers and the process that writes the store.

Messages are encoded as MessagePack in length-prefixed frames.

    worker       → ["commits/1", [[number, key16, key_expires_at, commit], …]]
    storekeeper  → ["outcomes/1", [[number, kind, already_applied], …]]

Each frame begins with its length, 4 bytes big-endian. It contains the requests or replies of one
iteration of the event loop. `number` pairs a reply with its request on one connection. `key16` is
the idempotency key: a commit that is sent again on another connection, with the same bytes, is
written once and answered as already applied.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Annotated, Literal, cast

import msgspec

from ...space_errors import CommitInvalid, StoreFull, StoreUnavailable
from ..contract import MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_LIVE, Committed, Packed, Refused
from ._writer import BATCH_COMMITS, CommitRequest, Outcome

_LENGTH_BYTES = 4
_COUNT_BYTES = 4
# A commit that reaches all its limits: values, keys of every kind, and the framing of both layers.
MAX_REQUEST_BYTES = MAX_COMMIT_BYTES + 4 * MAX_LIVE * (MAX_KEY_BYTES + 64)
# A reply is a number of at most 9 bytes, two of one byte and their framing.
MAX_REPLY_BYTES = 64 + 16 * BATCH_COMMITS


class FrameInvalid(StoreUnavailable):
    """The peer sent an invalid frame.

    The connection is closed.
    """


class Kind(IntEnum):
    """The outcome of a commit."""

    COMMITTED = 0
    REFUSED = 1
    FULL = 2
    INVALID = 3


class CommitReply(Packed):
    """A reply with the outcome of one commit."""

    number: int
    kind: Kind
    already_applied: bool = False

    def outcome(self) -> Outcome:
        """Return the result of the commit, or the exception to raise."""
        match self.kind:
            case Kind.COMMITTED:
                return Committed(self.already_applied)
            case Kind.REFUSED:
                return Refused()
            case Kind.FULL:
                return StoreFull("the store has no space left")
            case Kind.INVALID:
                return CommitInvalid(
                    "the process that writes the store rejected the commit as invalid"
                )


_ENCODER = msgspec.msgpack.Encoder()
encode_request = _ENCODER.encode
"""Encode a request, to be put into frames."""
_BATCH = msgspec.Meta(min_length=1, max_length=BATCH_COMMITS)
_REQUESTS = msgspec.msgpack.Decoder(
    tuple[Literal["commits/1"], Annotated[tuple[CommitRequest, ...], _BATCH]]
)
_REPLIES = msgspec.msgpack.Decoder(
    tuple[Literal["outcomes/1"], Annotated[tuple[CommitReply, ...], _BATCH]]
)
# The bytes before the requests of a frame: an array of the frame's type and an array of requests,
# whose length follows.
_REQUESTS_HEAD = _ENCODER.encode(("commits/1", ()))[:-1] + b"\xdd"
_MAX_REQUESTS_BYTES = MAX_REQUEST_BYTES - len(_REQUESTS_HEAD) - _COUNT_BYTES


def reply_of(number: int, outcome: Outcome) -> CommitReply:
    """Convert the outcome of a commit into a reply."""
    if isinstance(outcome, Committed):
        return CommitReply(
            number=number, kind=Kind.COMMITTED, already_applied=outcome.already_applied
        )
    if isinstance(outcome, Refused):
        return CommitReply(number, Kind.REFUSED)
    if isinstance(outcome, StoreFull):
        return CommitReply(number, Kind.FULL)
    return CommitReply(number, Kind.INVALID)


def request_frames(requests: Sequence[bytes]) -> list[bytes]:
    """Pack requests into as few frames as possible."""
    if len(requests) <= BATCH_COMMITS and sum(map(len, requests)) <= _MAX_REQUESTS_BYTES:
        # All requests fit into one frame.
        return [_request_frame(requests)]
    frames = []
    batch: list[bytes] = []
    size_bytes = 0
    for request in requests:
        is_full = len(batch) == BATCH_COMMITS or size_bytes + len(request) > _MAX_REQUESTS_BYTES
        if batch and is_full:
            frames.append(_request_frame(batch))
            batch = []
            size_bytes = 0
        batch.append(request)
        size_bytes += len(request)
    return [*frames, _request_frame(batch)]


def _request_frame(requests: Sequence[bytes]) -> bytes:
    payload = b"".join((_REQUESTS_HEAD, len(requests).to_bytes(_COUNT_BYTES, "big"), *requests))
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def reply_frame(replies: Sequence[CommitReply]) -> bytes:
    """Encode replies as one frame.

    A frame contains at most BATCH_COMMITS replies.
    """
    payload = _ENCODER.encode(("outcomes/1", replies))
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def parse_requests(payload: bytes | memoryview) -> tuple[CommitRequest, ...]:
    """Decode the commit requests in a frame."""
    try:
        return _REQUESTS.decode(payload)[1]
    except (ValueError, RecursionError) as exc:
        raise FrameInvalid("a message from a worker does not contain commits") from exc


def parse_replies(payload: bytes | memoryview) -> tuple[CommitReply, ...]:
    """Decode the commit replies in a frame."""
    try:
        return _REPLIES.decode(payload)[1]
    except (ValueError, RecursionError) as exc:
        raise FrameInvalid(
            "a message from the storekeeper does not contain commit replies"
        ) from exc


class FrameConnection(asyncio.Protocol):
    """A socket connection that carries length-prefixed frames."""

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
        # uvloop's transports do not derive from asyncio.Transport
        self.transport = cast(asyncio.Transport, transport)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                self._received(self, payload)
        except FrameInvalid:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # A task that was cancelled while it waited for this future has cancelled the future.
        if not self.closed.done():
            self.closed.set_result(None)
        self._lost(self)


class FrameReader:
    """A decoder that splits a byte stream into frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()  # the beginning of an incomplete frame
        self._needed_bytes = _LENGTH_BYTES  # with fewer bytes in the buffer nothing can be decoded

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Add received bytes, and yield the complete frames.

        The payloads are views of the received bytes, not copies.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed_bytes:
                return
        view = memoryview(self._buffer or data)
        self._needed_bytes = _LENGTH_BYTES
        start = 0
        while start + _LENGTH_BYTES <= len(view):
            body = start + _LENGTH_BYTES
            size_bytes = int.from_bytes(view[start:body], "big")
            if size_bytes > self._max_bytes:
                raise FrameInvalid("a frame is too long")
            if len(view) < body + size_bytes:
                self._needed_bytes = _LENGTH_BYTES + size_bytes
                break
            yield view[body : body + size_bytes]
            start = body + size_bytes
        self._buffer = bytearray(view[start:])
