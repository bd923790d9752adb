"""The open SQL databases of one process.

Requests for one database run one after another. A space runs few statements at once, so a slow
database leaves threads for other spaces.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from ..space_errors import StoreBusy
from ..store.durable import sync_folder
from .connection import Connection
from .database_files import database_copy
from .database_rows import DatabaseName, file_of

Result = TypeVar("Result")

PIECE_BYTES = 256 * 1024
_THREADS = 16  # most of them wait: for locks of other processes, or for the disk
_RUNNING_PER_SPACE = 2
_OPEN_PER_SPACE = 8
_LOOK_S = 0.1  # how often a running statement is stopped if its client has gone


class DatabaseCopy(NamedTuple):
    """A copy of a database, which is deleted at the end of `held`."""

    file: IO[bytes]
    size_bytes: int
    held: ExitStack

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the copy."""
        while piece := await asyncio.to_thread(self.file.read, PIECE_BYTES):
            yield piece


class Databases:
    """The databases in a folder.

    Args:
        folder: where the files are; it is created with the first database.
        wait_s: seconds that a request waits for others.
        most_open: databases that are open at most; each has three files.
    """

    def __init__(self, folder: Path, *, wait_s: float, most_open: int = 256) -> None:
        self._folder = folder
        self._wait_s = wait_s
        self._most_open = most_open
        self._pool = ThreadPoolExecutor(_THREADS, "sql")
        self._locks = WeakValueDictionary[bytes, asyncio.Lock]()
        self._places = WeakValueDictionary[bytes, asyncio.Semaphore]()
        self._open = dict[bytes, Connection]()
        self._copied = set[bytes]()

    def file_of(self, name: DatabaseName) -> Path:
        """Return the path of a database's file (SQ2)."""
        return self._folder / file_of(name.key)

    @asynccontextmanager
    async def use(
        self,
        name: DatabaseName,
        is_gone: Callable[[], bool],
        *,
        exists: bool,
        creates: bool = False,
    ) -> AsyncIterator[Connection]:
        """Use a database alone; what is not committed is rolled back.

        Args:
            name: the database.
            is_gone: returns whether the client has disconnected.
            exists: whether it exists; if not, an empty one in memory is used.
            creates: whether a missing database is created.
        Raises:
            RecordDamaged: the file is missing or damaged.
            StoreBusy: other requests took too long (SQ15).
        """
        key, space16, loop = name.key, name.key[1:17], asyncio.get_running_loop()
        async with AsyncExitStack() as held:
            lock = self._locks.setdefault(key, asyncio.Lock())
            places = self._places.setdefault(space16, asyncio.Semaphore(_RUNNING_PER_SPACE))
            try:
                async with asyncio.timeout(self._wait_s):
                    await held.enter_async_context(lock)
                    await held.enter_async_context(places)
            except TimeoutError:
                raise StoreBusy("other requests use the SQL databases of this space") from None
            is_file = exists or creates
            connection = self._open.pop(key, None) if is_file else None
            if connection is None:
                path = self.file_of(name) if is_file else None
                connection = await loop.run_in_executor(self._pool, _open, path, creates)
            try:
                connection.is_gone, connection.is_interrupted = is_gone, False
                yield connection
            finally:
                if connection.in_transaction:
                    await loop.run_in_executor(self._pool, connection.roll_back)
                surplus = [connection]
                if is_file and not connection.is_heavy:
                    self._open[key] = connection
                    own = [other for other in self._open if other[1:17] == space16]
                    # The least recently used come first.
                    keys = own[:-_OPEN_PER_SPACE] or list(self._open)[: -self._most_open]
                    surplus = [self._open.pop(other) for other in keys]
                for connection in surplus:
                    await loop.run_in_executor(self._pool, connection.close)

    async def run(self, connection: Connection, work: Callable[[Connection], Result]) -> Result:
        """Run a function in a thread.

        Its statement is stopped if the client disconnects or the request is cancelled.
        """
        done = asyncio.get_running_loop().run_in_executor(self._pool, work, connection)
        try:
            while not done.done():
                await asyncio.wait((done,), timeout=_LOOK_S)
                connection.is_interrupted |= connection.is_gone()
                connection.stop_if_over()
        finally:
            if not done.done():
                connection.is_interrupted = True
                await asyncio.wait((done,))
        return done.result()

    async def copy(self, name: DatabaseName) -> DatabaseCopy:
        """Copy a database as of one moment (SQ13).

        Raises:
            StoreBusy: another copy of a database of this space is still in use.
        """
        space16 = name.key[1:17]
        if space16 in self._copied:
            raise StoreBusy("another database of this space is being exported")
        with ExitStack() as held:
            self._copied.add(space16)
            held.callback(self._copied.discard, space16)
            copying = asyncio.get_running_loop().run_in_executor(
                self._pool, database_copy, self.file_of(name)
            )
            file = held.enter_context(await copying)
            return DatabaseCopy(file, os.fstat(file.fileno()).st_size, held.pop_all())

    def close(self) -> None:
        """Close all databases and end the threads; this call blocks."""
        self._pool.shutdown()
        for connection in self._open.values():
            connection.close()


def _open(path: Path | None, creates: bool) -> Connection:
    if path is None or not creates:
        return Connection(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = Connection(path, creates=True)
    for folder in path.parents[:3]:  # so that the name of the new file is durable
        sync_folder(folder)
    return connection
