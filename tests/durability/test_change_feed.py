"""The change feed after a restore, where numbers are used again (CF8)."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from embedded_node import embedded_node
from engines import needs_folder
from kv_client import Owner
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
