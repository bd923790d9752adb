"""Bodies on their way into a space: taken in piece by piece, the small ones in memory, the large ones in files.

Whoever takes in bodies does so within a `Staging`, which clears away at its end every file that no commit may have come
to name. A file that a commit with an unknown outcome named stays; if nobody refers to it, it is swept a day later.

Example:
    async with values.staging() as staging:
        body = await staging.receive(pieces)
        ...                                  # plan and commit; before each further attempt: staging.recall()
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from blake3 import blake3

from .blob_files import PIECE_BYTES, BlobFiles, IncomingFile
from .blobs import BlobName
from .errors import CommitInvalid, CommitTooLarge, StoreBusy, StoreFull

INLINE_BYTES: Final = 48 * 1024
# After these nothing was written, so nothing can refer to a file that was named.
_NOTHING_WRITTEN: Final = (StoreFull, StoreBusy, CommitTooLarge, CommitInvalid)


class StagedFile:
    """A whole body in a file that nobody refers to yet."""

    def __init__(self, incoming: IncomingFile) -> None:
        self._incoming = incoming
        self.is_named = False

    async def name_as(self, name: BlobName) -> None:
        """Give the file the name under which the next commit refers to it.

        Raises:
            StoreUnavailable: the disk refuses, or the file was removed as abandoned.
        """
        self.is_named = True
        await self._incoming.rename(name)

    async def discard(self) -> None:
        """Remove the file."""
        await self._incoming.discard()


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was taken in whole.

    Attributes:
        digest: its BLAKE3, 32 bytes.
        size_bytes: its size.
        inline: the bytes, when they are few enough to lie in the head.
        file: where it lies, when it is larger.
    """

    digest: bytes
    size_bytes: int
    inline: bytes | None
    file: StagedFile | None = None


def inline_body(data: bytes) -> Body:
    """Return a body of at most INLINE_BYTES that is at hand."""
    if len(data) > INLINE_BYTES:
        raise ValueError("a body of this size belongs in a file")
    return Body(digest=blake3(data).digest(), size_bytes=len(data), inline=data)


class Staging:
    """Takes in the bodies of one operation."""

    def __init__(self, files: BlobFiles) -> None:
        self._files = files
        self._incoming: list[IncomingFile] = []
        self._staged: list[StagedFile] = []

    async def __aenter__(self) -> "Staging":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not finished, and what no commit may have named."""
        if isinstance(error, _NOTHING_WRITTEN):
            self.recall()
        for staged in self._staged:
            if not staged.is_named:
                await staged.discard()
        for incoming in self._incoming:
            await incoming.discard()

    def recall(self) -> None:
        """Note that the last commit was refused, so that nothing refers to the files it named."""
        for staged in self._staged:
            staged.is_named = False

    async def receive(self, pieces: AsyncIterable[bytes]) -> Body:
        """Take in a body; what `pieces` raises ends it.

        Args:
            pieces: the bytes in order; whoever gives them bounds their sum.
        Raises:
            StoreFull: no room on the disk.
            StoreUnavailable: the disk refuses.
        """
        held: list[bytes] = []
        held_bytes = 0
        incoming: IncomingFile | None = None
        async for piece in pieces:
            held.append(piece)
            held_bytes += len(piece)
            if incoming is None and held_bytes > INLINE_BYTES:
                incoming = await self._begin()
            if incoming is not None and held_bytes >= PIECE_BYTES:
                await incoming.append(b"".join(held))
                held, held_bytes = [], 0
        if incoming is None:
            return inline_body(b"".join(held))
        await incoming.append(b"".join(held))
        return await self._finish(incoming)

    async def _begin(self) -> IncomingFile:
        incoming = await self._files.begin()
        self._incoming.append(incoming)
        return incoming

    async def _finish(self, incoming: IncomingFile) -> Body:
        digest, size_bytes = await incoming.finish()
        self._incoming.remove(incoming)
        staged = StagedFile(incoming)
        self._staged.append(staged)
        return Body(digest=digest, size_bytes=size_bytes, inline=None, file=staged)
