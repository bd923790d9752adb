"""The store when processes die, disks fill up and syncs fail."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from patience import AT_ONCE_S, PATIENCE_S
from storekeeper_process import StorekeeperProcess

from spaces.space_errors import StoreFull, StoreLocked, StoreUnavailable
from spaces.store.contract import (
    ABSENT,
    Add,
    Commit,
    Committed,
    Put,
    Range,
    Refused,
    ReplayRecord,
    Store,
    counter_of,
)
from spaces.store.lmdb._frames import Kind, encode_request, parse_replies, request_frames
from spaces.store.lmdb._writer import CommitRequest
from spaces.store.lmdb.engine import connect_lmdb, open_lmdb
from spaces.store.lmdb.storekeeper import EXIT_BROKEN, EXIT_STOPPED

ROUNDS = 8
WRITERS = 32
ACKNOWLEDGED_BEFORE_KILL = 250


class Load:
    """Concurrent writers that record each acknowledged commit."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.acknowledged: list[bytes] = []
        self.enough = asyncio.Event()
        self._aim = ACKNOWLEDGED_BEFORE_KILL
        self._is_ending = False

    def rearm(self) -> None:
        self.enough.clear()
        self._aim = len(self.acknowledged) + ACKNOWLEDGED_BEFORE_KILL

    def end(self) -> None:
        self._is_ending = True

    async def write(self, writer: int) -> None:
        count = 0
        while not self._is_ending:
            name = b"%02d-%06d" % (writer, count)
            count += 1
            replay_record = ReplayRecord(name.ljust(32, b"."), 4_000_000_000) if count % 2 else None
            puts = (Put(b"Ka" + name, name, expect=ABSENT), Put(b"Kb" + name, name, expect=ABSENT))
            outcome = await self.store.commit(
                Commit(puts=puts, adds=(Add(b"cA", 1),), replay_record=replay_record)
            )
            assert isinstance(outcome, Committed)
            self.acknowledged.append(name)
            if len(self.acknowledged) >= self._aim:
                self.enough.set()


@pytest.mark.slow
async def test_killed_storekeeper_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """After repeated SIGKILLs under load, each commit was written exactly once and completely."""
    with StorekeeperProcess(tmp_path / "data") as keeper:
        store = connect_lmdb(keeper.folder)
        load = Load(store)
        writers = [asyncio.create_task(load.write(writer)) for writer in range(WRITERS)]
        for _ in range(ROUNDS):
            await asyncio.wait_for(load.enough.wait(), PATIENCE_S)
            keeper.kill()
            keeper.start()
            load.rearm()
        await asyncio.wait_for(load.enough.wait(), PATIENCE_S)
        load.end()
        await asyncio.gather(*writers)
        rows = await all_rows(store, b"Ka"), await all_rows(store, b"Kb")
        assert sorted(load.acknowledged) == rows[0] == rows[1]
        # A commit that was sent again after its first copy had become durable would count twice.
        assert len(load.acknowledged) == counter_of((await store.read((b"cA",))).records[0])
        await store.close()


async def all_rows(store: Store, prefix: bytes) -> list[bytes]:
    found: list[bytes] = []
    after = None
    while True:
        page = (await store.read(ranges=(Range(prefix, after=after),))).pages[0]
        found += [record.value or b"" for _, record in page.rows]
        after = page.last_key
        if not page.more:
            return found


@pytest.mark.slow
async def test_stopped_storekeeper_answers_and_the_next_takes_over(tmp_path: Path) -> None:
    """SIGTERM ends with status 0, and the next storekeeper writes the commits that wait."""
    with StorekeeperProcess(tmp_path / "data") as keeper:
        store = connect_lmdb(keeper.folder)
        assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
        assert keeper.end(signal.SIGTERM) == EXIT_STOPPED
        between = asyncio.create_task(store.commit(Commit(puts=(Put(b"Kb", b"2"),))))
        # a turn of the loop, in which the commit finds nobody
        await asyncio.to_thread(lambda: None)
        keeper.start()
        assert isinstance(await between, Committed)
        await store.close()


@pytest.mark.slow
async def test_without_a_storekeeper_commits_are_unavailable_and_reads_go_on(
    tmp_path: Path,
) -> None:
    """Without a storekeeper a commit fails within about two seconds, and reads continue."""
    with StorekeeperProcess(tmp_path / "data") as keeper:
        store = connect_lmdb(keeper.folder)
        await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
        keeper.kill()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.commit(Commit(puts=(Put(b"Ka", b"2"),))), PATIENCE_S)
        assert (await store.read((b"Ka",))).records[0].value == b"1"
        assert (
            await store.read(replay_record=ReplayRecord(b"." * 32, 4_000_000_000))
        ).is_first_use is True
        await store.close()


