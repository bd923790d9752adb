"""Storage of large values in a folder.

Each value is a file that is never modified.

    <folder>/incoming/<random>    an upload in progress; no commit may name it
    <folder>/<first 2 hex of hash>/<space16>-<hash>-<generation>
                                  a complete value, synced, under its final name

All disk access runs on threads, 256 KiB read or about 1 MiB written at a time. So the event loop
does not wait, and memory use does not depend on the size of a value. Data is hashed while it is
written, and synced every 32 MiB. A client that sends faster than the disk writes is slowed down,
and the last sync is short.

Data in the kernel's page cache is read and hashed on the event loop, because passing it to a thread
and back costs more than both. The read asks the kernel not to wait (RWF_NOWAIT). If it would have
to wait, or the platform does not support the flag, a thread reads. After their first piece, all
reads together read one piece in an iteration of the event loop, so that a short request does not
wait for each of them.

A value of less than 256 KiB is buffered in memory until it gets its name, and is then written to a
file with that name. That is a single step on a thread, and a single commit of the file system's
journal, because the file and its directory entry become durable together.
"""

import asyncio
import errno
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

from blake3 import blake3

from ..space_errors import RecordDamaged, StoreFull, StoreUnavailable
from ..store.durable import RESERVE_BYTES, sync_folder
from .object_records import ObjectName, parse_file_name
from .object_store import PIECE_BYTES, OpenedBody, Piece


class ReadCohorts:
    """A queue that admits one file reader per event-loop iteration.

    It serves one event loop. If the loop is closed, waiting reads never continue.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for the caller's turn to read from a file.

        The first caller in an event-loop iteration does not wait.
        """
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            loop.call_soon(self._pass_on, loop)  # in the next iteration

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the turn of this iteration to the first waiting caller.

        Without one, the next call of `take` does not wait.
        """
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # otherwise the waiting task was cancelled
                turn.set_result(None)
                loop.call_soon(self._pass_on, loop)
                return
        self._is_taken = False


STEP_BYTES = 1024 * 1024
"""How many bytes of a long upload are written at a time."""
# The most buffers that the kernel accepts in one call (IOV_MAX).
_BUFFERS_A_CALL = 1024
# None on a platform without the flag.
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_SYNC_EVERY_BYTES = 32 * 1024 * 1024
_INCOMING = "incoming"


@dataclass
class ObjectFolder:
    """Storage for large values in a folder.

    Any number of processes may use it. Large values leave `reserve_bytes` of the disk free.
    """

    _folder: Path
    max_bytes: int | None = None
    reserve_bytes: int = RESERVE_BYTES
    step_bytes: int = STEP_BYTES
    _cohorts: ReadCohorts = field(default_factory=ReadCohorts)

    async def begin(self) -> "IncomingFile":
        """Start the upload of a large value.

        Nothing is written to disk yet.
        """
        return IncomingFile(self)

    def new_file(self) -> tuple[int, Path]:
        """Create and open an empty file with an unused name.

        Call this on a worker thread.
        """
        folder = self._folder / _INCOMING
        self.make_folder(folder)
        self.require_free_space()
        descriptor, path = tempfile.mkstemp(dir=folder)
        return descriptor, Path(path)

    def require_free_space(self) -> None:
        """Raise StoreFull if too little disk space is free.

        Call this on a worker thread.
        """
        if disk_usage(self._folder).free < self.reserve_bytes:
            raise StoreFull("there is no free space for a large value")

    def place_of(self, name: ObjectName) -> Path:
        """Return the path of an object's file."""
        return self._folder / name.digest[:1].hex() / name.file_name

    def make_folder(self, folder: Path) -> None:
        """Create a subfolder, and sync it to disk.

        Call this on a worker thread.
        """
        if folder.is_dir():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    async def open(self, name: ObjectName, *, size_bytes: int) -> "OpenBody":
        """Open a large value for reading.

        An open value can be read even if its file is deleted.
        """
        body = OpenBody(
            self.place_of(name), digest=name.digest, size_bytes=size_bytes, cohorts=self._cohorts
        )
        try:
            await asyncio.to_thread(body.open)
        except BaseException:
            await body.close()
            raise
        return body

    async def remove(self, name: ObjectName) -> None:
        """Delete an object's file if it exists."""
        await asyncio.to_thread(self.place_of(name).unlink, missing_ok=True)

    async def older_than(self, before: float) -> AsyncIterator[Sequence[ObjectName]]:
        """List the objects that are older than a given time.

        One batch is yielded per subfolder.
        """
        for first in range(256):
            # `list` reads the folder on the thread.
            old = await asyncio.to_thread(list, _old_files(self._folder / f"{first:02x}", before))
            names: list[ObjectName] = []
            for path in old:
                name = parse_file_name(path.name)
                if name is not None:
                    names.append(name)
            if names:
                yield names

    async def check(self) -> None:
        """Check that the folder is accessible.

        A folder that does not exist yet is not an error.
        """
        with (
            _disk_errors("the folder for large values cannot be reached"),
            suppress(FileNotFoundError),
        ):
            await asyncio.to_thread(self._folder.stat)

    async def remove_unfinished(self, before: float) -> int:
        """Delete old unfinished uploads, and return their number.

        An upload is old if it was not modified since `before`, in epoch seconds.

        An upload that is still in progress then fails in `rename`, so no acknowledged data is lost.
        """
        return await asyncio.to_thread(_remove_old, self._folder / _INCOMING, before)


