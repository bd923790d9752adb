"""Local copies whose process is killed at any moment, and random histories of values."""

import asyncio
import json
import os
import random
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE_S
from relay import Answer, relay_before
from tests_support import OUR_IMPORTS

from sealspace.client import Client
from sealspace.errors import NotFound, ReplicaIncomplete
from sealspace.kv import Kv
from sealspace.session import key_session
from sealspace.wire.transport import TransportSettings

SEED = b"\x11" * 32
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
FOLLOWER = """
import asyncio, json, sys
from pathlib import Path
from sealspace.client import Client
from sealspace.session import key_session

class Clock:
    def now(self):
        return given["now"]

async def follow():
    session = key_session(bytes.fromhex(given["seed"]))
    async with Client(given["url"], session=session, clock=Clock()) as client:
        async with client.replica(given["folder"], "notes", space="feed", limit=3) as replica:
            while True:
                counts = await replica.sync()
                print(counts.written, flush=True)

given = json.loads(sys.argv[1])
asyncio.run(follow())
"""


@pytest.fixture
async def kv(bench: Any) -> Kv:
    """The values of an owner without a wallet."""
    client: Client = await bench.client(key_session(SEED))
    kv = client.kv("feed")
    await kv.put("notes/first", b"1")
    return kv


async def stored(kv: Kv) -> dict[str, bytes]:
    """Return the keys and values below `notes` at the node."""
    keys = [key async for key in kv.list("notes")]
    return {key: value.body for key, value in (await kv.get_many(keys)).items()}


async def copied(client: Client, folder: Path) -> dict[str, bytes]:
    """Bring a copy up to date, and return its keys and values."""
    async with client.replica(folder, "notes", space="feed", limit=3) as replica:
        assert (await replica.sync()).missing == 0
        return read(replica)


def read(replica: Any) -> dict[str, bytes]:
    """Return the keys and values of a copy, without those that are missing."""
    found = {}
    for key in replica.list():
        with suppress(ReplicaIncomplete):
            found[key] = replica.get(key).body
    return found


@pytest.mark.slow
async def test_RP3_a_process_that_is_killed(bench: Any, kv: Kv, tmp_path: Path) -> None:
    """Whenever the process of a copy is killed, the copy opens, has only values that were written,
    and continues."""
    folder = tmp_path / "copy"
    client: Client = await bench.client(key_session(SEED))
    chance = random.Random(7)
    written = {"notes/first": {b"1"}}
    given = {
        "url": bench.node.url,
        "folder": str(folder),
        "seed": SEED.hex(),
        "now": bench.clock.now(),
    }
    for life in range(8):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FOLLOWER, json.dumps(given),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, **OUR_IMPORTS},
        )  # fmt: skip
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        for number in range(chance.randrange(1, 25)):
            key = f"notes/{chance.randrange(9)}"
            body = b"%d %d " % (life, number) * chance.randrange(1, 9000)
            written.setdefault(key, set()).add(body)
            await kv.put(key, body)
        process.kill()
        await process.wait()
        async with client.replica(folder, "notes", space="feed") as replica:
            for key, body in read(replica).items():
                assert body in written[key]
    assert await copied(client, folder) == await stored(kv)


class Kills:
    """A line to the node on which a copy's files are taken while a page is being written.

    Attributes:
        folder: the files to take; None: nothing is taken.
        left: where they are put.
    """

    def __init__(self, folder: Path, left: Path) -> None:
        self.folder = folder
        self.left = left
        self.is_due = False

    async def hold(self, request: web.Request) -> None:
        """Take the files before a request for values is passed on."""
        if self.is_due and "x-tinycloud-limit" not in request.headers:
            self.is_due = False
            shutil.copytree(self.folder, self.left)


@pytest.mark.parametrize("seed", [1, 2, None])
async def test_RP3_random_histories(bench: Any, kv: Kv, tmp_path: Path, seed: int | None) -> None:
    """After any writes, deletes, rewrites, resets, runs and kills, a run makes the copy equal to
    the store."""
    seed = secrets.randbits(32) if seed is None else seed
    chance = random.Random(seed)
    kills = Kills(tmp_path / "copy", tmp_path / "left")
    resets = 0

    def twist(answer: Answer) -> None:
        nonlocal resets
        if resets and b'"changes"' in answer.body[:20]:
            resets -= 1
            answer.status, answer.body = 410, b"{}"

    async with (
        relay_before(bench.node.url) as relay,
        Client(
            relay.url, session=key_session(SEED), settings=SETTINGS, clock=bench.clock
        ) as client,
    ):
        relay.hold, relay.twist = kills.hold, twist
        await copied(client, kills.folder)
        for _ in range(50):
            key = f"notes/{chance.randrange(6)}"
            step = chance.choice(["put", "put", "same", "delete", "many", "run", "kill", "reset"])
            if step == "put":
                await kv.put(key, chance.randbytes(chance.randrange(20_000)))
            elif step == "same":
                await kv.put(key, b"the same", metadata={"n": str(chance.random())})
            elif step == "delete":
                with suppress(NotFound):
                    await kv.delete(key)
            elif step == "many":
                await kv.put_many({f"notes/{at}": chance.randbytes(9) for at in range(5)})
            else:
                kills.is_due = step == "kill"
                resets = int(step == "reset")
                assert await copied(client, kills.folder) == await stored(kv), f"seed {seed}"
                kills.is_due, resets = False, 0
                if kills.left.exists():
                    shutil.rmtree(kills.folder)
                    kills.left.rename(kills.folder)
        assert await copied(client, kills.folder) == await stored(kv), f"seed {seed}"
