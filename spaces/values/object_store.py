"""The interface to a storage location for bodies, which are written and read in pieces.

`object_folder` keeps bodies in a folder, `object_bucket` in an S3 bucket; other modules do not know
which. Both follow the same rules (spec/store.md §4). A body gets a name that a commit may use only
when it is complete and durable. A reader that opened a body before it was removed may be cut short,
but never gets other bytes.

Example:
    incoming = await objects.begin()
    await incoming.append(piece, next_piece)
    digest, size_bytes = await incoming.finish()
    await incoming.rename(name)
    async with await objects.open(name, size_bytes=size_bytes) as body: ...
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from blake3 import blake3

from ..space_errors import RecordDamaged
from .object_records import ObjectName

Piece = bytes | bytearray
"""Some bytes of a body; they are not changed after they were passed on."""
PIECE_BYTES = 256 * 1024


class IncomingBody(Protocol):
    """A body that is being written. Its methods may be cancelled at any moment.

    Attributes:
        is_named: whether a commit may contain its name; set by `rename`.
    """

    is_named: bool

    async def append(self, *pieces: Piece) -> None:
        """Append the next pieces.

        After an error or a cancellation, the body can only be discarded.
        """
        ...

    async def finish(self) -> tuple[bytes, int]:
        """Finish the body, and return its 32-byte BLAKE3 hash and its size.

        Raises the errors of `append`.
        """
        ...

    async def rename(self, name: ObjectName) -> None:
        """Rename the finished body durably. Any earlier name is removed."""
        ...

    async def discard(self) -> None:
        """Remove the body, even after `rename`. If that fails, a sweep removes it later."""
        ...


class OpenedBody(ABC):
    """A body that is open for reading.

    Its size is the size that the row of the value records.
    """

    def __init__(self, digest: bytes, size_bytes: int) -> None:
        self._digest = digest
        self.size_bytes = size_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def pieces(self, start: int = 0, stop: int | None = None) -> AsyncIterator[Piece]:
        """Yield the body's bytes in the range [start, stop), in pieces of at most 256 KiB.

        Raises:
            RecordDamaged: the body ends early, or a complete read does not match its digest. The
                last piece was then not yielded.
            StoreUnavailable: the storage location cannot be reached or fails.

        Does not check:
            The digest, if only a part of the body is read.
        """
        end = self.size_bytes if stop is None else min(stop, self.size_bytes)
        hasher = blake3() if (start, end) == (0, self.size_bytes) else None
        for offset in range(start, end, PIECE_BYTES):
            piece = await self._piece(offset, end, hasher)
            if (
                hasher is not None
                and offset + len(piece) == end
                and hasher.digest() != self._digest
            ):
                raise RecordDamaged(
                    "the digest of a large value does not match the recorded digest"
                )
            yield piece

    @abstractmethod
    async def _piece(self, start: int, end: int, hasher: "blake3 | None") -> Piece:
        """Read and hash one piece: PIECE_BYTES from `start`, or fewer bytes up to `end`."""

    async def read(self) -> bytes:
        """Return the whole body.

        Raises the errors of `pieces`.
        """
        return b"".join([piece async for piece in self.pieces()])

    @abstractmethod
    async def close(self) -> None:
        """Release the resources of the read."""


class ObjectStore(Protocol):
    """A storage location with the bodies of one store. Any number of processes may use it."""

    max_bytes: int | None
    step_bytes: int

    async def begin(self) -> IncomingBody:
        """Begin to receive a body.

        Raises the errors of `IncomingBody.append`.
        """
        ...

    async def open(self, name: ObjectName, *, size_bytes: int) -> OpenedBody:
        """Open a body for reading."""
        ...

    async def remove(self, name: ObjectName) -> None:
        """Remove a body if it exists."""
        ...

    def older_than(self, before: float) -> AsyncIterator[Sequence[ObjectName]]:
        """Yield the names of bodies last written before a time in epoch seconds, in batches."""
        ...

    async def remove_unfinished(self, before: float) -> int:
        """Remove unfinished bodies last written before a time. Return their number.

        A caller that still receives such a body fails when it names it, so nothing acknowledged is
        lost.
        """
        ...

    async def check(self) -> None:
        """Test whether the storage location can be reached."""
        ...
