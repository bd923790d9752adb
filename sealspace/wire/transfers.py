"""Transfers of values to and from files.

Values are transferred in pieces, without blocking the event loop.
"""

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
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec
from blake3 import blake3
from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.clock_and_entropy import Entropy

from ..errors import BatchIncomplete, InvalidInput, MalformedAnswer, SealspaceError, TransferBroken
from .http_connections import ConnectionLost
from .node_answers import decoded
from .transport import Answer, Progress, Request, Stream, Upload, path_segment
from .values import Value, header_value, require_version_of, value_of, whole_value_of

VERSION_HEADER = "x-sealspace-version"

MOST_READS = 100
MOST_WRITES = 250
"""Most keys in one request: a node's limits for reads and writes of one token."""

MAX_SMALL_BYTES = 64 * 1024
"""Largest value in a batch, bytes; larger ones are written alone.

A node stores larger values outside its commits, each of which has a limit.
"""

_MAX_VALUES_BYTES = 4 * 1024 * 1024  # half of a node's commit, which also has the metadata
# The token contains the keys, and a node accepts header lines of up to 384 KiB.
_MAX_KEYS_BYTES = 96 * 1024
_PER_CAPABILITY_BYTES = 160  # upper bound for the space and the ability beside each key


class Part(NamedTuple):
    """A value to write in a batch.

    The headers are those of the content type and the metadata.
    """

    body: bytes
    headers: Mapping[str, str]


def packed_keys(keys: Iterable[str], max_keys: int) -> list[list[str]]:
    """Split keys into groups of at most `max_keys` that each fit in one request.

    Duplicates are removed.
    """
    without_values = dict.fromkeys(keys, 0)
    return _split_into_packs(without_values, max_keys)


def packed_parts(parts: Mapping[str, Part]) -> list[list[str]]:
    """Split values into groups that each fit in one commit.

    The groups contain the keys. A large value gets its own group.
    """
    small: dict[str, int] = {}
    large: list[str] = []
    for key, part in parts.items():
        if len(part.body) <= MAX_SMALL_BYTES:
            small[key] = len(part.body)
        else:
            large.append(key)
    packs = _split_into_packs(small, MOST_WRITES)
    packs += [[key] for key in large]
    return packs


def _split_into_packs(value_sizes: Mapping[str, int], max_keys: int) -> list[list[str]]:
    """Split keys into groups, in their order.

    Each group stays within `max_keys` and the limits of bytes for keys and for values. A key that
    is over a limit by itself gets its own group.

    Args:
        value_sizes: key -> size of its value in bytes.
        max_keys: most keys of a group.
    """
    packs: list[list[str]] = []
    pack: list[str] = []
    pack_keys_bytes = pack_values_bytes = 0
    for key, value_bytes in value_sizes.items():
        key_bytes = len(key.encode()) + _PER_CAPABILITY_BYTES
        has_place = len(pack) < max_keys
        keys_fit = pack_keys_bytes + key_bytes <= _MAX_KEYS_BYTES
        values_fit = pack_values_bytes + value_bytes <= _MAX_VALUES_BYTES
        if not packs or not (has_place and keys_fit and values_fit):
            pack = []
            packs.append(pack)
            pack_keys_bytes = pack_values_bytes = 0
        pack.append(key)
        pack_keys_bytes += key_bytes
        pack_values_bytes += value_bytes
    return packs


async def write_in_order(
    packs: Sequence[Sequence[str]], write: Callable[[Sequence[str]], Awaitable[None]]
) -> None:
    """Call `write` for each group of keys, in order.

    Raises BatchIncomplete if a group fails after other groups were written.
    """
    done: list[str] = []
    for number, keys in enumerate(packs):
        try:
            await write(keys)
        except SealspaceError as exc:
            if not done:
                raise
            remaining = [key for pack in packs[number:] for key in pack]
            raise BatchIncomplete(exc, done=tuple(done), left=tuple(remaining)) from exc
        done += keys


class MultipartForm(NamedTuple):
    """An encoded form, and its content type."""

    body: bytes
    content_type: str


