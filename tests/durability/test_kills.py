"""Tests of processes that are killed at any moment: acknowledged writes remain complete."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from durability.load import Granter, Writer, new_session
from patience import PATIENCE_S
from running_node import RunningNode, running_node, send, until

from capabilities.resources import parse_space_id
from spaces.keyspace import space_keys
from spaces.store.contract import Store, counter_of
from spaces.store.lmdb.engine import open_lmdb

pytestmark = pytest.mark.slow

KILLS = 4
WRITERS = 12


class Load:
    """Writers and a granter on one node, across several restarts."""

    def __init__(self) -> None:
        self.writers = [Writer(at) for at in range(WRITERS)]
        self.granter = Granter()
        self.answered = 0

    async def until_killed(self, node: RunningNode, *, after: int) -> None:
        """Load the node, and kill all its processes after the given number of answers."""
        ended, enough = asyncio.Event(), asyncio.Event()
        aim = self.answered + after

        def done() -> None:
            self.answered += 1
            if self.answered >= aim:
                enough.set()

        async with new_session() as session:
            parties: tuple[Writer | Granter, ...] = (*self.writers, self.granter)
            tasks = [
                asyncio.create_task(one.run_until(session, node.url, ended, done))
                for one in parties
            ]
            try:
                await asyncio.wait_for(enough.wait(), PATIENCE_S)
                await asyncio.to_thread(node.kill)
            finally:
                ended.set()
                await asyncio.gather(*tasks)

    async def check(self, node: RunningNode) -> None:
        """Compare the node's contents with everything that was acknowledged."""
        async with new_session() as session:
            await asyncio.gather(*(writer.check(session, node.url) for writer in self.writers))
            await self.granter.check(session, node.url)


async def kill_many_times(folder: Path, *, kills: int) -> None:
    """Kill a whole node under load, restart it and compare, repeatedly; then count the rows left in
    the store."""
    chance = random.Random(kills)
    load = Load()
    starts_s: list[float] = []
    for _ in range(kills):
        with running_node(folder) as node:
            starts_s.append(time.monotonic() - node.started_at)
            await load.check(node)
            await load.until_killed(node, after=chance.randrange(20, 150))
    with running_node(folder) as node:
        await load.check(node)
        async with new_session() as session:
            kept = [await writer.check(session, node.url) for writer in load.writers]
        assert node.stop() == 0
    await check_usage(folder, load.writers, kept)
    report(f"{kills} kills, {load.answered} requests answered", starts_s)


async def check_usage(folder: Path, writers: Sequence[Writer], kept_bytes: Sequence[int]) -> None:
    """Compare each space's counter with the space's contents (ST7)."""
    store: Store = open_lmdb(folder / "data")
    try:
        keys = [space_keys(parse_space_id(writer.space)).usage for writer in writers]
        records = (await store.read(keys)).records
        assert [counter_of(record) for record in records] == list(kept_bytes)
    finally:
        await store.close()


def report(what: str, starts_s: Sequence[float]) -> None:
    """Print figures that no test asserts."""
    existing = sorted(starts_s[1:]) or [0.0]
    print(
        f"{what}; start on an existing folder to listening: "
        f"median {existing[len(existing) // 2]:.2f} s, slowest {existing[-1]:.2f} s"
    )


async def test_kills_of_the_whole_node(tmp_path: Path) -> None:
    """Supervisor, storekeeper and workers are killed together under load, many times. Nothing
    acknowledged is lost or partial."""
    await kill_many_times(tmp_path, kills=KILLS)


@pytest.mark.parametrize("kind", ["worker", "storekeeper"])
async def test_kills_of_one_process(tmp_path: Path, kind: str) -> None:
    """If one process is killed under load, the others continue and a new process replaces it
    (ST4)."""
    load = Load()
    with running_node(tmp_path) as node:
        url = node.url
        count = 1 if kind == "storekeeper" else 2
        for _ in range(2):
            await _load_and_kill_one(load, node, kind)
            until(lambda: len(node.children(kind)) == count)
            await _until_writing(url)
            await load.check(node)
        async with new_session() as session:
            kept = [await writer.check(session, url) for writer in load.writers]
        assert node.stop() == 0
    await check_usage(tmp_path, load.writers, kept)


async def _load_and_kill_one(load: Load, node: RunningNode, kind: str) -> None:
    ended, killed, enough = asyncio.Event(), asyncio.Event(), asyncio.Event()
    answered = {"before": 0, "after": 0}

    def done() -> None:
        answered["after" if killed.is_set() else "before"] += 1
        if answered["after"] >= 60:
            enough.set()
        if answered["before"] == 40 and not killed.is_set():
            os.kill(node.children(kind)[0], signal.SIGKILL)
            killed.set()

    async with new_session() as session:

        async def keep_at(one: Writer | Granter) -> None:
            while not ended.is_set():  # a connection that broke with its worker is opened anew
                await one.run_until(session, node.url, ended, done)

        parties: tuple[Writer | Granter, ...] = (*load.writers, load.granter)
        tasks = [asyncio.create_task(keep_at(one)) for one in parties]
        try:
            await asyncio.wait_for(enough.wait(), PATIENCE_S)
        finally:
            ended.set()
            await asyncio.gather(*tasks)


async def _until_writing(url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await send(url, "GET", "/readyz")).status != 200:
            await asyncio.to_thread(lambda: None)


async def test_the_first_answer(tmp_path: Path) -> None:
    """A restarted node answers with its former contents as soon as it reports that it listens."""
    with running_node(tmp_path, workers=1) as node:
        writer = Writer(0)
        async with new_session() as session:
            for _ in range(30):
                await writer.write(session, node.url)
        assert node.stop() == 0
    with running_node(tmp_path, workers=1) as node:
        assert (await send(node.url, "GET", "/readyz")).status == 200
        print(
            "first answer on an existing data folder after"
            f" {time.monotonic() - node.started_at:.2f} s"
        )
        async with new_session() as session:
            await writer.check(session, node.url)
        assert node.stop() == 0
