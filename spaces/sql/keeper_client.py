"""A worker's connection with the keeper, from which it borrows child processes (SQ29)."""

import asyncio
import socket
from collections import deque
from pathlib import Path

import msgspec

from ..space_errors import StoreBusy, StoreUnavailable
from .frames import (
    MAX_KEEPER_BYTES,
    Ask,
    End,
    FromKeeper,
    Given,
    NotStarted,
    Serving,
    Shorten,
    Shortened,
    ToKeeper,
    encoded,
)

_START_S = 10.0
"""How long a keeper may take to start; it is not part of a request's time."""
_ENDED = "the keeper of SQL processes has ended"
_DECODER: msgspec.msgpack.Decoder[FromKeeper] = msgspec.msgpack.Decoder(FromKeeper)


class KeeperClient:
    """A connection that is made when it is needed, and again after the keeper has ended.

    Only the thread of the event loop may use it.

    Args:
        path: of the keeper's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._unsent = deque[bytes]()
        self._asked = dict[int, asyncio.Future[socket.socket]]()
        self._shortening = dict[int, asyncio.Future[None]]()
        self._is_closed = False
        self._serving: asyncio.Future[None] = asyncio.Future()  # done once the keeper has answered

    async def lend(self, ask: Ask, wait_s: float) -> socket.socket:
        """Wait for a child, and return the connection with it.

        The lease lasts until `end` is called with the number of the question.

        Raises:
            StoreBusy: no place became free in time, or the keeper has ended.
            StoreUnavailable: the keeper does not run, or cannot start a process.
        """
        self._connect()
        # `asyncio.wait` raises no error when the time is over. Unless the keeper answers later, no
        # child is lent, and the request ends after `wait_s`.
        await asyncio.wait((self._serving,), timeout=_START_S)
        if self._socket is None:
            raise StoreBusy(_ENDED)
        lent: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._asked[ask.number] = lent
        try:
            self._send(ask)
            async with asyncio.timeout(wait_s):
                return await lent
        except TimeoutError:
            self.end(ask.number, keeps=True)
            raise StoreBusy("other requests use the SQL databases") from None
        except asyncio.CancelledError:
            # A child may have been lent just before. It got no statements, so it can be kept.
            if lent.done() and not lent.cancelled() and lent.exception() is None:
                lent.result().close()
            self.end(ask.number, keeps=True)
            raise
        finally:
            del self._asked[ask.number]

    def end(self, number: int, *, keeps: bool) -> None:
        """End a lease, or stop waiting for it; `keeps` as in `End`."""
        if self._socket is not None:
            self._send(End(number, keeps))

    async def shorten(self, number: int, wait_s: float) -> None:
        """Wait until no other lease reads the database of this one (SQ30).

        Raises:
            StoreBusy: another request did not end in time.
        """
        is_shortened = asyncio.get_running_loop().create_future()
        self._shortening[number] = is_shortened
        try:
            self._send(Shorten(number))
            async with asyncio.timeout(wait_s):
                await is_shortened
        except TimeoutError:
            raise StoreBusy("another request reads the SQL database") from None
        finally:
            del self._shortening[number]

    def close(self) -> None:
        """Close the connection for good; all leases end."""
        self._is_closed = True
        self._lost()

    def _connect(self) -> None:
        if self._socket is not None:
            return
        if self._is_closed:
            raise StoreUnavailable("the node is stopping")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
        except OSError as exc:
            connection.close()
            raise StoreUnavailable("the keeper of SQL processes does not run") from exc
        self._socket = connection
        loop = asyncio.get_running_loop()
        loop.add_reader(connection, self._hear)
        self._serving = loop.create_future()

    def _send(self, message: ToKeeper) -> None:
        if self._socket is None:  # all leases have ended with the connection
            return
        self._unsent.append(encoded(message))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        """Send what is to be sent, as far as the keeper has room for it."""
        connection = self._socket
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_writer(connection)
        try:
            while self._unsent:
                connection.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            loop.add_writer(connection, self._flush)
        except OSError:
            self._lost()

    def _hear(self) -> None:
        """Take the keeper's messages."""
        while (connection := self._socket) is not None:
            try:
                payload, files, _, _ = socket.recv_fds(connection, MAX_KEEPER_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                payload, files = b"", []
            if not payload:
                self._lost()
                return
            lent = [socket.socket(fileno=file) for file in files]
            self._take(_DECODER.decode(payload), lent)
            for unused in lent:  # of a lease that was ended meanwhile
                unused.close()

    def _take(self, message: FromKeeper, lent: list[socket.socket]) -> None:
        """Pass a message on to the request that waits for it.

        If it takes the connection with a child, that is removed from `lent`.
        """
        match message:
            case Serving():
                self._serving.set_result(None)
            case Given(number):
                given = self._asked.get(number)
                if given is not None and not given.done():
                    of_child = lent.pop()
                    of_child.setblocking(False)
                    given.set_result(of_child)
            case NotStarted(number):
                given = self._asked.get(number)
                if given is not None and not given.done():
                    error = StoreUnavailable("no process for SQL statements can be started")
                    given.set_exception(error)
            case Shortened(number):
                shortened = self._shortening.get(number)
                if shortened is not None and not shortened.done():
                    shortened.set_result(None)

    def _lost(self) -> None:
        """Close the connection, and fail everything that waits for the keeper."""
        self._unsent.clear()
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        if not self._serving.done():
            self._serving.set_result(None)  # `lend` finds no connection
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(StoreBusy(_ENDED))
        for shortening in self._shortening.values():
            if not shortening.done():
                shortening.set_exception(StoreBusy(_ENDED))