def multipart(parts: Mapping[str, Part], entropy: Entropy) -> MultipartForm:
    """Encode values as a multipart form.

    Each value is a part, whose name is the key, percent-encoded once more.
    """
    boundary = entropy.token(24).hex()
    pieces: list[bytes] = []
    for key, part in parts.items():
        lines = [
            f"--{boundary}",
            f'Content-Disposition: form-data; name="{path_segment(key)}"',
            *(f"{header}: {text}" for header, text in part.headers.items()),
            "",  # the empty line between headers and body
            "",
        ]
        pieces += ["\r\n".join(lines).encode("ascii"), part.body, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return MultipartForm(
        body=b"".join(pieces), content_type=f"multipart/form-data; boundary={boundary}"
    )


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


_WRITTEN = msgspec.json.Decoder(_Written)
_RESULTS = msgspec.json.Decoder(_Results)
_ABSENT = "KV_NOT_FOUND"


def require_written(answer: Answer, keys: Sequence[str]) -> None:
    """Check that a batch wrote exactly the requested keys (J9).

    Raises MalformedAnswer otherwise.
    """
    result = decoded(_WRITTEN, answer, "the result of a batch")
    if result.count != len(keys) or sorted(result.written) != sorted(keys):
        raise MalformedAnswer(
            f"{answer.asked}: the keys that the node wrote differ from the requested keys"
        )


def values_in_batch(
    answer: Answer, keys: Sequence[str], *, has_bodies: bool = True
) -> dict[str, Value]:
    """Return the values in the response to a batch read, by key in the order of `keys`.

    Keys without a value are omitted. Each value is compared with its ETag, unless the response has
    only metadata (`has_bodies` is false).

    Raises MalformedAnswer if the response is not about exactly these keys.
    """
    results = decoded(_RESULTS, answer, "the result of a batch").results
    if sorted(item.key for item in results) != sorted(keys):
        raise MalformedAnswer(
            f"{answer.asked}: the keys that the node read differ from the requested keys"
        )
    result_by_key = {item.key: item for item in results}
    values: dict[str, Value] = {}
    for key in keys:
        result = result_by_key[key]
        if result.ok:
            # The same as the response to a read of this key alone.
            single = Answer(
                status=200,
                headers=CIMultiDictProxy(CIMultiDict(result.headers)),
                body=result.data_base64,
                asked=key,
            )
            values[key] = whole_value_of(single) if has_bodies else value_of(single)
        elif result.error is None or result.error.code != _ABSENT:
            raise MalformedAnswer(
                f"{answer.asked}: the node sent neither a value nor {_ABSENT} for the key {key}"
            )
    return values


PIECE_BYTES = 256 * 1024


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes.

        Returns b"" at the end of the file.
        """


Source = str | Path | Readable | AsyncIterable[bytes] | Iterable[bytes]
"""A source of an upload: the path of a file, an open binary file, or pieces of bytes."""


async def verified_pieces(stream: Stream) -> AsyncIterator[bytes]:
    """Yield a value in pieces and verify its ETag (M1).

    The ETag is verified at the end. Raises TransferBroken if the transfer was cut off or the ETag
    does not match.
    """
    digest = blake3()
    async for piece in unbroken_pieces(stream):
        digest.update(piece)
        yield piece
    require_version_of(digest.hexdigest(), stream, moved_bytes=stream.moved_bytes)


async def unbroken_pieces(stream: Stream) -> AsyncIterator[bytes]:
    """Yield the pieces of a response.

    Raises TransferBroken if the transfer was cut off.
    """
    try:
        async for piece in stream.pieces():
            yield piece
    except (TimeoutError, ConnectionLost) as exc:
        of_size = "" if stream.size_bytes is None else f" of {stream.size_bytes}"
        moved_bytes = stream.moved_bytes
        raise TransferBroken(
            f"{stream.asked}: the transfer was cut off after {moved_bytes}{of_size} bytes",
            moved_bytes=moved_bytes,
        ) from exc


async def save(
    pieces: AsyncIterator[bytes],
    stream: Stream,
    to: str | Path | BinaryIO,
    progress: Progress | None,
    *,
    mode: int = 0o666,
) -> None:
    """Write the pieces of a response to a file.

    If `to` is a path, the file is replaced atomically at the end. The new file has the permissions
    `mode`, less those that the process's umask removes.
    """
    if not isinstance(to, str | Path):
        await _copy(pieces, stream, to, progress)
        return
    path = Path(to)
    if await asyncio.to_thread(path.exists) and not await asyncio.to_thread(path.is_file):
        # For root, a rename onto /dev/stdout would replace the device for every process.
        raise InvalidInput(
            f"{path} is not a regular file", hint="pass the path of a file, or an open file"
        )
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    descriptor = await asyncio.to_thread(os.open, draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    file = os.fdopen(descriptor, "wb")
    try:
        with file:
            await _copy(pieces, stream, file, progress)
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(draft.replace, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


async def _copy(
    pieces: AsyncIterator[bytes], stream: Stream, file: BinaryIO, progress: Progress | None
) -> None:
    """Write the pieces of a stream to a file."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        # Each write runs in another thread, so small pieces are written together.
        if len(buffer) >= PIECE_BYTES:
            await asyncio.to_thread(file.write, bytes(buffer))
            buffer.clear()
        if progress is not None:
            progress(stream.moved_bytes, stream.size_bytes)
    await asyncio.to_thread(file.write, bytes(buffer))
    await asyncio.to_thread(file.flush)


async def upload_of(source: Source, progress: Progress | None) -> Upload:
    """Create a request body from a file or an iterable.

    A body of known size (from a path or a seekable file) can be sent again. Raises InvalidInput and
    OSError.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        status = await asyncio.to_thread(path.stat)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(
                f"{path} is not a regular file",
                hint="open the file yourself, and pass the file object",
            )
        return Upload(lambda: _pieces_of_path(path), status.st_size, progress)
    refused = f"an object of type {type(source).__name__} cannot be uploaded"
    # Bytes are iterable too, but their items are numbers.
    if isinstance(source, bytes | bytearray | memoryview):
        raise InvalidInput(
            refused,
            hint="to store bytes, use `put`; `upload` takes a path, an open file or an iterable",
        )
    if hasattr(source, "read"):
        return await asyncio.to_thread(_upload_of_open_file, source, progress)
    if isinstance(source, AsyncIterable):
        return Upload(source.__aiter__, None, progress)
    if isinstance(source, Iterable):
        return Upload(lambda: _pieces_of_iterable(source), None, progress)
    raise InvalidInput(refused, hint="pass a path, an open binary file or an iterable of bytes")


def body_in_pieces(body: bytes) -> bytes | Upload:
    """Return a request body that is sent in pieces if it is long.

    Each piece that is sent extends the time limit. A short body is returned as it is.
    """
    if len(body) <= PIECE_BYTES:
        return body

    async def pieces() -> AsyncIterator[bytes]:
        view = memoryview(body)
        for at in range(0, len(body), PIECE_BYTES):
            yield bytes(view[at : at + PIECE_BYTES])

    return Upload(pieces, len(body))


# Any: an open file of any class; the pieces that it returns are checked.
def _upload_of_open_file(file: Any, progress: Progress | None) -> Upload:
    """Return the upload of an open file from its position on."""
    if not (hasattr(file, "seekable") and file.seekable()):
        return Upload(lambda: _pieces_of_file(file), None, progress)
    began = file.seek(0, os.SEEK_CUR)
    size_bytes = file.seek(0, os.SEEK_END) - began
    file.seek(began)

    async def pieces() -> AsyncIterator[bytes]:
        await asyncio.to_thread(file.seek, began)
        async for piece in _pieces_of_file(file):
            yield piece

    return Upload(pieces, size_bytes, progress)


async def _pieces_of_path(path: Path) -> AsyncIterator[bytes]:
    opening = asyncio.get_running_loop().run_in_executor(None, path.open, "rb")
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # A node may refuse an upload at once. The other thread opens the file all the same.
        opening.add_done_callback(_close_file)
        raise
    with file:
        async for piece in _pieces_of_file(file):
            yield piece


def _close_file(opening: "asyncio.Future[Any]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _pieces_of_file(file: Readable) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


async def _pieces_of_iterable(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    reader = iter(pieces)
    while (piece := await asyncio.to_thread(next, reader, None)) is not None:
        yield piece


def read_request(max_bytes: int, *, etag: str | None = None, version: int | None = None) -> Request:
    """Return a request for a value of at most `max_bytes`.

    Args:
        max_bytes: largest accepted value.
        etag: the version that the caller has; its bytes are not sent again.
        version: the number of an earlier value.
    """
    headers = {"x-tinycloud-max-response-bytes": str(max_bytes)}
    if etag is not None:
        headers["If-None-Match"] = header_value(etag)
    if version is not None:
        headers[VERSION_HEADER] = str(version)
    return Request(headers=headers, repeatable=True, max_answer_bytes=max_bytes)
