"""Uploads of values from clients.

Small values are buffered in memory. Large values are written to files. Values are received in a
`Staging` block. The end of the block removes every file that no commit can refer to. If the outcome
of a commit is unknown, its files stay; if no value refers to them, they are swept a day later.

All uploads in a process share a memory limit (`Intake`). An upload that would exceed the limit is
refused, and the client can try again later.
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass

from blake3 import blake3

from capabilities.frozen_struct import FrozenStruct

from ..space_errors import CommitInvalid, CommitTooLarge, IntakeFull, StoreBusy, StoreFull
from .object_store import PIECE_BYTES, IncomingBody, ObjectStore

INLINE_BYTES = 64 * 1024
"""The largest value that is stored in a row. Up to this size a row costs less than a file."""
INLINE_TOGETHER_BYTES = 7_864_320
"""The most bytes of value contents in the rows of one commit.

The rest of the limit on a commit (ST6) is for its other contents.
"""
INTAKE_BYTES = 128 * 1024 * 1024
"""The memory of one process for all values in transit.

It is enough for 450 large values, or two thousand of 64 KiB.
"""
# A client can send very short pieces, and each takes memory besides its bytes. After this many they
# are joined.
_MOST_PIECES = 1024
# While at most an eighth of the memory is used, large values are written in longer steps, with
# fewer round trips to a thread.
_MUCH_FREE_SHARE = 8
# After these errors nothing was written, so no value refers to a file that was renamed.
_NOTHING_WRITTEN = (StoreFull, StoreBusy, CommitTooLarge, CommitInvalid)


class Body(FrozenStruct):
    """The uploaded contents of a value, in memory or in a file.

    Attributes:
        digest: the BLAKE3 hash of the contents.
        size_bytes: their size.
        inline: the contents, if they are stored in the row of the value.
        file: the upload, if they are stored in a file.
        has_word: whether a file contains the word that the `Staging` searches for.
    """

    digest: bytes
    size_bytes: int
    inline: bytes | None
    file: IncomingBody | None = None
    has_word: bool = False


def inline_body(data: bytes) -> Body:
    """Create a `Body` from bytes in memory.

    Raises ValueError for more than INLINE_BYTES.
    """
    if len(data) > INLINE_BYTES:
        raise ValueError(
            f"a value of more than {INLINE_BYTES} bytes must be stored in a file; this value has"
            f" {len(data)} bytes"
        )
    return Body(digest=blake3(data).digest(), size_bytes=len(data), inline=data)


@dataclass
class Intake:
    """A memory limit shared by all uploads in a process."""

    max_bytes: int = INTAKE_BYTES
    held_bytes: int = 0

    def take(self, size_bytes: int) -> None:
        """Count received bytes against the memory limit.

        A negative number releases bytes.
        """
        if self.held_bytes + size_bytes > self.max_bytes:
            raise IntakeFull("too many large values are in transit")
        self.held_bytes += size_bytes


@dataclass(slots=True)
class _SearchedUpload:
    """An upload whose data is searched for a word while it is written.

    Attributes:
        file: the upload.
        word: the word; an empty word is not searched for.
        has_word: whether the data contains the word.
    """

    file: IncomingBody
    word: bytes
    has_word: bool = False
    _tail: bytes = b""

    async def append(self, *pieces: bytes) -> None:
        """Search some pieces, and append them to the upload."""
        if self.word:
            for piece in pieces:
                self._search(piece)
        await self.file.append(*pieces)

    def _search(self, piece: bytes) -> None:
        """Search a piece, and the bytes around its beginning: the word may be in two pieces."""
        if self.has_word:
            return
        # Unlike `find`, `in` raises and discards an error inside for every bytes it looks for.
        most_before = len(self.word) - 1
        border = self._tail + piece[:most_before]
        self.has_word = piece.find(self.word) >= 0 or border.find(self.word) >= 0
        self._tail = (border if len(piece) < most_before else piece)[-most_before:]


class Staging:
    """A context manager that deletes unused uploads when it exits.

    It receives the values that one operation uploads. Files are searched for `word` while they are
    written (`Body.has_word`).
    """

    def __init__(
        self, files: ObjectStore, intake: Intake | None = None, *, word: bytes = b""
    ) -> None:
        self._files = files
        self._intake = intake or Intake()
        self._word = word
        self._taken_bytes = 0
        self._inline_free_bytes = INLINE_TOGETHER_BYTES
        self._incoming: list[IncomingBody] = []

    async def __aenter__(self) -> "Staging":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        """Delete the unused uploaded files.

        If the outcome of a commit is unknown, its files are kept.
        """
        self._take(-self._taken_bytes)
        if isinstance(error, _NOTHING_WRITTEN):
            self.recall()
        for incoming in self._incoming:
            if not incoming.is_named:
                await incoming.discard()

    def recall(self) -> None:
        """Mark the uploaded files as unused after a refused commit.

        They are removed at the end of the block, unless they are renamed again.
        """
        for incoming in self._incoming:
            incoming.is_named = False

    async def receive(self, pieces: AsyncIterable[bytes]) -> Body:
        """Receive the contents of a value in chunks.

        An exception from the iterator ends the transfer.
        """
        buffer: list[bytes] = []
        buffered_bytes = 0
        incoming: _SearchedUpload | None = None
        is_long = False
        async for piece in pieces:
            self._take(len(piece))
            buffer.append(piece)
            buffered_bytes += len(piece)
            if incoming is None and buffered_bytes > min(INLINE_BYTES, self._inline_free_bytes):
                incoming = await self._begin()
            if len(buffer) == _MOST_PIECES:  # many short pieces take more memory than their bytes
                buffer = [b"".join(buffer)]
            if incoming is not None and buffered_bytes >= self._step_bytes(is_long):
                await incoming.append(*buffer)
                self._take(-buffered_bytes)  # the pieces are written, so their memory is free
                buffer = []
                buffered_bytes = 0
                is_long = True
        if incoming is None:
            self._inline_free_bytes -= buffered_bytes
            return inline_body(b"".join(buffer))
        await incoming.append(*buffer)
        return await self._finish(incoming)

    async def keep(self, whole: bytes) -> Body:
        """Add a value that is already in memory.

        It counts towards the memory limit until the end of the block. Raises the errors of
        `receive`.
        """
        size_bytes = len(whole)
        self._take(size_bytes)
        if size_bytes <= INLINE_BYTES and size_bytes <= self._inline_free_bytes:
            self._inline_free_bytes -= size_bytes
            return inline_body(whole)
        incoming = await self._begin()
        await incoming.append(whole)
        return await self._finish(incoming)

    def _step_bytes(self, is_long: bool) -> int:
        """Return how many bytes of a large value are written at a time.

        `is_long` tells whether a first step of the value was written already.
        """
        is_much_free = self._intake.held_bytes * _MUCH_FREE_SHARE <= self._intake.max_bytes
        if is_long and is_much_free:
            return self._files.step_bytes
        return PIECE_BYTES

    def _take(self, size_bytes: int) -> None:
        self._intake.take(size_bytes)
        self._taken_bytes += size_bytes

    async def contents(self, body: Body) -> bytes:
        """Return the contents of a value that was received here.

        Use this only for values of bounded size. Contents that are read back from a file count
        towards the memory limit until the end of the block. Raises the errors of `receive`.
        """
        if body.inline is not None:
            return body.inline
        assert body.file is not None  # a body is inline or in a file
        self._take(body.size_bytes)
        return await body.file.contents()

    async def _begin(self) -> _SearchedUpload:
        incoming = await self._files.begin()
        self._incoming.append(incoming)
        return _SearchedUpload(incoming, self._word)

    async def _finish(self, upload: _SearchedUpload) -> Body:
        digest, size_bytes = await upload.file.finish()
        return Body(
            digest=digest,
            size_bytes=size_bytes,
            inline=None,
            file=upload.file,
            has_word=upload.has_word,
        )
