"""A relay between a store and its database that counts round trips, delays commits, and drops
chosen messages.

It parses just enough of the protocol to recognise round trips: each ends with one Sync from the
client.
"""

import asyncio
import enum
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

_SOCKET = ".s.PGSQL.5432"
_CHUNK = 65_536
_SYNC = b"S"
_COMMITS = b"insert into sealspace_map"
"""Stands in the statement that a connection for commits prepares before its first one."""


class Loss(enum.Enum):
    """The part of a round trip that is lost with a connection."""

    QUESTION = enum.auto()  # the database never receives it
    ANSWER = enum.auto()  # the database has executed it
    LISTENER = enum.auto()  # the database continues without a client


class Relay:
    """A relay that counts round trips, and delays or drops them.

    Attributes:
        folder: where clients connect.
        upstream: the folder of the database's socket, for further connections.
        passes: while it is not set, messages wait in both directions, as in a network that drops
            them.
    """

    def __init__(self, folder: Path, upstream: Path) -> None:
        self.folder = folder
        self.upstream = upstream
        self.passes = asyncio.Event()
        self.passes.set()
        self.round_trips = 0
        self.lost = asyncio.Event()
        self.delay: Callable[[], float] | None = None
        """Seconds for which a commit is held on its way to the database, and its answer on the way
        back."""
        self._is_shut = asyncio.Event()
        self._next_loss: Loss | None = None
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def lose(self, loss: Loss) -> None:
        """Drop this part of the next round trip."""
        self._next_loss = loss
        self.lost.clear()

    async def open(self) -> None:
        """Accept connections."""
        self._is_shut.clear()
        self._server = await asyncio.start_unix_server(self._serve, str(self.folder / _SOCKET))

    async def shut(self) -> None:
        """Refuse new connections and close the open ones."""
        assert self._server is not None
        self.passes.set()
        self._server.close()
        self._is_shut.set()
        for end in list(self._ends):
            end.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        (self.folder / _SOCKET).unlink(missing_ok=True)

    async def _serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._ends.add(client_out)
        try:
            base_in, base_out = await asyncio.open_unix_connection(str(self.upstream / _SOCKET))
        except OSError:  # the database is not running
            client_out.transport.abort()
            self._ends.discard(client_out)
            self._tasks.discard(task)
            return
        self._ends.add(base_out)
        kind = _Kind()
        back = asyncio.ensure_future(self._back(base_in, client_out, kind))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._forth(client_in, client_out, base_in, base_out, back, kind)
        for end in (client_out, base_out):
            end.transport.abort()
            self._ends.discard(end)
        await asyncio.gather(back, return_exceptions=True)
        self._tasks.discard(task)

    async def _forth(
        self,
        client_in: asyncio.StreamReader,
        client_out: asyncio.StreamWriter,
        base_in: asyncio.StreamReader,
        base_out: asyncio.StreamWriter,
        back: "asyncio.Future[None]",
        of: "_Kind",
    ) -> None:
        """Forward one complete request after the other."""
        head = await client_in.readexactly(4)
        base_out.write(head + await client_in.readexactly(int.from_bytes(head, "big") - 4))
        question = b""
        while True:
            kind, size = await client_in.readexactly(1), await client_in.readexactly(4)
            question += kind + size + await client_in.readexactly(int.from_bytes(size, "big") - 4)
            if kind != _SYNC:
                # a plain query, goodbye, a password, a flush: passed on as they come
                if kind in b"QXpH":
                    base_out.write(question)
                    question = b""
                continue
            self.round_trips += 1
            of.commits |= _COMMITS in question
            await self._hold(of)
            await self.passes.wait()
            loss, self._next_loss = self._next_loss, None
            if loss is Loss.QUESTION:
                self.lost.set()
                return
            if loss is Loss.ANSWER:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                await _have_done(question, base_in, base_out)
                self.lost.set()
                return
            base_out.write(question)
            question = b""
            if loss is Loss.LISTENER:
                back.cancel()
                await base_out.drain()
                client_out.transport.abort()
                self.lost.set()
                await self._is_shut.wait()

    async def _back(
        self, base_in: asyncio.StreamReader, client_out: asyncio.StreamWriter, of: "_Kind"
    ) -> None:
        with suppress(ConnectionError):
            while data := await base_in.read(_CHUNK):
                await self._hold(of)
                await self.passes.wait()
                client_out.write(data)
            client_out.close()  # the database has hung up: whoever said goodbye waits for that

    async def _hold(self, of: "_Kind") -> None:
        if self.delay is None or not of.commits:
            return
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(self.delay(), passed.set)
        await passed.wait()


@dataclass
class _Kind:
    """The purpose of a connection.

    Attributes:
        commits: Whether it carries commits.
    """

    commits: bool = False


async def _have_done(
    question: bytes, base_in: asyncio.StreamReader, base_out: asyncio.StreamWriter
) -> None:
    """Forward a request with a Terminate message, and wait until the database closes."""
    base_out.write(question + b"X\0\0\0\4")
    with suppress(ConnectionError):
        while await base_in.read(_CHUNK):
            pass


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[str, Relay]]:
    """Start a relay in front of a database and yield the relay's address."""
    parts = urlsplit(url)
    upstream = Path(parse_qs(parts.query)["host"][0])
    folder = Path(tempfile.mkdtemp(prefix="sealspace-relay-", dir="/tmp"))
    relay = Relay(folder, upstream)
    await relay.open()
    try:
        yield (
            f"{parts.scheme}://{parts.netloc}{parts.path}?host={quote(str(folder), safe='')}",
            relay,
        )
    finally:
        await relay.shut()
        shutil.rmtree(folder)
