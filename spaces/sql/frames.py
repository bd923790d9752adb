"""Messages between the processes that run SQL statements, and how they are framed.

Three processes take part:

- A worker serves HTTP requests, decides what they may do, and opens no database.
- The keeper starts child processes and lends them to workers. Its connection with a worker is a
  Unix socket that keeps the boundaries of messages; each of them is one message.
- A child runs the statements of one space. Its connection is a stream: each message follows its
  length in four bytes.

All messages are MessagePack. A worker trusts the keeper. It does not trust a child, because
somebody who found an error in SQLite may control it. So the length of a child's messages is
bounded, and they decode to one of the types below or to an error.
"""

import socket
import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from capabilities.frozen_struct import FrozenStruct
from capabilities.sql_caveats import SqlLimits

from .requests import MAX_ANSWER_BYTES, MAX_SQL_BYTES, Batch, Execute, Query

MAX_TO_CHILD_BYTES = 16 * MAX_SQL_BYTES
"""Each parameter, and each name in a caveat, takes at most nine bytes more than in its request."""
MAX_FROM_CHILD_BYTES = MAX_ANSWER_BYTES + 16 * MAX_SQL_BYTES
"""An answer, and the names of the changed tables."""
MAX_DATABASE_BYTES = 1 << 48
"""Largest size of a database that a child may report; SQLite's own limit is 256 TiB."""
MAX_KEEPER_BYTES = 4096
LENGTH = struct.Struct(">I")
_READ_BYTES = 256 * 1024


class MessageInvalid(Exception):
    """A message is too long, or of an unknown form."""


# --- between a worker and the keeper


class LeaseRequest(FrozenStruct, tag=True):
    """A worker's request to borrow a child.

    Attributes:
        number: the worker's number for the lease.
        owner: a hash of the space's owner, whose places are counted.
        key: the key of the database's row, which contains its space.
        writes: whether the statements may write.
        has_file: whether the database has a file or will get one; otherwise it is in memory.
        is_export: whether the database is copied. The keeper never ends the lease of an export.
    """

    number: int
    owner: bytes
    key: bytes
    writes: bool
    has_file: bool
    is_export: bool = False


class EndLease(FrozenStruct, tag=True):
    """The end of a lease, or of the wait for one.

    Attributes:
        keeps_child: whether the child can be lent again: no transaction is open, and no answer is
            due.
    """

    number: int
    keeps_child: bool


class EndReaders(FrozenStruct, tag=True):
    """A writing worker's request to end the leases that read its database.

    Its log can be emptied only while nothing reads it (SQ30).
    """

    number: int


ToKeeper = LeaseRequest | EndLease | EndReaders


class Serving(FrozenStruct, tag=True):
    """The keeper has accepted the connection of a worker."""


class ChildLent(FrozenStruct, tag=True):
    """The keeper lends a child. With the message comes the worker's end of its connection.

    Attributes:
        process: the id of the child, whose processor time the worker reads.
    """

    number: int
    process: int


class ChildNotStarted(FrozenStruct, tag=True):
    """The keeper could not start a child."""

    number: int


class ReadersEnded(FrozenStruct, tag=True):
    """No other lease reads the database any more, and none begins before this one ends."""

    number: int


FromKeeper = Serving | ChildLent | ChildNotStarted | ReadersEnded


# --- between a worker and a child


class Run(FrozenStruct, tag=True):
    """Run statements in a transaction (SQ11).

    Attributes:
        file: the name of the database's file in the folder of its space; empty for an empty
            database in memory.
        creates: whether a missing file is created.
        writes: whether the statements may write. Their transaction then stays open.
        wait_s: seconds to wait for another process that writes.
        free_bytes: how much the database may grow (SQ14); None means unlimited.
        rights, limits: see `Guard`.
        work: the statements.
    """

    file: str
    creates: bool
    writes: bool
    wait_s: float
    free_bytes: int | None
    rights: frozenset[str]
    limits: SqlLimits
    work: Query | Execute | Batch


class Commit(FrozenStruct, tag=True):
    """Commit the open transaction durably."""


class Copy(FrozenStruct, tag=True):
    """Copy a database into a new file of the same folder (SQ13)."""

    file: str


ToChild = Run | Commit | Copy


class Releasing(FrozenStruct, tag=True):
    """The statements have run, and free pages are being returned to the file system."""


class Ran(FrozenStruct, tag=True):
    """All statements have run.

    Attributes:
        body: the answer as JSON.
        size_bytes: the size of the database.
        tables: the names of the changed tables.
    """

    body: bytes
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_DATABASE_BYTES)]
    tables: frozenset[str]


class Committed(FrozenStruct, tag=True):
    """The transaction is durable."""


class Copied(FrozenStruct, tag=True):
    """The copy is finished.

    Attributes:
        file: the name of the copy, which is in the folder of the database.
    """

    file: str


class Failed(FrozenStruct, tag=True):
    """An error; the transaction was rolled back.

    Attributes:
        kind: the name of its class, of those in `child.ERRORS`.
    """

    kind: str
    text: str


FromChild = Releasing | Ran | Committed | Copied | Failed


_ENCODE = msgspec.msgpack.Encoder().encode


def encoded(message: Any) -> bytes:
    """Encode a message."""
    return _ENCODE(message)


def framed(message: Any) -> bytes:
    """Encode a message for a stream."""
    payload = _ENCODE(message)
    return LENGTH.pack(len(payload)) + payload


class MessageReader:
    """Separates the messages of a stream.

    Args:
        message_type: the union of the types of messages.
        max_bytes: the largest size of a message.
    """

    def __init__(self, message_type: Any, max_bytes: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(message_type)
        self._max_bytes = max_bytes
        self._received = bytearray()

    def feed(self, data: bytes) -> Any:
        """Add received bytes, and return the message that they complete, or None.

        Both sides take turns, so the bytes complete at most one message. Only a child sends two in
        a row: `Releasing` and its answer. To get the second one, call this again without bytes.

        Raises:
            MessageInvalid: the message is too long, or of an unknown form.
        """
        self._received += data
        if len(self._received) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._received)
        if length > self._max_bytes:
            raise MessageInvalid("a message is too long")
        end = LENGTH.size + length
        if len(self._received) < end:
            return None
        payload = bytes(memoryview(self._received)[LENGTH.size : end])
        del self._received[:end]
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise MessageInvalid("a message is of an unknown form") from exc


def receive(connection: socket.socket, reader: MessageReader) -> Any:
    """Wait for the next message of a stream, and return it, or None at the end of the stream."""
    message = reader.feed(b"")
    while message is None:
        data = connection.recv(_READ_BYTES)
        if not data:
            return None
        message = reader.feed(data)
    return message
