"""A load on a node, with a record of the acknowledged writes.

A writer is a did:key with a space of its own, which it writes one request after the other. What it
wrote last is known but for the one request under way: after any crash each key shows either the
last acknowledged state or the one that was being written, whole.

Example:
    writers = [Writer(at) for at in range(16)]
    await asyncio.gather(*(writer.run(session, url, 40) for writer in writers))
    for writer in writers:
        await writer.check(session, url)
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from blake3 import blake3
from patience import PATIENCE_S
from running_node import Reply, RunningNode, exchange, key_token, new_key, wallet_token
from wire_replay import token_id

from capabilities.signatures import Ed25519Signer, WalletSigner
from sealspace.wallets import new_wallet
from spaces.values.value_bodies import INLINE_BYTES

GET, PUT, DELETE = (f"tinycloud.kv/{name}" for name in ("get", "put", "del"))
KEYS = 4
LARGE_BYTES = INLINE_BYTES + 20_000
"""A body of this size lies in a file."""

LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)
"""The errors that a caller gets if the node dies during a call."""


def state_of(name: str, number: int) -> bytes | None:
    """Return the state of a key after a numbered write: a unique body or nothing."""
    if number == 0 or number % 7 == 6:
        return None
    size_bytes = LARGE_BYTES if number % 5 == 0 else 200 + number % 50
    head = f"{name}:{number}:".encode()
    return head + blake3(head).digest(length=size_bytes - len(head))


def number_of(body: bytes) -> int:
    """Return the number of the write that made a body."""
    return int(body.partition(b"/kv/")[2].split(b":")[1])


@dataclass
class Writer:
    """One writer of a few keys.

    Attributes:
        index: names its keys.
        asked: number of the last write that was sent, for each key.
        acknowledged: number of the last write that was answered.
    """

    index: int
    signer: Ed25519Signer = field(default_factory=new_key)
    asked: list[int] = field(default_factory=lambda: [0] * KEYS)
    acknowledged: list[int] = field(default_factory=lambda: [0] * KEYS)
    count: int = 0

    @property
    def space(self) -> str:
        """Id of the writer's space."""
        return f"tinycloud:{self.signer.did.removeprefix('did:')}:default"

    def resource(self, at: int) -> str:
        """Resource of one of its keys."""
        return f"{self.space}/kv/key-{at}"

    async def invoke(
        self, session: aiohttp.ClientSession, url: str, at: int, ability: str, body: bytes | None
    ) -> Reply:
        """Send one call about one key."""
        token = key_token(self.signer, self.signer.did, {self.resource(at): [ability]})
        return await exchange(session, url, "POST", "/invoke", token=token, body=body)

    async def write(self, session: aiohttp.ClientSession, url: str) -> Reply:
        """Write the next state of the next key."""
        at = self.count % KEYS
        self.count += 1
        number = self.asked[at] + 1
        body = state_of(self.resource(at), number)
        self.asked[at] = number
        ability = DELETE if body is None else PUT
        reply = await self.invoke(session, url, at, ability, body)
        # nothing was there to be deleted
        if reply.status == 200 or (body is None and reply.status == 404):
            self.acknowledged[at] = number
        return reply

    async def run_until(
        self,
        session: aiohttp.ClientSession,
        url: str,
        ended: asyncio.Event,
        done: Callable[[], None],
    ) -> None:
        """Write until told to stop, or until the node is gone."""
        with suppress(*LOST):
            while not ended.is_set():
                reply = await self.write(session, url)
                assert reply.status in (200, 404, 503), reply.said  # 503: the outcome is not known
                done()

    async def check(self, session: aiohttp.ClientSession, url: str) -> int:
        """Compare every key with the acknowledged writes, and return the number of stored bytes."""
        kept_bytes = 0
        for at in range(KEYS):
            reply = await self.invoke(session, url, at, GET, None)
            allowed = {
                number: state_of(self.resource(at), number)
                for number in range(self.acknowledged[at], self.asked[at] + 1)
            }
            found = reply.body if reply.status == 200 else None
            assert reply.status in (200, 404), reply.said
            assert found in allowed.values(), (self.resource(at), reply.body[:100], list(allowed))
            if found is not None:
                assert reply.headers["etag"] == f'"blake3-{blake3(found).hexdigest()}"'
                kept_bytes += len(found)
            number = max(number for number, state in allowed.items() if state == found)
            self.asked[at] = self.acknowledged[at] = number
        return kept_bytes


