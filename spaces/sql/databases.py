"""The open SQL databases of one process.

Requests of one database run one after another. A space runs few statements at once, so a slow
database leaves threads for other spaces.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from .connection import Connection
from .database_rows import DatabaseName

Result = TypeVar("Result")

DATABASES_FOLDER = "sql"
_THREADS = 4
_RUNNING_PER_SPACE = 2
_OPEN = 256
_OPEN_PER_SPACE = 8


class _Space:
    """The requests for the databases of one space."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(_RUNNING_PER_SPACE)
        self.users = 0


class OpenDatabase:
    """A database that one request uses alone."""

    def __init__(self, connection: Connection, pool: ThreadPoolExecutor) -> None:
        self.connection = connection
        self._pool = pool

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run a function in a thread.

        If the request is cancelled, the running statement is stopped first.
        """
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._pool, work, self.connection)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            self.connection.interrupt()
            with suppress(Exception):
                await done
            raise


class Databases:
    """The databases in a folder.

    Args:
        folder: where the files are; it is created with the first database.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(_THREADS, "sql")
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}
        self._spaces: dict[bytes, _Space] = {}
        self._open: OrderedDict[bytes, Connection] = OrderedDict()

    def file_of(self, name: DatabaseName) -> Path:
        """Return the path of a database's file (SQ2)."""
        space, database = name.key[1:17].hex(), name.key[17:].hex()
        return self._folder / space / f"{database}.db"

    @asynccontextmanager
    async def use(
        self, name: DatabaseName, *, exists: bool, creates: bool = False
    ) -> AsyncIterator[OpenDatabase]:
        """Use a database alone; what is not committed is rolled back.

        Args:
            name: the database.
            exists: whether it exists; if not, an empty one in memory is used.
            creates: whether a missing database is created.
        Raises:
            RecordDamaged: the file is missing or damaged.
        """
        key, space16 = name.key, name.key[1:17]
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, users + 1
        space = self._spaces.setdefault(space16, _Space())
        space.users += 1
        try:
            async with (
                lock,
                space.places,
                self._opened(name, exists=exists, creates=creates) as database,
            ):
                yield database
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = lock, users - 1
            space.users -= 1
            if not space.users:
                del self._spaces[space16]

    @asynccontextmanager
    async def _opened(
        self, name: DatabaseName, *, exists: bool, creates: bool
    ) -> AsyncIterator[OpenDatabase]:
        key, is_file = name.key, exists or creates
        connection = self._open.pop(key, None) if is_file else None
        loop = asyncio.get_running_loop()
        if connection is None:
            path = self.file_of(name) if is_file else None
            connection = await loop.run_in_executor(self._pool, _open, path, creates)
        try:
            yield OpenDatabase(connection, self._pool)
        finally:
            await loop.run_in_executor(self._pool, connection.roll_back)
            if is_file:
                self._open[key] = connection
                await self._close_some(key[1:17])
            else:
                await loop.run_in_executor(self._pool, connection.close)

    async def _close_some(self, space16: bytes) -> None:
        """Close idle connections above the limits, the least recently used first."""
        loop = asyncio.get_running_loop()
        own = [key for key in self._open if key[1:17] == space16]
        surplus = own[: max(len(own) - _OPEN_PER_SPACE, 0)]
        if not surplus and len(self._open) > _OPEN:
            surplus = [next(iter(self._open))]
        for key in surplus:
            await loop.run_in_executor(self._pool, self._open.pop(key).close)

    async def close(self) -> None:
        """Close all databases and end the threads."""
        loop = asyncio.get_running_loop()
        while self._open:
            _, connection = self._open.popitem()
            await loop.run_in_executor(self._pool, connection.close)
        self._pool.shutdown()


def _open(path: Path | None, creates: bool) -> Connection:
    if path is not None and creates:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Connection(path, creates=creates)
