"""Distribution of the connections of one socket over workers."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from running_node import running_node, until

from node.http.acceptor import Acceptor
from node.http.connection_counts import ConnectionCounts


class Worker:
    """A worker that accepts connections and sends its own number on each."""

    def __init__(self, bound: socket.socket, counts: ConnectionCounts, at: int) -> None:
        self.name = b"%d" % at
        self.open: set[asyncio.BaseTransport] = set()
        self.bound = bound.dup()
        self.bound.setblocking(False)
        self.acceptor = Acceptor(
            self.bound,
            lambda: _Named(self),
            lambda: len(self.open),
            counts=counts,
            worker=at,
            backlog=256,
        )
        self.acceptor.start()

    def close(self) -> None:
        self.acceptor.close()
        self.hang_up()

    def hang_up(self) -> None:
        for transport in self.open:
            transport.close()


class _Named(asyncio.Protocol):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._worker.open.add(transport)
        transport.write(self._worker.name)

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.open.discard(self._transport)
        self._worker.acceptor.lost()


class Site:
    """A socket and its workers."""

    def __init__(self, bound: socket.socket, workers: int) -> None:
        self.bound = bound
        self.counts = ConnectionCounts.of(workers)
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self, count: int) -> list[bytes]:
        """Open a number of connections at once; return the workers that accepted them."""
        address = self.bound.getsockname()
        made = await asyncio.gather(*[asyncio.open_connection(*address) for _ in range(count)])
        self.streams += made
        return await asyncio.gather(*[reader.readexactly(1) for reader, _ in made])

    async def hang_up(self, count: int) -> None:
        """Close the first connections, and wait until the other side has closed them."""
        ended, self.streams = self.streams[:count], self.streams[count:]
        for reader, writer in ended:
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()


@asynccontextmanager
async def site(workers: int) -> AsyncIterator[Site]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(256)
        opened = Site(bound, workers)
        yield opened
        for _, writer in opened.streams:
            writer.close()


async def test_a_burst_is_shared_evenly() -> None:
    """A burst of connections is spread over the workers, whichever wakes first."""
    async with site(3) as here:
        workers = [Worker(here.bound, here.counts, at) for at in range(3)]
        took = await here.connect(96)
        assert min(took.count(worker.name) for worker in workers) >= 16
        for worker in workers:
            worker.close()


async def test_a_new_worker_gets_what_comes_next() -> None:
    """A replaced worker accepts new connections until it has as many as the others."""
    async with site(2) as here:
        old = Worker(here.bound, here.counts, 0)
        assert set(await here.connect(20)) == {b"0"}
        new = Worker(here.bound, here.counts, 1)
        took = await here.connect(20)
        assert took.count(b"1") >= 15
        for worker in (old, new):
            worker.close()


async def test_connections_that_ended_do_not_count() -> None:
    """A worker whose connections ended accepts the next ones."""
    async with site(2) as here:
        workers = [Worker(here.bound, here.counts, 0)]
        await here.connect(20)
        workers.append(Worker(here.bound, here.counts, 1))
        await here.connect(20)
        await here.hang_up(20)  # all of the first worker's
        assert len(workers[0].open) <= 3
        took = await here.connect(16)
        assert took.count(b"0") >= 12
        for worker in workers:
            worker.close()


async def test_nobody_waits_for_a_worker_that_stands_still() -> None:
    """A stopped worker with few connections delays others by milliseconds only."""
    async with site(2) as here:
        assert here.counts.is_ours(1, 0)
        worker = Worker(here.bound, here.counts, 0)
        assert await here.connect(200) == [b"0"] * 200
        worker.close()


async def test_a_worker_that_ends_leaves_connections_to_the_others() -> None:
    """When a worker stops accepting, others accept its waiting connections and do not wait for
    it."""
    async with site(2) as here:
        going, staying = (Worker(here.bound, here.counts, at) for at in (0, 1))
        await here.connect(8)
        going.close()
        assert here.counts.least_beside(1) is None
        assert await here.connect(32) == [b"1"] * 32
        staying.close()


async def test_who_comes_while_all_workers_end_is_refused() -> None:
    """Once no worker accepts, new connections are refused at once, not after the drain."""
    async with site(2) as here:
        workers = [Worker(here.bound, here.counts, at) for at in range(2)]
        await here.connect(4)
        address = here.bound.getsockname()
        here.bound.close()
        for worker in workers:
            worker.acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        assert sum(len(worker.open) for worker in workers) == 4
        for worker in workers:
            worker.hang_up()


async def test_a_failed_accept_is_reported_and_does_not_spin(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a failed accept, a worker pauses: it logs one line, not one per iteration."""
    async with site(1) as here:
        worker = Worker(here.bound, here.counts, 0)
        # accept() fails from now on, and the socket stays readable
        here.bound.shutdown(socket.SHUT_RD)
        for _ in range(50):
            await asyncio.to_thread(lambda: None)
        assert capsys.readouterr().err.count("accept-failed") == 1
        worker.close()


def test_shares_follow_the_least_laden() -> None:
    """A worker accepts if it has hardly more connections than the others' least, or is alone."""
    counts = ConnectionCounts.of(3)
    assert counts.is_ours(0, 1000)
    assert counts.is_ours(1, 999)
    assert not counts.is_ours(2, 1126)
    assert counts.is_ours(2, 1124)
    assert not counts.is_ours(0, 1200)
    counts.withdraw(1)
    counts.withdraw(2)
    assert counts.is_ours(0, 1 << 40)


def test_counts_are_seen_through_the_descriptor() -> None:
    """A process that inherits the descriptor sees the same table."""
    counts = ConnectionCounts.of(2)
    seen = ConnectionCounts(counts.fileno())
    assert seen.least_beside(1) is None
    assert counts.is_ours(0, 17)
    assert seen.least_beside(1) == 17
    seen.withdraw(0)
    assert counts.least_beside(1) is None


def _sockets(pid: int) -> int:
    """Return the number of sockets of a process."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            count += os.readlink(entry).startswith("socket:")
    return count


@pytest.mark.slow
def test_workers_of_a_node_share_connections(tmp_path: Path) -> None:
    """Persistent connections are spread over a node's workers, and a restarted worker gets new
    ones."""
    with running_node(tmp_path, "--attestation", "off") as node, ExitStack() as kept:
        port = int(node.url.rpartition(":")[2])

        def shared(count: int) -> dict[int, int]:
            before = {pid: _sockets(pid) for pid in node.children("worker")}
            for _ in range(count):
                kept.enter_context(socket.create_connection(("127.0.0.1", port)))
            until(lambda: sum(_sockets(pid) - had for pid, had in before.items()) == count)
            return {pid: _sockets(pid) - had for pid, had in before.items()}

        assert min(shared(64).values()) >= 16
        staying, victim = node.children("worker")
        os.kill(victim, signal.SIGKILL)
        until(lambda: "\n".join(node.lines).count('"worker-started"') == 3)
        (fresh,) = set(node.children("worker")) - {staying}
        assert shared(32)[fresh] > 16
