"""The change feed after a restore, where numbers are used again, and while processes are killed."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from durability.load import LOST, new_session
from embedded_node import embedded_node
from engines import needs_folder
from kv_client import Owner, etag
from patience import PATIENCE_S
from postgres_server import needs_postgres, new_server
from running_node import Reply, exchange, key_token, new_key, running_node
from tests_support import FixedClock

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import Ed25519Signer
from node.config.tree import Config, Http, Store
from sealspace.cli.root import main

pytestmark = [pytest.mark.slow]

_UNKNOWN = '{"error":{"code":"RESET_REQUIRED","reason":"position-unknown"}}'


class Reader:
    """An owner with a copy of the values below `notes`, and the cursor of the last page."""

    def __init__(self) -> None:
        self.signer = Ed25519Signer(b"\x07" * 32)
        # The commands use the system's clock.
        self.clock = FixedClock(SystemClock.now())
        self.cursor: str | None = None

    @asynccontextmanager
    async def on(self, folder: Path) -> AsyncIterator[Owner]:
        """Run a node on a data folder, and call it as the owner."""
        config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(folder)))
        async with (
            embedded_node(config, clock=self.clock) as node,
            aiohttp.ClientSession() as session,
        ):
            owner = Owner(node, session, self.clock)
            owner.signer = self.signer
            yield owner

    async def read(self, owner: Owner) -> tuple[int, str]:
        """Read the next page. Return its status, and its keys or the refusal."""
        headers = {} if self.cursor is None else {"x-tinycloud-cursor": self.cursor}
        reply = await owner.invoke(("sync", "notes"), headers=headers)
        if reply.status != 200:
            return reply.status, reply.text
        page = json.loads(reply.body)
        self.cursor = page["cursor"]
        return 200, " ".join(one["key"] for one in page["changes"])


@needs_folder()
def test_CF8_a_restored_store(tmp_path: Path) -> None:
    """A reader who has seen changes that a backup lacks has to start again, although their numbers
    are used again; one who has not, continues."""
    first, again, backup = tmp_path / "first", tmp_path / "again", str(tmp_path / "backup")
    ahead, behind = Reader(), Reader()
    behind.clock = ahead.clock

    async def begin() -> None:
        async with ahead.on(first) as owner:
            for name in "ab":
                await owner.put(f"notes/{name}", b"1")
            await owner.invoke(("del", "notes/a"))
            assert await behind.read(owner) == (200, "notes/b")

    async def write_more() -> None:
        async with ahead.on(first) as owner:
            await owner.put("notes/c", b"lost")
            assert await ahead.read(owner) == (200, "notes/b notes/c")

    async def go_on() -> None:
        ahead.clock.advance(86_400)
        async with ahead.on(again) as owner:
            assert await ahead.read(owner) == (410, _UNKNOWN)
            await owner.put("notes/d", b"1")
            await owner.put("notes/e", b"1")
            assert await ahead.read(owner) == (410, _UNKNOWN)
            assert await behind.read(owner) == (200, "notes/d notes/e")

    asyncio.run(begin())
    assert main(["admin", "backup", "--data", str(first), backup]) == 0
    asyncio.run(write_more())
    assert main(["admin", "restore", "--data", str(again), backup]) == 0
    shutil.copy(first / "secret", again / "secret")
    assert main(["admin", "check", "--data", str(again)]) == 0
    first.rename(tmp_path / "former")
    asyncio.run(go_on())


class Parties:
    """Writers and a reader of one space, who continue while processes are killed.

    They call the nodes in turns.
    """

    def __init__(self, *urls: str) -> None:
        self.urls = cycle(urls)
        self.signer = new_key()
        self.values: dict[str, bytes | None] = {}
        self.copy: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.latest: dict[str, int] = {}
        self.cursor: str | None = None
        self.pages = 0
        self.writes = 0

    async def ask(self, session: aiohttp.ClientSession, name: str, path: str, **more: Any) -> Reply:
        """Send a call until it is answered; a call that was lost is sent with another token."""
        resource = f"tinycloud:{self.signer.did.removeprefix('did:')}:default/kv/{path}"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                token = key_token(
                    self.signer, self.signer.did, {resource: [f"tinycloud.kv/{name}"]}
                )
                with suppress(*LOST):
                    reply = await exchange(
                        session, next(self.urls), "POST", "/invoke", token=token, **more
                    )
                    if reply.status != 503:  # the outcome of a write is not known
                        return reply
                await asyncio.sleep(0)

    async def write(self, session: aiohttp.ClientSession, count: int, *, writer: str = "w") -> None:
        """Write and delete numbered values of a writer's own, one after the other."""
        for at in range(count):
            path = f"notes/{writer}{at % 9}"
            body = b"%d" % self.writes if at % 4 or path not in self.values else None
            if body is not None:
                self.numbers[etag(body)] = self.writes
            self.writes += 1
            name = "del" if body is None else "put"
            assert (await self.ask(session, name, path, body=body)).status == 200
            self.values[path] = body

    async def read(self, session: aiohttp.ClientSession) -> bool:
        """Read a page, and return whether more follows."""
        headers = {"x-tinycloud-limit": "3"}
        if self.cursor is not None:
            headers["x-tinycloud-cursor"] = self.cursor
        reply = await self.ask(session, "sync", "notes", headers=headers)
        assert reply.status == 200, reply.text
        page = json.loads(reply.body)
        for change in page["changes"]:
            if change["deleted"]:
                self.copy.pop(change["key"], None)
            else:
                self.copy[change["key"]] = change["etag"]
                number = self.numbers[change["etag"]]
                assert number >= self.latest.get(change["key"], 0), "an older value came later"
                self.latest[change["key"]] = number
        self.cursor = page["cursor"]
        self.pages += 1
        more: bool = page["more"]
        return more

    def compare(self) -> None:
        """Compare the reader's copy with what was written."""
        expected: dict[str, str] = {}
        for path, body in self.values.items():
            if body is not None:
                expected[path] = etag(body)
        assert self.copy == expected
        assert self.pages > 20

    async def read_beside(
        self, session: aiohttp.ClientSession, *writers: str, kill: Callable[[], None]
    ) -> None:
        """Read while writers write, of whom none is done when something is killed."""
        writing = [
            asyncio.create_task(self.write(session, 40, writer=writer)) for writer in writers
        ]
        aim = self.writes + 15
        async with asyncio.timeout(PATIENCE_S):
            while self.writes < aim:
                await self.read(session)
        kill()
        while not all(task.done() for task in writing):
            await self.read(session)
        await asyncio.gather(*writing)