@pytest.mark.slow
async def test_failed_write_ends_the_storekeeper(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A storekeeper that cannot write acknowledges nothing, logs the failure once and exits."""
    with StorekeeperProcess(tmp_path / "data", file_limit=256 * 1024) as keeper:
        store = connect_lmdb(keeper.folder)
        acknowledged = 0
        with pytest.raises(StoreUnavailable):
            while acknowledged < 100:
                await store.commit(Commit(puts=(Put(b"K%d" % acknowledged, b"v" * 16_384),)))
                acknowledged += 1
        assert keeper.wait() == EXIT_BROKEN
        assert capfd.readouterr().err.count("no more commits: mdb_txn_commit: Input/output") == 1
        page = (await store.read(ranges=(Range(b"K", keys_only=True),))).pages[0]
        assert acknowledged == len(page.rows)
        await store.close()


def test_second_storekeeper_is_refused(tmp_path: Path) -> None:
    """Only one process can write to a folder, by either way of opening it."""
    with StorekeeperProcess(tmp_path / "data") as keeper, pytest.raises(StoreLocked):
        open_lmdb(keeper.folder)


async def test_folder_with_a_long_path(tmp_path: Path) -> None:
    """If the socket's path is too long, both sides use the same shorter path."""
    folder = tmp_path / ("x" * 100)
    with StorekeeperProcess(folder) as keeper:
        store = connect_lmdb(keeper.folder)
        assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
        await store.close()
        assert not (folder / "store.sock").exists()
        assert keeper.end() == EXIT_STOPPED


async def test_worker_on_an_empty_folder(tmp_path: Path) -> None:
    """A worker does not create a store, but waits for a storekeeper that does."""
    with pytest.raises(StoreUnavailable):
        connect_lmdb(tmp_path)


async def test_outsider_on_the_socket(tmp_path: Path) -> None:
    """A connection that sends malformed frames is closed, and no other is affected."""
    with StorekeeperProcess(tmp_path / "d") as keeper:
        for junk in (b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\3\x93\x01\x02"):
            reader, writer = await asyncio.open_unix_connection(keeper.folder / "store.sock")
            writer.write(junk)
            assert await asyncio.wait_for(reader.read(), AT_ONCE_S) == b""
            writer.close()
        store = connect_lmdb(keeper.folder)
        assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
        await store.close()


async def test_commit_that_no_worker_checked_is_judged_alone(tmp_path: Path) -> None:
    """The storekeeper rejects commits beyond the contract's limits even if no worker checked
    them."""
    commits = [
        Commit(puts=(Put(key, key),) * times) for key, times in ((b"Ka", 1), (b"Kb", 2), (b"Kc", 1))
    ]
    asks = [
        encode_request(CommitRequest(at, bytes([at]) * 16, 4_000_000_000, commit))
        for at, commit in enumerate(commits)
    ]
    with StorekeeperProcess(tmp_path / "d") as keeper:
        reader, writer = await asyncio.open_unix_connection(keeper.folder / "store.sock")
        writer.writelines(request_frames(asks))
        size_bytes = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), AT_ONCE_S), "big")
        answers = parse_replies(await asyncio.wait_for(reader.readexactly(size_bytes), AT_ONCE_S))
        assert [(answer.number, answer.kind) for answer in answers] == [
            (0, Kind.COMMITTED),
            (1, Kind.INVALID),
            (2, Kind.COMMITTED),
        ]
        writer.close()
        store = connect_lmdb(keeper.folder)
        assert await all_rows(store, b"K") == [b"Ka", b"Kc"]
        await store.close()


async def test_full_store_still_reads_and_revokes(folder_kind, tmp_path: Path) -> None:
    """Above its limit the store refuses large commits, but writes small ones and reads as
    before."""
    with folder_kind(tmp_path / "data", max_bytes=512 * 1024) as engine:
        store = engine()
        written = 0
        with pytest.raises(StoreFull):
            while written < 100:
                await store.commit(Commit(puts=(Put(b"K%03d" % written, b"v" * 16_384),)))
                written += 1
        assert 20 < written < 40
        assert written == len(
            (await store.read(ranges=(Range(b"K", keys_only=True),))).pages[0].rows
        )
        assert isinstance(await store.commit(Commit(puts=(Put(b"L1", b"R"),))), Committed)
        deletes = tuple(Put(b"K%03d" % at, None) for at in range(written))
        assert isinstance(await store.commit(Commit(puts=deletes)), Committed)
        assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"v" * 16_384),))), Committed)
        await store.close()


async def test_full_disk_is_reported_apart_from_a_bound_of_the_store(
    folder_kind, tmp_path: Path
) -> None:
    """The store writes nothing while free disk space is below the reserve."""
    with folder_kind(tmp_path / "data", reserve_bytes=1 << 60) as engine:
        store = engine()
        with pytest.raises(StoreFull):
            await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
        assert (await store.read((b"Ka",))).records == (None,)
        await store.close()


