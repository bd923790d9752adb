"""Tests of a worker's connection to a storekeeper that answers late, wrongly or not at all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from spaces.space_errors import CommitInvalid, StoreBusy, StoreFull, StoreUnavailable
from spaces.store.contract import Commit, Committed, Put
from spaces.store.lmdb import _connection
from spaces.store.lmdb._connection import StoreConnection
from spaces.store.lmdb._frames import (
    MAX_REQUEST_BYTES,
    CommitReply,
    FrameReader,
    Kind,
    parse_requests,
    reply_frame,
)
from spaces.store.lmdb._writer import CommitRequest

COMMIT = Commit(puts=(Put(b"Ka", b"1"),))


class Listener:
    """A storekeeper for one connection at a time, whose answers the test chooses."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[CommitRequest] = asyncio.Queue()
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one connection until it ends."""
        self.connections += 1
        self._writer = writer
        frames = FrameReader(MAX_REQUEST_BYTES)
        while data := await reader.read(65_536):
            for payload in frames.feed(data):
                for ask in parse_requests(payload):
                    self.asked.put_nowait(ask)
        writer.close()

    async def next(self) -> CommitRequest:
        """Return the next request."""
        return await asyncio.wait_for(self.asked.get(), PATIENCE_S)

    def say(self, data: bytes) -> None:
        """Send bytes on the latest connection."""
        assert self._writer is not None
        self._writer.write(data)

    def answer(self, ask: CommitRequest, kind: Kind = Kind.COMMITTED) -> None:
        """Answer a request."""
        self.say(reply_frame([CommitReply(ask.number, kind)]))


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    """Listen on the socket in place of a storekeeper."""
    listener = Listener()
    server = await asyncio.start_unix_server(listener.hear, tmp_path / "sock")
    yield listener
    server.close()


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[StoreConnection]:
    """A connection to the listener."""
    link = StoreConnection(tmp_path / "sock")
    yield link
    await link.close()


@pytest.mark.parametrize(("kind", "error"), [(Kind.FULL, StoreFull), (Kind.INVALID, CommitInvalid)])
async def test_what_the_storekeeper_does_not_write_is_an_error(
    link: StoreConnection, listener: Listener, kind: Kind, error: type[Exception]
) -> None:
    """A full store and a commit that the storekeeper rejects raise different errors."""
    asking = asyncio.create_task(link.commit(COMMIT))
    listener.answer(await listener.next(), kind)
    with pytest.raises(error):
        await asking


async def test_bytes_that_are_no_answer_end_the_connection(
    link: StoreConnection, listener: Listener
) -> None:
    """A request is sent again unchanged on another connection after an invalid reply."""
    asking = asyncio.create_task(link.commit(COMMIT))
    first = await listener.next()
    listener.say(b"\0\0\0\1\xc1")
    again = await listener.next()
    assert again == first
    assert listener.connections == 2
    listener.answer(again)
    assert await asking == Committed()


async def test_caller_that_goes_away_takes_nothing_from_the_others(
    link: StoreConnection, listener: Listener
) -> None:
    """Cancelling a commit does not affect the outcome of the next commit."""
    leaving, staying = (asyncio.create_task(link.commit(COMMIT)) for _ in range(2))
    first, second = await listener.next(), await listener.next()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    listener.answer(first)
    listener.answer(second)
    assert await staying == Committed()


async def test_answer_that_comes_too_late_is_nobodys(
    link: StoreConnection, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit fails after a time limit, and a later answer to it affects no other commit. The same
    holds for a cancelled one."""
    monkeypatch.setattr(_connection, "ANSWER_WITHIN_S", 0.0)
    monkeypatch.setattr(_connection, "_WATCH_S", 0.01)
    cancelled, given_up = (asyncio.create_task(link.commit(COMMIT)) for _ in range(2))
    late = [await listener.next() for _ in range(2)]
    cancelled.cancel()
    with pytest.raises(StoreUnavailable, match="timed out"):
        await asyncio.wait_for(given_up, PATIENCE_S)
    monkeypatch.setattr(_connection, "ANSWER_WITHIN_S", 60.0)
    asking = asyncio.create_task(link.commit(COMMIT))
    for ask in (*late, await listener.next()):
        listener.answer(ask)
    assert await asking == Committed()
    assert listener.connections == 1


async def test_what_waits_is_bounded(
    link: StoreConnection, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If too many bytes wait for an answer, further commits fail at once until answers arrive."""
    monkeypatch.setattr(_connection, "MAX_WAITING_BYTES", 10)
    asking = asyncio.create_task(link.commit(COMMIT))
    ask = await listener.next()
    with pytest.raises(StoreBusy):
        await link.commit(COMMIT)
    listener.answer(ask)
    assert await asking == Committed()
    asking = asyncio.create_task(link.commit(COMMIT))
    listener.answer(await listener.next())
    assert await asking == Committed()


async def test_closing_while_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection that looks for the storekeeper fails the waiting requests and ends the
    search."""
    monkeypatch.setattr(_connection, "RECONNECT_WITHIN_S", 3600.0)
    link = StoreConnection(tmp_path / "nobody")
    before = asyncio.all_tasks()
    asking = asyncio.create_task(link.commit(COMMIT))
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.wait_for(link.close(), PATIENCE_S)
    with pytest.raises(StoreUnavailable, match="closed"):
        await asking
    with pytest.raises(StoreUnavailable, match="closed"):
        await link.commit(COMMIT)
    assert asyncio.all_tasks() == before
