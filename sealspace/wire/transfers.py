"""Values on their way from and to files: read and written in pieces, off the event loop."""

import asyncio
import os
import stat
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeAlias

import aiohttp
import msgspec
from blake3 import blake3
from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.clock_and_entropy import Entropy

from ..errors import BatchIncomplete, InvalidInput, MalformedAnswer, SealspaceError, TransferBroken
from .node_answers import decoded
from .transport import Answer, Progress, Stream, Upload, path_segment
from .values import Value, require_version_of, whole_value_of

MOST_READS: Final = 100
MOST_WRITES: Final = 250
"""What a node takes in one token."""

MAX_SMALL_BYTES: Final = 64 * 1024
"""A larger value is written by itself: a node keeps it beside its commits, of which each has a
bound of rows."""

_MAX_VALUES_BYTES: Final = 4 * 1024 * 1024  # a node's commit holds twice as much, metadata included
# keys stand in the token, and a node reads a header line of 384 KiB
_MAX_KEYS_BYTES: Final = 96 * 1024
_PER_CAPABILITY_BYTES: Final = 160  # the space and the ability beside each key, at most


class Part(NamedTuple):
    """A value to be written: its bytes, and the headers of content type and metadata."""

    body: bytes
    headers: Mapping[str, str]


def packed_keys(keys: Iterable[str], most: int) -> list[list[str]]:
    """Divide keys, each once, into requests that a node takes."""
    return _packed(dict.fromkeys(keys, 0), most)


def packed_parts(parts: Mapping[str, Part]) -> list[list[str]]:
    """Divide values into commits that a node takes: small ones together, each large one by itself,
    in this order."""
    sizes = {key: len(part.body) for key, part in parts.items()}
    large = [[key] for key, size_bytes in sizes.items() if size_bytes > MAX_SMALL_BYTES]
    return (
        _packed({key: size for key, size in sizes.items() if size <= MAX_SMALL_BYTES}, MOST_WRITES)
        + large
    )