_CLAIM_EVERYTHING = """
import asyncio, json, sys
from pathlib import Path
from spaces.store.contract import ReplayRecord
from spaces.store.lmdb.engine import connect_lmdb

async def main():
    store = connect_lmdb(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    won = []
    for number in range(int(sys.argv[2])):
        record = ReplayRecord(number.to_bytes(32, "little"), 4_000_000_000)
        snapshot = await store.read(replay_record=record)
        if snapshot.is_first_use:
            won.append(number)
    print(json.dumps(won), flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_replay_record_is_exact_among_processes(tmp_path: Path) -> None:
    """If two workers claim the same tokens at once, each token has exactly one first use."""
    count = 2000
    with StorekeeperProcess(tmp_path / "data") as keeper:
        workers = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", _CLAIM_EVERYTHING, str(keeper.folder), str(count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        won = [json.loads(worker.communicate(timeout=PATIENCE_S)[0]) for worker in workers]
        assert list(range(count)) == sorted(won[0] + won[1])


async def test_replay_records_of_another_boot_are_forgotten(tmp_path: Path) -> None:
    """Replay records of reads belong to one boot, and those of commits are kept."""
    folder = tmp_path / "data"
    store = open_lmdb(folder)
    read, durable = ReplayRecord(b"r" * 32, 4_000_000_000), ReplayRecord(b"d" * 32, 4_000_000_000)
    assert (await store.read(replay_record=read)).is_first_use is True
    assert isinstance(await store.commit(Commit(replay_record=durable)), Committed)
    await store.close()
    (recorded,) = folder.glob("first-use-*")
    recorded.rename(folder / "first-use-another-boot")
    again = open_lmdb(folder)
    assert (await again.read(replay_record=read)).is_first_use is True
    assert (await again.read(replay_record=durable)).is_first_use is False
    assert isinstance(await again.commit(Commit(replay_record=durable)), Refused)
    assert not (folder / "first-use-another-boot").exists()
    await again.close()


class DeafLine:
    """A proxy between a worker and the storekeeper that loses the first replies and their
    connection."""

    def __init__(self, storekeeper: Path, lost_answers: int) -> None:
        self._storekeeper = storekeeper
        self._carriers: list[asyncio.Task[None]] = []
        self.lost_answers = lost_answers

    @asynccontextmanager
    async def at(self, place: Path) -> AsyncIterator[Path]:
        server = await asyncio.start_unix_server(self._accept, place)
        yield place
        server.close()
        await asyncio.gather(*self._carriers)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carriers.append(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._storekeeper)
        asking = asyncio.create_task(self._ask(reader, far_writer))
        while data := await far_reader.read(65_536):
            if self.lost_answers:
                self.lost_answers -= 1
                break
            writer.write(data)
        writer.close()
        await asyncio.gather(asking, writer.wait_closed(), return_exceptions=True)

    async def _ask(self, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            far_writer.write(data)
        far_writer.close()
        await far_writer.wait_closed()


@pytest.mark.parametrize(
    "replay_record",
    [None, ReplayRecord(b"." * 32, 4_000_000_000)],
    ids=["without a replay record", "with one"],
)
async def test_lost_answer_is_settled(tmp_path: Path, replay_record: ReplayRecord | None) -> None:
    """A commit whose reply was lost with the connection is recognised as written, and written once
    (ST4)."""
    with StorekeeperProcess(tmp_path / "d") as keeper:
        line = DeafLine(keeper.folder / "store.sock", lost_answers=2)
        async with line.at(tmp_path / "line") as place:
            store = connect_lmdb(keeper.folder, place)
            outcome = await store.commit(
                Commit(puts=(Put(b"Ka", b"1"),), adds=(Add(b"cA", 1),), replay_record=replay_record)
            )
            assert Committed(already_applied=True) == outcome
            assert line.lost_answers == 0
            assert counter_of((await store.read((b"cA",))).records[0]) == 1
            await store.close()


async def test_line_that_is_lost_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    """If a storekeeper ends before it reads a connection, the commit is sent to the next
    storekeeper."""
    place = tmp_path / "line"
    with StorekeeperProcess(tmp_path / "d") as keeper, socket.socket(socket.AF_UNIX) as ending:
        ending.bind(str(place))
        ending.listen()
        store = connect_lmdb(keeper.folder, place)
        asking = asyncio.create_task(
            store.commit(Commit(puts=(Put(b"Ka", b"1"),), adds=(Add(b"cA", 1),)))
        )
        # the commit is asked for, then the connection is made; nothing is written to it yet
        for _ in range(2):
            await asyncio.sleep(0)
        ending.close()
        place.unlink()
        async with DeafLine(keeper.folder / "store.sock", lost_answers=0).at(place):
            assert Committed() == await asyncio.wait_for(asking, PATIENCE_S)
            assert counter_of((await store.read((b"cA",))).records[0]) == 1
            await store.close()


async def test_lost_refusal_is_judged_again(tmp_path: Path) -> None:
    """A commit whose refusal was lost is refused again."""
    with StorekeeperProcess(tmp_path / "d") as keeper:
        line = DeafLine(keeper.folder / "store.sock", lost_answers=1)
        async with line.at(tmp_path / "line") as place:
            store = connect_lmdb(keeper.folder, place)
            assert isinstance(await store.commit(Commit(live=(b"L1",))), Refused)
            assert line.lost_answers == 0
            await store.close()