@dataclass
class Granter:
    """An owner who grants and revokes, with a record of the acknowledged changes."""

    wallet: WalletSigner = field(default_factory=new_wallet)
    standing: dict[str, Ed25519Signer] = field(default_factory=dict)
    revoked: dict[str, Ed25519Signer] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """Id of the owner's space."""
        return f"tinycloud:{self.wallet.did.removeprefix('did:')}:default"

    @property
    def resource(self) -> str:
        """The resource of every grant; nothing is written there."""
        return f"{self.space}/kv/nothing"

    async def run_until(
        self,
        session: aiohttp.ClientSession,
        url: str,
        ended: asyncio.Event,
        done: Callable[[], None],
    ) -> None:
        """Grant to new keys and revoke every other grant, until told to stop or until the node is
        gone."""
        with suppress(*LOST):
            while not ended.is_set():
                await self.step(session, url)
                done()

    async def step(self, session: aiohttp.ClientSession, url: str) -> None:
        """Grant to a new key, and revoke an earlier grant."""
        key = new_key()
        grant = wallet_token(self.wallet, key.did, {self.resource: [GET, PUT]})
        if (await exchange(session, url, "POST", "/delegate", token=grant)).status != 200:
            return
        self.standing[grant] = key
        if len(self.standing) % 2 == 0:
            await self.revoke(session, url, grant)

    async def revoke(self, session: aiohttp.ClientSession, url: str, grant: str) -> None:
        """Revoke a grant. Until the acknowledgement it counts neither as live nor as revoked."""
        key = self.standing.pop(grant)
        # The delegate may give back what it was given; the owner's wallet is spared.
        target = {f"urn:cid:{token_id(grant)}": ["tinycloud.delegation/revoke"]}
        token = key_token(key, key.did, target)
        if (await exchange(session, url, "POST", "/revoke", token=token)).status == 200:
            self.revoked[grant] = key

    async def use(
        self, session: aiohttp.ClientSession, url: str, grant: str, key: Ed25519Signer
    ) -> Reply:
        """Use a grant for a read."""
        token = key_token(key, key.did, {self.resource: [GET]}, proofs=[grant])
        return await exchange(session, url, "POST", "/invoke", token=token)

    async def check(self, session: aiohttp.ClientSession, url: str, *, most: int = 40) -> None:
        """Use the newest grants: live ones work, and revoked ones do not."""
        for grants, expected in ((self.standing, 404), (self.revoked, 401)):
            for grant, key in list(grants.items())[-most:]:
                reply = await self.use(session, url, grant, key)
                assert reply.status == expected, reply.said


async def ask_any_node(node: RunningNode, token: str) -> tuple[int, int]:
    """Invoke on a connection of its own; return the status, and the process id of the worker that
    answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
    try:
        head = (
            f"POST /invoke HTTP/1.1\r\nHost: node\r\nAuthorization: {token}\r\nContent-Length:"
            " 0\r\n\r\n"
        )
        writer.write(head.encode())
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        return status, _holder(
            node, writer.get_extra_info("sockname")[1], int(node.url.rpartition(":")[2])
        )
    finally:
        writer.close()


def _holder(node: RunningNode, client_port: int, node_port: int) -> int:
    """Return the worker that holds the node's end of a connection, by the kernel's table of
    sockets."""
    ends = f":{node_port:04X}", f":{client_port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # The table is read in pieces, while connections come and go: a row may be in two of them.
    (inode,) = {row[9] for row in rows if (row[1][-5:], row[2][-5:]) == ends}
    for pid in node.children("worker"):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("no worker holds the connection")


def new_session(*, connections: int = 16, keeps: bool = True) -> aiohttp.ClientSession:
    """Return a session that keeps its connections, or makes one per request for any worker."""
    connector = aiohttp.TCPConnector(limit=connections, force_close=not keeps)
    return aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)
    )


async def side_by_side(tasks: Sequence[Awaitable[object]]) -> None:
    """Run tasks concurrently; the first failure cancels all."""
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(_run(task))


async def _run(task: Awaitable[object]) -> None:
    await task
