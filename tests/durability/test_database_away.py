"""Tests of a database that stops, is killed or loses sessions during commits, under a running
node."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from durability.load import PUT, Granter, Writer, new_session
from patience import PATIENCE_S
from postgres_server import PostgresServer, needs_postgres, new_server
from running_node import Reply, RunningNode, exchange, key_token, new_key, running_node, send

pytestmark = [needs_postgres(), pytest.mark.slow]

WRITERS = 8
ANSWERS_BETWEEN = 60
TERMINATIONS = 12
_WITHIN_S = PATIENCE_S
# Commits run into a lock; those that wait for it lose their sessions in the middle.
_TERMINATE = """
begin;
lock table sealspace_map in exclusive mode;
do $$ begin
    while not exists (
        select 1 from pg_stat_activity
        where application_name = 'sealspace' and wait_event_type = 'Lock'
    ) loop perform pg_stat_clear_snapshot(); end loop;
end $$;
select count(pg_terminate_backend(pid)) from pg_stat_activity
    where application_name = 'sealspace' and wait_event_type = 'Lock';
commit;
"""


class Load:
    """Writers and a granter that continue after any answer, with counts of the answers."""

    def __init__(self, node: RunningNode) -> None:
        self.node = node
        self.parties: list[Writer | Granter] = [*(Writer(at) for at in range(WRITERS)), Granter()]
        self.done = 0
        self._changed = asyncio.Event()

    def _noted(self) -> None:
        self.done += 1
        self._changed.set()

    async def answers(self, number: int) -> None:
        """Wait until the given number of further answers has arrived."""
        aim = self.done + number
        async with asyncio.timeout(_WITHIN_S):
            while self.done < aim:
                self._changed.clear()
                await self._changed.wait()

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged writes."""
        return sum(sum(party.acknowledged) for party in self.parties if isinstance(party, Writer))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Load the node while the block runs, then compare its contents with the acknowledged
        writes."""
        ended = asyncio.Event()
        async with new_session() as session:
            tasks = [
                asyncio.create_task(party.run_until(session, self.node.url, ended, self._noted))
                for party in self.parties
            ]
            try:
                yield session
            finally:
                ended.set()
                await asyncio.gather(*tasks)
            for party in self.parties:
                await party.check(session, self.node.url)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    server = new_server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def database(server: PostgresServer) -> str:
    """Name of an empty database on it."""
    return server.new_database().partition("@/")[2].partition("?")[0]


@pytest.fixture
def node(tmp_path: Path, server: PostgresServer, database: str) -> Iterator[RunningNode]:
    """A node with two workers on that server."""
    with running_node(tmp_path, "--store", server.url(database)) as node:
        yield node


async def put(session: aiohttp.ClientSession, url: str) -> Reply:
    """Put a value for a new owner."""
    key = new_key()
    resource = f"tinycloud:{key.did.removeprefix('did:')}:default/kv/a"
    token = key_token(key, key.did, {resource: [PUT]})
    return await exchange(session, url, "POST", "/invoke", token=token, body=b"value")


async def is_ready(node: RunningNode) -> bool:
    reply = await send(node.url, "GET", "/readyz")
    said = json.loads(reply.body)
    assert (reply.status == 200) is said["ready"]
    return bool(said["ready"])


async def until_ready(node: RunningNode) -> None:
    """Send requests until the node is ready again."""
    async with asyncio.timeout(_WITHIN_S):
        while not await is_ready(node):
            pass


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_database_that_goes_away_under_load(
    node: RunningNode, server: PostgresServer, way: str
) -> None:
    """A node whose database stops twice under load answers 503 meanwhile and recovers without
    losing a write."""
    load = Load(node)
    async with load.running() as session:
        for _ in range(2):
            await load.answers(ANSWERS_BETWEEN)
            await asyncio.to_thread(getattr(server, way))
            reply = await put(session, node.url)
            assert (reply.status, reply.headers.get("retry-after")) == (503, "1")
            assert not await is_ready(node)
            await asyncio.to_thread(server.start)
            await until_ready(node)
            before = load.acknowledged
            await load.answers(ANSWERS_BETWEEN)
            assert load.acknowledged > before
    assert node.stop() == 0


async def test_sessions_that_are_ended_in_the_middle_of_commits(
    node: RunningNode, server: PostgresServer, database: str
) -> None:
    """If the database ends busy sessions, each write happens once or is reported as unknown."""
    load, ended = Load(node), 0
    async with load.running():
        for _ in range(TERMINATIONS):
            await load.answers(10)
            ended += int(await asyncio.to_thread(server.run, database, _TERMINATE))
    assert ended >= TERMINATIONS
    assert load.acknowledged > 0
    assert await is_ready(node)


async def test_node_that_starts_without_its_database(
    tmp_path: Path, server: PostgresServer, database: str
) -> None:
    """A node whose database is down does not start, and its log omits the database's address."""
    url = server.url(database)
    server.stop()
    node = RunningNode(tmp_path, "--store", url, "--workers", "1")
    try:
        assert "StoreUnavailable" in node.wait_for(".*worker-failed.*").group(0)
        node.wait_for("^sealspace: the worker-0 exited 3 times")
        assert await asyncio.to_thread(node.process.wait, _WITHIN_S) == 1
        assert url not in "\n".join(node.lines)
    finally:
        node.close()
