"""The storage interface for large values.

Large values are written and read in pieces. `object_folder` implements the interface with a
folder, `object_bucket` with an S3 bucket. Both follow the same rules (spec/store.md §4). Other
modules use only the interface. The bytes of a large value are stored as an object. An object gets
the name that commits refer to only when it is complete and durable. If an open object is removed,
reading it may fail, but never returns other bytes.

Example:
    upload = await objects.begin()
    await upload.append(piece, next_piece)
    digest, size_bytes = await upload.finish()
    await upload.rename(name)
    async with await objects.open(name, size_bytes=size_bytes) as body: ...
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, Self

from blake3 import blake3

from ..space_errors import RecordDamaged
from .object_records import ObjectName

Piece = bytes | bytearray
"""Some bytes of a large value. They are not modified after they were passed on."""
PIECE_BYTES = 256 * 1024


class IncomingBody(Protocol):
    """An upload of a large value.

    The methods can be cancelled at any time.

    Attributes:
        is_named: whether a commit may refer to the object; set by `rename`.
    """

    is_named: bool

    async def append(self, *pieces: Piece) -> None:
        """Append data to the upload.

        After an error or a cancellation, the upload can only be discarded.
        """

    async def finish(self) -> tuple[bytes, int]:
        """Complete the upload.

        Returns the 32-byte BLAKE3 hash and the size of the data. Raises the errors of `append`.
        """

    async def contents(self) -> bytes:
        """Return the data of a completed upload that was not renamed yet.

        Use this only for uploads of bounded size. Raises the errors of `append`.
        """

    async def rename(self, name: ObjectName) -> None:
        """Give the completed upload its final name.

        The object is durable under that name afterwards. If it had another name, that is removed.
        """

    async def discard(self) -> None:
        """Delete the uploaded data.

        A renamed upload is deleted too. Data that cannot be deleted now is deleted by a later
        sweep.
        """


class OpenedBody(ABC):
    """A large value that is open for reading.

    `size_bytes` is the size that is recorded in the value's row.
    """

    def __init__(self, digest: bytes, size_bytes: int) -> None:
        self._digest = digest
        self.size_bytes = size_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def pieces(self, start: int = 0, stop: int | None = None) -> AsyncIterator[Piece]:
        """Yield the bytes from `start` up to `stop` in chunks.

        A chunk has at most 256 KiB.

        Raises:
            RecordDamaged: the data ends early, or a complete read does not match the digest. The
                last piece was then not yielded.
            StoreUnavailable: the storage location cannot be reached or fails.

        Does not check:
            The digest, if only a part of the value is read.
        """
        end = self.size_bytes if stop is None else min(stop, self.size_bytes)
        hasher = None
        if start == 0 and end == self.size_bytes:  # the digest is that of the whole value
            hasher = blake3()
        for offset in range(start, end, PIECE_BYTES):
            piece = await self._piece(offset, end, hasher)
            is_last = offset + len(piece) == end
            if is_last and hasher is not None and hasher.digest() != self._digest:
                raise RecordDamaged(
                    "the digest of a large value does not match the recorded digest"
                )
            yield piece

    @abstractmethod
    async def _piece(self, start: int, end: int, hasher: "blake3 | None") -> Piece:
        """Read and hash the next chunk of the value.

        The chunk begins at `start`, has at most PIECE_BYTES, and does not extend beyond `end`.
        """

    async def read(self) -> bytes:
        """Read and return the whole value.

        Raises the errors of `pieces`.
        """
        return b"".join([piece async for piece in self.pieces()])

    @abstractmethod
    async def close(self) -> None:
        """Release the resources used for reading the value."""


class ObjectStore(Protocol):
    """A storage backend for the large values of a node.

    Any number of processes may use it.
    """

    max_bytes: int | None
    step_bytes: int

    async def begin(self) -> IncomingBody:
        """Start the upload of a large value.

        Raises the errors of `IncomingBody.append`.
        """

    async def open(self, name: ObjectName, *, size_bytes: int) -> OpenedBody:
        """Open a large value for reading."""

    async def remove(self, name: ObjectName) -> None:
        """Delete an object if it exists."""

    def older_than(self, before: float) -> AsyncIterator[Sequence[ObjectName]]:
        """Yield the names of old objects in batches.

        An object is old if it was not modified since `before`, in epoch seconds.
        """

    async def remove_unfinished(self, before: float) -> int:
        """Delete old unfinished uploads and return their number.

        An upload is old if it was not modified since `before`, in epoch seconds.

        An upload that is still in progress then fails in `rename`, so no acknowledged data is lost.
        """

    async def check(self) -> None:
        """Check that the storage can be reached."""