def _packed(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    packs: list[list[str]] = []
    keys_bytes = values_bytes = 0
    for key, size_bytes in sizes.items():
        keys_bytes += len(key.encode()) + _PER_CAPABILITY_BYTES
        values_bytes += size_bytes
        if (
            not packs
            or len(packs[-1]) == most
            or keys_bytes > _MAX_KEYS_BYTES
            or values_bytes > _MAX_VALUES_BYTES
        ):
            packs.append([])
            keys_bytes, values_bytes = len(key.encode()) + _PER_CAPABILITY_BYTES, size_bytes
        packs[-1].append(key)
    return packs


async def in_order(
    packs: Sequence[Sequence[str]], write: Callable[[Sequence[str]], Awaitable[None]]
) -> None:
    """Await the write of each pack of keys."""
    done: list[str] = []
    for number, keys in enumerate(packs):
        try:
            await write(keys)
        except SealspaceError as exc:
            if not done:
                raise
            left = [key for pack in packs[number:] for key in pack]
            raise BatchIncomplete(exc, done=tuple(done), left=tuple(left)) from exc
        done += keys


def multipart(parts: Mapping[str, Part], entropy: Entropy) -> tuple[bytes, str]:
    """Return a form with one part for each value, and its content type; a key is percent-encoded
    once more."""
    boundary = entropy.token(24).hex()
    pieces: list[bytes] = []
    for key, part in parts.items():
        name = f'Content-Disposition: form-data; name="{path_segment(key)}"'
        lines = [
            f"--{boundary}",
            name,
            *(f"{header}: {text}" for header, text in part.headers.items()),
            "",
            "",
        ]
        pieces += ["\r\n".join(lines).encode("ascii"), part.body, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


class _Written(msgspec.Struct):
    written: list[str]
    count: int


class _Error(msgspec.Struct):
    code: str = ""


class _Read(msgspec.Struct, rename="camel"):
    key: str
    ok: bool
    data_base64: bytes = b""
    headers: dict[str, str] = {}
    error: _Error | None = None


class _Results(msgspec.Struct):
    results: list[_Read]


_WRITTEN: Final = msgspec.json.Decoder(_Written)
_RESULTS: Final = msgspec.json.Decoder(_Results)
_ABSENT: Final = "KV_NOT_FOUND"


def require_written(answer: Answer, keys: Sequence[str]) -> None:
    """Check that a batch of puts wrote exactly what was asked for (J9); raises MalformedAnswer."""
    said = decoded(_WRITTEN, answer, "that to a batch")
    if said.count != len(keys) or sorted(said.written) != sorted(keys):
        raise MalformedAnswer(f"{answer.asked}: the node wrote other keys than were asked for")


def found_in(answer: Answer, keys: Sequence[str]) -> dict[str, Value]:
    """Return the values that were there, in the order of the keys, each compared with its
    version."""
    results = decoded(_RESULTS, answer, "that to a batch").results
    if sorted(one.key for one in results) != sorted(keys):
        raise MalformedAnswer(f"{answer.asked}: the node read other keys than were asked for")
    by_key = {one.key: one for one in results}
    found: dict[str, Value] = {}
    for key in keys:
        one = by_key[key]
        if one.ok:
            headers = CIMultiDictProxy(CIMultiDict(one.headers))
            found[key] = whole_value_of(Answer(200, headers, one.data_base64, key))
        elif one.error is None or one.error.code != _ABSENT:
            raise MalformedAnswer(f"{answer.asked}: the node says nothing usable about {key}")
    return found


PIECE_BYTES: Final = 256 * 1024


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""


Source: TypeAlias = str | Path | Readable | AsyncIterable[bytes] | Iterable[bytes]
"""What is uploaded: the path of a file, an open binary file, or pieces."""


async def checked(stream: Stream) -> AsyncIterator[bytes]:
    """Yield the body of a value, and compare it with its version at the end (M1); raises
    TransferBroken."""
    digest = blake3()
    try:
        async for piece in stream.pieces():
            digest.update(piece)
            yield piece
    except (TimeoutError, aiohttp.ClientError) as exc:
        of = "" if stream.size_bytes is None else f" of {stream.size_bytes}"
        moved_bytes = stream.moved_bytes
        raise TransferBroken(
            f"{stream.asked}: broke off after {moved_bytes}{of} bytes", moved_bytes=moved_bytes
        ) from exc
    require_version_of(digest.hexdigest(), stream, moved_bytes=stream.moved_bytes)


async def save(stream: Stream, to: str | Path | BinaryIO, progress: Progress | None) -> None:
    """Write a value to a file. A path is replaced as a whole when everything is there, and else
    left as it was."""
    if not isinstance(to, str | Path):
        await _copy(stream, to, progress)
        return
    path = Path(to)
    if await asyncio.to_thread(path.exists) and not await asyncio.to_thread(path.is_file):
        # A superuser may replace /dev/stdout, for everybody.
        raise InvalidInput(
            f"{path} is no regular file",
            hint="name a file, or open it yourself and pass the open file",
        )
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
    held = bytearray()
    async for piece in checked(stream):
        held += piece
        if len(held) >= PIECE_BYTES:
            await asyncio.to_thread(file.write, bytes(held))
            held.clear()
        if progress is not None:
            progress(stream.moved_bytes, stream.size_bytes)
    await asyncio.to_thread(file.write, bytes(held))
    await asyncio.to_thread(file.flush)


async def upload_of(source: Source, progress: Progress | None) -> Upload:
    """Return a source as a body, which can be sent again where its size is known; raises
    InvalidInput, OSError."""
    if isinstance(source, str | Path):
        path = Path(source)
        found = await asyncio.to_thread(path.stat)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(
                f"{path} is no regular file", hint="open it yourself, and pass the open file"
            )
        return Upload(lambda: _of_path(path), found.st_size, progress)
    if isinstance(source, bytes | bytearray | memoryview):
        raise InvalidInput(
            "an upload reads a file or pieces", hint="bytes and texts are written by `put`"
        )
    if hasattr(source, "read"):
        return await asyncio.to_thread(_of_open_file, source, progress)
    if isinstance(source, AsyncIterable):
        return Upload(source.__aiter__, None, progress)
    if isinstance(source, Iterable):
        return Upload(lambda: _of_iterable(source), None, progress)
    raise InvalidInput(
        f"{type(source).__name__} is no source of bytes",
        hint="pass a path, an open binary file or pieces",
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
def _of_open_file(file: Any, progress: Progress | None) -> Upload:
    if not (hasattr(file, "seekable") and file.seekable()):
        return Upload(lambda: _of_file(file), None, progress)
    began = file.seek(0, os.SEEK_CUR)
    size_bytes = file.seek(0, os.SEEK_END) - began
    file.seek(began)

    async def pieces() -> AsyncIterator[bytes]:
        await asyncio.to_thread(file.seek, began)
        async for piece in _of_file(file):
            yield piece

    return Upload(pieces, size_bytes, progress)


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