class IncomingFile:
    """An upload of a large value to a file.

    Up to 256 KiB are buffered in memory. A larger value is written to the file as it arrives.

    The methods may be cancelled at any moment. `discard` then waits for a thread that is still
    working. Otherwise that thread could write to a descriptor that is reused for another file.
    """

    def __init__(self, files: ObjectFolder) -> None:
        self.is_named = False
        self._files = files
        self._lock = threading.Lock()
        self._hash = blake3()
        self._size_bytes = 0
        # All data while it is short; None once a thread writes it.
        self._buffer: bytes | None = b""
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._is_discarded = False

    async def append(self, *pieces: Piece) -> None:
        """Append data to the upload.

        All pieces are appended in one step.
        """
        buffer = self._buffer
        if buffer is None:
            await asyncio.to_thread(self._append, pieces)
        elif len(buffer) + sum(map(len, pieces)) < PIECE_BYTES:
            self._buffer = b"".join((buffer, *pieces))
        else:
            self._buffer = None
            await asyncio.to_thread(self._append, (buffer, *pieces))

    def _append(self, pieces: Sequence[Piece]) -> None:
        """Write pieces to the file, and hash them. The file is created with the first."""
        with self._lock, _disk_errors("a large value cannot be written"):
            if self._is_discarded:  # while this thread waited for its turn
                return
            if self._descriptor is None:
                self._descriptor, self._path = self._files.new_file()
            else:
                self._files.require_free_space()
            self._write(self._descriptor, pieces)
            stretches_before = self._size_bytes // _SYNC_EVERY_BYTES
            for piece in pieces:
                self._hash.update(piece)
                self._size_bytes += len(piece)
            if self._size_bytes // _SYNC_EVERY_BYTES > stretches_before:
                os.fdatasync(self._descriptor)

    def _write(self, descriptor: int, pieces: Sequence[Piece]) -> None:
        """Write pieces in full, with few calls of the kernel."""
        for first in range(0, len(pieces), _BUFFERS_A_CALL):
            some = pieces[first : first + _BUFFERS_A_CALL]
            written = os.writev(descriptor, some)
            if written < sum(map(len, some)):  # a call may write only a part
                left = memoryview(b"".join(some))[written:]
                while left:
                    left = left[os.write(descriptor, left) :]

    async def finish(self) -> tuple[bytes, int]:
        """Complete the upload, and return its hash and size.

        The hash is BLAKE3. Data in a file is synced to disk.
        """
        if self._buffer is not None:
            return blake3(self._buffer).digest(), len(self._buffer)
        return await asyncio.to_thread(self._finish)

    def _finish(self) -> tuple[bytes, int]:
        with self._lock, _disk_errors("a large value cannot be written"):
            if self._descriptor is not None:
                os.fsync(self._descriptor)
                self._close()
            return self._hash.digest(), self._size_bytes

    async def contents(self) -> bytes:
        """Return the data of the completed upload.

        See `IncomingBody.contents`.
        """
        if self._buffer is not None:
            return self._buffer
        return await asyncio.to_thread(self._read_back)

    def _read_back(self) -> bytes:
        with self._lock, _disk_errors("a large value cannot be read back"):
            if self._path is None or self._is_discarded:
                raise StoreUnavailable("a large value cannot be read: the upload was discarded")
            return self._path.read_bytes()

    async def rename(self, name: ObjectName) -> None:
        """Store the completed upload under its final name.

        The file is durable afterwards. It can be renamed again.
        """
        self.is_named = True
        data, self._buffer = self._buffer, None
        await asyncio.to_thread(self._rename, name, data)

    def _rename(self, name: ObjectName, data: bytes | None) -> None:
        """Store the upload under its final name. `data` is the value if it was buffered."""
        with self._lock, _disk_errors("a large value cannot be stored under its final name"):
            if self._is_discarded or (self._path is None and data is None):
                raise StoreUnavailable(
                    "a large value cannot be stored: the upload was already discarded"
                )
            path = self._files.place_of(name)
            self._files.make_folder(path.parent)
            if self._path is not None:
                self._path.rename(path)
            elif data is not None:
                self._write_short(path, data)
            self._path = path
            sync_folder(path.parent)

    def _write_short(self, path: Path, data: bytes) -> None:
        """Write a short value directly to its final file.

        No commit refers to the file yet, so an incomplete file does no harm.
        """
        self._files.require_free_space()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._path = path  # so that `discard` removes the file if the next steps fail
        try:
            self._write(descriptor, (data,))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def discard(self) -> None:
        """Delete the uploaded data.

        Data that `rename` has stored is deleted too.
        """
        if self._buffer is None:
            await _run_shielded(self._discard)
        else:  # nothing is on the disk yet
            self._buffer = None
            self._is_discarded = True

    def _discard(self) -> None:
        with self._lock, suppress(OSError):  # swept later if this fails
            self._is_discarded = True
            self._close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class OpenBody(OpenedBody):
    """A large value in a file, opened for reading.

    It is read in pieces. A complete read yields the last piece only if the digest matches.

    Example:
        async with body:
            async for piece in body.pieces(): ...
    """

    def __init__(self, path: Path, *, digest: bytes, size_bytes: int, cohorts: ReadCohorts) -> None:
        super().__init__(digest, size_bytes)
        self._path = path
        self._cohorts = cohorts
        self._has_begun = False
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_closed = False

    def open(self) -> None:
        """Open the file.

        Call this once, on a worker thread.
        """
        with self._lock, _disk_errors("a large value cannot be read"):
            if self._is_closed:
                return
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            except FileNotFoundError as exc:
                raise RecordDamaged("the file for a large value is missing") from exc
            if os.fstat(self._descriptor).st_size != self.size_bytes:
                raise RecordDamaged("the size of a large value differs from the recorded size")

    async def _piece(self, start: int, end: int, hasher: "blake3 | None") -> bytearray:
        # The first piece need not wait for a turn: it takes no longer than a large row.
        if self._has_begun:
            await self._cohorts.take()
        self._has_begun = True
        piece = bytearray(min(PIECE_BYTES, end - start))
        if not self._read_cached(piece, start, hasher):
            await asyncio.to_thread(self._read, piece, start, hasher)
        return piece

    def _read_cached(self, piece: bytearray, offset: int, hasher: "blake3 | None") -> bool:
        """Try to read part of a value without waiting for the disk.

        Only data in the page cache can be read without waiting. Returns False if the piece was not
        read.
        """
        # The event loop does not wait for a thread that has the lock.
        if _NOWAIT is None or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._descriptor is None:
                return False
            read_bytes = os.preadv(self._descriptor, (piece,), offset, _NOWAIT)
            if read_bytes != len(piece):
                return False
        except OSError:
            # The read would wait, is not supported, or failed. The thread's read shows which.
            return False
        finally:
            self._lock.release()
        if hasher is not None:
            hasher.update(piece)
        return True

    def _read(self, piece: bytearray, offset: int, hasher: "blake3 | None") -> None:
        with self._lock, _disk_errors("a large value cannot be read"):
            if self._descriptor is None:
                raise StoreUnavailable("cannot read a large value: its file is already closed")
            if os.preadv(self._descriptor, (piece,), offset) != len(piece):
                raise RecordDamaged("the file of a large value is shorter than recorded")
            if hasher is not None:
                hasher.update(piece)

    async def close(self) -> None:
        """Close the file.

        A read in progress is completed first.
        """
        await _run_shielded(self._close)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                os.close(descriptor)


async def _run_shielded(step: Callable[[], None]) -> None:
    """Run a function on a thread, and shield it from cancellation.

    The function runs to completion even if the waiting task is cancelled.
    """
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, step))


@contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    """Convert operating-system errors to StoreError exceptions."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("there is no free space for a large value") from exc
        raise StoreUnavailable(what) from exc


def _old_files(folder: Path, before: float) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    yield path


def _remove_old(folder: Path, before: float) -> int:
    removed = 0
    for path in list(_old_files(folder, before)):
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed
