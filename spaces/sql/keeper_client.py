"""A worker's connection with the keeper, from which it borrows child processes (SQ29)."""

import asyncio
import socket
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..space_errors import StoreBusy, StoreUnavailable
from .frames import (
    MAX_KEEPER_BYTES,
    ChildLent,
    ChildNotStarted,
    EndLease,
    EndReaders,
    FromKeeper,
    LeaseRequest,
    ReadersEnded,
    Serving,
    ToKeeper,
    encoded,
)

_START_S = 10.0
"""How long a keeper may take to start; it is not part of a request's time."""
_KEEPER_ENDED = "the keeper of SQL processes has ended"
_DECODER: msgspec.msgpack.Decoder[FromKeeper] = msgspec.msgpack.Decoder(FromKeeper)


class LentChild(NamedTuple):
    """A connection with a child that was lent, and the id of its process."""

    connection: socket.socket
    process: int


class KeeperClient:
    """A worker's connection with the keeper.

    It is made when it is needed, and again after the keeper has ended.

    Only the thread of the event loop may use it.

    Args:
        path: of the keeper's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._unsent = deque[bytes]()
        # By the number of the lease, what a request waits for.
        self._awaited_children = dict[int, asyncio.Future[LentChild]]()
        self._awaited_ends_of_readers = dict[int, asyncio.Future[None]]()
        self._is_closed = False
        self._serving: asyncio.Future[None] = asyncio.Future()  # done once the keeper has answered

    async def borrow(self, request: LeaseRequest, wait_s: float) -> LentChild:
        """Wait for a child, and return it.

        The lease lasts until `end_lease` is called with the number of the request.

        Raises:
            StoreBusy: no place became free in time, or the keeper has ended.
            StoreUnavailable: the keeper does not run, or cannot start a process.
        """
        self._connect()
        # `asyncio.wait` raises no error when the time is over. Unless the keeper answers later, no
        # child is lent, and the request ends after `wait_s`.
        await asyncio.wait((self._serving,), timeout=_START_S)
        if self._socket is None:
            raise StoreBusy(_KEEPER_ENDED)
        loop = asyncio.get_running_loop()
        lent_future: asyncio.Future[LentChild] = loop.create_future()
        self._awaited_children[request.number] = lent_future
        try:
            self._send(request)
            async with asyncio.timeout(wait_s):
                return await lent_future
        except (TimeoutError, asyncio.CancelledError) as exc:
            # A child may have been lent just before. It got no statements, so it can be kept.
            if _has_result(lent_future):
                lent_future.result().connection.close()
            self.end_lease(request.number, keeps_child=True)
            if isinstance(exc, TimeoutError):
                raise StoreBusy("other requests use the SQL databases") from None
            raise
        finally:
            del self._awaited_children[request.number]

    def end_lease(self, number: int, *, keeps_child: bool) -> None:
        """End a lease, or stop waiting for it.

        `keeps_child` says whether the child can be lent again (`EndLease`).
        """
        self._send(EndLease(number, keeps_child))

    async def end_readers(self, number: int, wait_s: float) -> None:
        """Have the other leases ended that read the database of a lease, and wait for it (SQ30).

        Raises:
            StoreBusy: another request did not end in time.
        """
        readers_ended = asyncio.get_running_loop().create_future()
        self._awaited_ends_of_readers[number] = readers_ended
        try:
            self._send(EndReaders(number))
            async with asyncio.timeout(wait_s):
                await readers_ended
        except TimeoutError:
            raise StoreBusy("another request reads the SQL database") from None
        finally:
            del self._awaited_ends_of_readers[number]

    def close(self) -> None:
        """Close the connection for good; all leases end."""
        self._is_closed = True
        self._disconnect()

    def _connect(self) -> None:
        """Connect with the keeper, unless there is a connection.

        Raises:
            StoreUnavailable: this object was closed, or the keeper does not run.
        """
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
        loop.add_reader(connection, self._receive)
        self._serving = loop.create_future()

    def _send(self, message: ToKeeper) -> None:
        if self._socket is None:  # all leases have ended with the connection
            return
        self._unsent.append(encoded(message))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        """Send the unsent messages until the socket has no room, and the rest when it has."""
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
            self._disconnect()

    def _receive(self) -> None:
        """Read the keeper's messages, and pass each on to the request that waits for it."""
        while (connection := self._socket) is not None:
            try:
                payload, files, _, _ = socket.recv_fds(connection, MAX_KEEPER_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                payload, files = b"", []
            if not payload:
                self._disconnect()
                return
            connections = [socket.socket(fileno=file) for file in files]
            self._pass_on(_DECODER.decode(payload), connections)
            for unused in connections:  # the lease was ended meanwhile
                unused.close()

    def _pass_on(self, message: FromKeeper, connections: list[socket.socket]) -> None:
        """Pass a message on to the request that waits for it.

        `connections` has the connection with a child that came with the message. It is removed if a
        request gets it.
        """
        match message:
            case Serving():
                self._serving.set_result(None)
            case ChildLent(number, process):
                lent_future = self._awaited_children.get(number)
                if lent_future is not None and not lent_future.done():
                    connection = connections.pop()
                    connection.setblocking(False)
                    lent_future.set_result(LentChild(connection, process))
            case ChildNotStarted(number):
                lent_future = self._awaited_children.get(number)
                if lent_future is not None and not lent_future.done():
                    error = StoreUnavailable("no process for SQL statements can be started")
                    lent_future.set_exception(error)
            case ReadersEnded(number):
                readers_ended = self._awaited_ends_of_readers.get(number)
                if readers_ended is not None and not readers_ended.done():
                    readers_ended.set_result(None)

    def _disconnect(self) -> None:
        """Close the connection, and fail everything that waits for the keeper."""
        self._unsent.clear()
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        if not self._serving.done():
            self._serving.set_result(None)  # `borrow` finds no connection
        for lent_future in self._awaited_children.values():
            if not lent_future.done():
                lent_future.set_exception(StoreBusy(_KEEPER_ENDED))
        for readers_ended in self._awaited_ends_of_readers.values():
            if not readers_ended.done():
                readers_ended.set_exception(StoreBusy(_KEEPER_ENDED))


def _has_result(future: "asyncio.Future[LentChild]") -> bool:
    """Return whether a future ended with a result, not with an error or a cancellation."""
    return future.done() and not future.cancelled() and future.exception() is None
