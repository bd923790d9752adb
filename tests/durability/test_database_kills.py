"""Tests of processes that are killed while SQL databases are written.

`SQL_KILLS=200` asks for another number of kills.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import apsw
import pytest
from durability.load import LOST, new_session
from engines import needs_folder
from patience import PATIENCE_S
from running_node import (
    Reply,
    RunningNode,
    exchange,
    key_token,
    new_key,
    running_node,
    until,
)

from capabilities.resources import parse_space_id
from capabilities.signatures import Ed25519Signer
from spaces.keyspace import space_keys
from spaces.sql.database_rows import DATABASES_FOLDER, DatabaseName, file_of
from spaces.store.contract import counter_of
from spaces.store.lmdb.engine import open_lmdb

pytestmark = [pytest.mark.slow, needs_folder()]

KILLS = int(os.environ.get("SQL_KILLS", "4"))
WRITERS = 6
SCHEMA = [
    "CREATE TABLE IF NOT EXISTS counts (writer INTEGER PRIMARY KEY, n INTEGER)",
    "CREATE TABLE IF NOT EXISTS log (writer INTEGER, n INTEGER, body TEXT)",
]
WRITE = [
    "INSERT INTO counts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = ?2",
    "INSERT INTO log VALUES (?1, ?2, hex(randomblob(500)))",
]
READ = (
    "SELECT (SELECT n FROM counts WHERE writer = ?1), (SELECT max(n) FROM log WHERE writer = ?1),"
    " (SELECT count(*) FROM log WHERE writer = ?1)"
)


@dataclass
class DatabaseWriter:
    """A writer of numbered rows in a database that it shares with others.

    Attributes:
        number: of the writer.
        path: the database.
        asked: the number of the last write that was sent.
        acknowledged: the number of the last write that was answered.
    """

    number: int
    path: str
    signer: Ed25519Signer
    asked: int = 0
    acknowledged: int = 0

    @property
    def space(self) -> str:
        """The owner's space."""
        return f"tinycloud:{self.signer.did.removeprefix('did:')}:default"

    async def ask(
        self, session: aiohttp.ClientSession, url: str, request: object, ability: str
    ) -> Reply:
        """Send one request for the database."""
        grants = {f"{self.space}/sql/{self.path}": [f"tinycloud.sql/{ability}"]}
        token = key_token(self.signer, self.signer.did, grants)
        body = json.dumps(request).encode()
        return await exchange(session, url, "POST", "/invoke", token=token, body=body)

    async def write(self, session: aiohttp.ClientSession, url: str) -> None:
        """Write the next number into two tables, with one request."""
        self.asked += 1
        params = [self.number, self.asked]
        statements = [{"sql": sql} for sql in SCHEMA] + [
            {"sql": sql, "params": params} for sql in WRITE
        ]
        reply = await self.ask(session, url, {"action": "batch", "statements": statements}, "write")
        assert reply.status in (200, 503), reply.said
        if reply.status == 200:
            self.acknowledged = self.asked

    async def run_until(
        self, session: aiohttp.ClientSession, url: str, ended: asyncio.Event
    ) -> None:
        """Write until told to stop, or until the connection is lost."""
        with suppress(*LOST):
            while not ended.is_set():
                await self.write(session, url)

    async def check(self, session: aiohttp.ClientSession, url: str) -> None:
        """Compare both tables with each other and with the acknowledged writes."""
        request = {"action": "query", "sql": READ, "params": [self.number]}
        reply = await self.ask(session, url, request, "read")
        if self.acknowledged == 0 and reply.status == 400:
            return  # the tables do not exist yet
        assert reply.status == 200, reply.said
        (counted, last, rows) = json.loads(reply.body)["rows"][0]
        assert counted == last
        assert (counted or 0) in range(self.acknowledged, self.asked + 1)
        assert rows <= (counted or 0)
        self.asked = self.acknowledged = counted or 0


@dataclass
class Load:
    """Writers on two databases of one owner."""

    signer: Ed25519Signer = field(default_factory=new_key)
    writers: list[DatabaseWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writers = [
            DatabaseWriter(number, f"db{number % 2}", self.signer) for number in range(WRITERS)
        ]

    @property
    def space(self) -> str:
        return self.writers[0].space

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    async def host(self, url: str) -> None:
        """Have the owner's space hosted."""
        token = key_token(
            self.signer, self.signer.did, {f"{self.space}/kv/a": ["tinycloud.kv/put"]}
        )
        async with new_session() as session:
            reply = await exchange(session, url, "POST", "/invoke", token=token, body=b"")
            assert reply.status == 200, reply.said

    async def check(self, url: str) -> None:
        async with new_session() as session:
            for writer in self.writers:
                await writer.check(session, url)

    async def run(self, url: str, *, more: int, kill: Callable[[], object]) -> None:
        """Write until the given number of further writes was acknowledged, then kill the node."""
        ended, aim = asyncio.Event(), self.acknowledged + more
        async with new_session() as session:
            tasks = [
                asyncio.create_task(writer.run_until(session, url, ended))
                for writer in self.writers
            ]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while self.acknowledged < aim and not all(task.done() for task in tasks):
                        await asyncio.wait(tasks, timeout=0.002)
                await asyncio.to_thread(kill)
            finally:
                ended.set()
                await asyncio.gather(*tasks)


def _has_others(node: RunningNode, killed: int) -> bool:
    """Whether two workers run; a killed one is listed until it has ended."""
    return len({*node.children("worker")} - {killed}) == 2


async def test_kills_of_a_node_with_databases(tmp_path: Path) -> None:
    """SQ12: after a kill of the node or a worker, each database has every acknowledged write and no
    partial one."""
    chance = random.Random(KILLS)
    load = Load()
    for number in range(KILLS):
        with running_node(tmp_path, workers=2) as node:
            if number == 0:
                await load.host(node.url)
            await load.check(node.url)
            if number % 3 == 2:
                worker = node.children("worker")[0]
                await load.run(
                    node.url,
                    more=chance.randrange(5, 40),
                    kill=partial(os.kill, worker, signal.SIGKILL),
                )
                until(partial(_has_others, node, worker))
                await load.check(node.url)
            await load.run(node.url, more=chance.randrange(5, 60), kill=node.kill)
    with running_node(tmp_path, workers=2) as node:
        await load.check(node.url)
        await load.run(node.url, more=10, kill=lambda: None)
        await load.check(node.url)
        assert node.stop() == 0
    assert load.acknowledged > 10
    await check_files(tmp_path / "data", load)


async def check_files(data: Path, load: Load) -> None:
    """Compare the files with the usage of the space, and check their structure."""
    space = parse_space_id(load.space)
    size_bytes = 0
    for path in {writer.path for writer in load.writers}:
        file = file_of(DatabaseName(space, path).key)
        connection = apsw.Connection(str(data / DATABASES_FOLDER / file))
        assert connection.pragma("integrity_check") == "ok"
        size_bytes += connection.pragma("page_count") * connection.pragma("page_size")
        connection.close()
    store = open_lmdb(data)
    try:
        (usage,) = (await store.read([space_keys(space).usage])).records
        assert counter_of(usage) == size_bytes
    finally:
        await store.close()