async def test_CF3_a_reader_across_kills(tmp_path: Path) -> None:
    """A reader of two workers, of which one is killed like the process that writes the store,
    misses nothing, and is never told to start again."""
    with running_node(tmp_path, workers=2) as node:
        parties = Parties(node.url)
        async with new_session() as session:
            await parties.write(session, 4)
            for kind in ("storekeeper", "worker", "storekeeper"):
                kill = partial(os.kill, node.children(kind)[0], signal.SIGKILL)
                await parties.read_beside(session, "w", kill=kill)
            while await parties.read(session):
                pass
        assert node.stop() == 0
    parties.compare()


@needs_postgres()
async def test_CF3_a_reader_of_two_nodes_across_kills(tmp_path: Path) -> None:
    """A reader who calls two nodes on one database in turns misses nothing and sees no value go
    back, while a worker of each node is killed, and then the database."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    server = new_server()
    server.start()
    with ExitStack() as running:
        running.callback(server.kill)
        arguments = ("--store", server.new_database(), "--secret-file", str(secret))
        nodes = [
            running.enter_context(running_node(tmp_path / name, *arguments, workers=1))
            for name in ("one", "two")
        ]
        parties = Parties(*[node.url for node in nodes])

        def restart_database() -> None:
            server.kill()
            server.start()

        async with new_session() as session:
            await parties.write(session, 4)
            for node in nodes:
                kill = partial(os.kill, node.children("worker")[0], signal.SIGKILL)
                await parties.read_beside(session, "a", "b", "c", kill=kill)
            await parties.read_beside(session, "a", "b", "c", kill=restart_database)
            while await parties.read(session):
                pass
        for node in nodes:
            assert node.stop() == 0
    parties.compare()
