"""The change feed after a restore, where numbers are used again, and while processes are killed."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from durability.load import LOST, new_session
from embedded_node import embedded_node
from engines import needs_folder
from kv_client import Owner, etag
from patience import PATIENCE_S
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
    """A writer and a reader of one space, who continue while processes of the node are killed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.signer = new_key()
        self.values: dict[str, bytes | None] = {}
        self.copy: dict[str, str] = {}
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
                        session, self.url, "POST", "/invoke", token=token, **more
                    )
                    if reply.status != 503:  # the outcome of a write is not known
                        return reply
                await asyncio.sleep(0)

    async def write(self, session: aiohttp.ClientSession, count: int) -> None:
        """Write and delete values, one after the other."""
        for at in range(count):
            path = f"notes/{at % 9}"
            body = b"%d" % at if at % 4 or path not in self.values else None
            name = "del" if body is None else "put"
            assert (await self.ask(session, name, path, body=body)).status == 200
            self.values[path] = body
            self.writes += 1

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
        self.cursor = page["cursor"]
        self.pages += 1
        more: bool = page["more"]
        return more


async def test_CF3_a_reader_across_kills(tmp_path: Path) -> None:
    """A reader of two workers, of which one is killed like the process that writes the store,
    misses nothing, and is never told to start again."""
    with running_node(tmp_path, workers=2) as node:
        parties = Parties(node.url)
        async with new_session() as session:
            await parties.write(session, 4)
            for kind in ("storekeeper", "worker", "storekeeper"):
                writing = asyncio.create_task(parties.write(session, 40))
                aim = parties.writes + 15
                async with asyncio.timeout(PATIENCE_S):
                    while parties.writes < aim:
                        await parties.read(session)
                os.kill(node.children(kind)[0], signal.SIGKILL)
                while not writing.done():
                    await parties.read(session)
                await writing
            while await parties.read(session):
                pass
        assert node.stop() == 0
    expected = {
        path: etag(body) for path, body in sorted(parties.values.items()) if body is not None
    }
    assert parties.copy == expected
    assert parties.pages > 20
