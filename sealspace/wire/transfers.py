"""Values on their way from and to files: read and written in pieces, off the event loop."""

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeAlias

from blake3 import blake3

from ..errors import InvalidInput
from .pace import Upload
from .transport import Stream
from .values import require_version_of

PIECE_BYTES: Final = 256 * 1024

Progress: TypeAlias = Callable[[int, int | None], object]
"""Called with the bytes that moved so far, and with all there are, or None where that is not known."""


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""
        ...


Source: TypeAlias = str | Path | Readable | AsyncIterable[bytes] | Iterable[bytes]
"""What is uploaded: the path of a file, an open binary file, or pieces."""


async def checked(stream: Stream) -> AsyncIterator[bytes]:
    """Yield the body of a value, and compare it with its version at the end (M1); raises TransferBroken."""
    digest, moved_bytes = blake3(), 0
    async for piece in stream.chunks():
        digest.update(piece)
        moved_bytes += len(piece)
        yield piece
    require_version_of(digest.hexdigest(), stream, moved_bytes=moved_bytes)


async def save(stream: Stream, to: str | Path | BinaryIO, progress: Progress | None) -> None:
    """Write a value to a file. A path is replaced as a whole when everything is there, and else left as it was.

    Raises:
        InvalidInput: the path is a folder, a device or a pipe.
        OSError: the file cannot be written.
        TransferBroken, ResponseTooLarge: as `checked`; an open file then holds what came before.
    """
    if not isinstance(to, str | Path):
        await _copy(stream, to, progress)
        return
    path = Path(to)
    if await asyncio.to_thread(path.is_dir):
        raise InvalidInput(f"{path} is a folder", hint="name the file to be written")
    if await asyncio.to_thread(path.exists) and not await asyncio.to_thread(path.is_file):
        # A superuser may replace /dev/stdout, for everybody.
        raise InvalidInput(f"{path} is no regular file", hint="open it yourself, and pass the open file")
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    file = await asyncio.to_thread(draft.open, "xb")
    try:
        with file:
            await _copy(stream, file, progress)
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(draft.replace, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


async def _copy(stream: Stream, file: BinaryIO, progress: Progress | None) -> None:
    held, moved_bytes = bytearray(), 0
    async for piece in checked(stream):
        held += piece
        moved_bytes += len(piece)
        if len(held) >= PIECE_BYTES:
            await asyncio.to_thread(file.write, bytes(held))
            held.clear()
        if progress is not None:
            progress(moved_bytes, stream.size_bytes)
    await asyncio.to_thread(file.write, bytes(held))
    await asyncio.to_thread(file.flush)


async def upload_of(source: Source, progress: Progress | None) -> tuple[Upload, bool]:
    """Return a source as a body, and whether it can be read from its beginning again; raises InvalidInput, OSError."""
    if isinstance(source, str | Path):
        path = Path(source)
        found = await asyncio.to_thread(path.stat)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"{path} is no regular file", hint="open it yourself, and pass the open file")
        return _upload(lambda: _of_path(path), found.st_size, progress), True
    if isinstance(source, bytes | bytearray | memoryview):
        raise InvalidInput("an upload reads a file or pieces", hint="bytes and texts are written by `put`")
    if hasattr(source, "read"):
        return await asyncio.to_thread(_of_open_file, source, progress)
    if isinstance(source, AsyncIterable):
        return _upload(source.__aiter__, None, progress), False
    if isinstance(source, Iterable):
        return _upload(lambda: _of_iterable(source), None, progress), False
    raise InvalidInput(
        f"{type(source).__name__} is no source of bytes", hint="pass a path, an open binary file or pieces"
    )


def of_bytes(body: bytes) -> bytes | Upload:
    """Return a long body as one that is sent in pieces, so that a slow way has time for it."""
    if len(body) <= PIECE_BYTES:
        return body

    async def pieces() -> AsyncIterator[bytes]:
        view = memoryview(body)
        for at in range(0, len(body), PIECE_BYTES):
            yield bytes(view[at : at + PIECE_BYTES])

    return Upload(pieces, len(body))


# Any: an open file of whatever class; what it gives is checked piece by piece.
def _of_open_file(file: Any, progress: Progress | None) -> tuple[Upload, bool]:
    if not (hasattr(file, "seekable") and file.seekable()):
        return _upload(lambda: _of_file(file), None, progress), False
    began = file.seek(0, os.SEEK_CUR)
    size_bytes = file.seek(0, os.SEEK_END) - began
    file.seek(began)

    async def pieces() -> AsyncIterator[bytes]:
        await asyncio.to_thread(file.seek, began)
        async for piece in _of_file(file):
            yield piece

    return _upload(pieces, size_bytes, progress), True


def _upload(pieces: Callable[[], AsyncIterator[bytes]], size_bytes: int | None, progress: Progress | None) -> Upload:
    """Return an upload that checks each piece and the announced size, and reports progress."""

    async def measured() -> AsyncIterator[bytes]:
        moved_bytes = 0
        async for piece in pieces():
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InvalidInput(f"the source gives {type(piece).__name__}, not bytes", hint="open files with `rb`")
            moved_bytes += len(piece)
            if size_bytes is not None and moved_bytes > size_bytes:
                break
            if not piece:
                continue  # an empty chunk would end the body
            yield bytes(piece)
            if progress is not None:
                progress(moved_bytes, size_bytes)
        if size_bytes is not None and moved_bytes != size_bytes:
            raise InvalidInput("the file changed its size while it was read", hint="upload it when nobody writes to it")

    return Upload(measured, size_bytes)


async def _of_path(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        async for piece in _of_file(file):
            yield piece


async def _of_file(file: Readable) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


async def _of_iterable(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    reader = iter(pieces)
    while (piece := await asyncio.to_thread(next, reader, None)) is not None:
        yield piece
