"""A door on loopback at a node in this process, and callers of it.

Example:
    async with door_bench(tmp_path) as bench:
        owner, _ = await bench.owner()
        async with open_door(bench, owner, "secret=flat") as door:
            reply = await door.get("secret/data/API_KEY")
            hvac_client = door.hvac()
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from embedded_node import EmbeddedNode, embedded_node
from patience import PATIENCE_S
from relay import Relay
from running_node import Reply, send
from tests_support import CountingEntropy, FixedClock

from capabilities.principals import Principal
from capabilities.signatures import WalletSigner
from door.cache import Cache
from door.door import Door
from door.mounts import mounts_of
from node.config.tree import Config, Http, Limits, Oidc, Store
from sealspace.client import Client
from sealspace.service.listening_socket import bind_socket, url_of
from sealspace.session import Session
from sealspace.wallets import new_wallet
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import TransportSettings
from serving.listener import LIST_METHOD, ConnectionLimits, listening

Done = TypeVar("Done")
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass
class DoorBench:
    """A node, and any number of clients, which share one clock."""

    node: EmbeddedNode
    clock: FixedClock
    entropy: CountingEntropy
    clients: AsyncExitStack

    async def client(self, session: Session | None = None, *, url: str | None = None) -> Client:
        client = Client(
            url or self.node.url,
            session=session,
            settings=SETTINGS,
            clock=self.clock,
            entropy=self.entropy,
        )
        return await self.clients.enter_async_context(client)

    async def owner(self) -> tuple[Client, WalletSigner]:
        """Sign a new owner in, who has no secrets."""
        client, wallet = await self.client(), new_wallet(entropy=self.entropy)
        await client.sign_in(wallet)
        return client, wallet

    async def machine(self, *names: str, **values: str) -> tuple[Client, str]:
        """Store secrets, and return a client and the line of a machine token for some of them."""
        owner, wallet = await self.owner()
        await owner.secrets().put_many(values)
        line = await owner.delegations.create_token("deploy", names, wallet=wallet)
        return await self.client(read_token(line)), line


@asynccontextmanager
async def door_bench(folder: Path, *, limits: Limits | None = None) -> AsyncIterator[DoorBench]:
    """Start a node; it is stopped after the block."""
    clock = FixedClock()
    entropy = CountingEntropy()
    config = Config(
        http=Http(port=0, drain_s=0),
        store=Store(data=str(folder / "data")),
        oidc=Oidc(),
        limits=limits or Limits(),
    )
    async with (
        embedded_node(config, clock=clock, entropy=entropy) as node,
        AsyncExitStack() as clients,
    ):
        yield DoorBench(node, clock, entropy, clients)


@dataclass(frozen=True)
class DoorCaller:
    """A caller of a door.

    Attributes:
        url: the door's address.
        token: the caller's token; None: it has none.
    """

    url: str
    token: str | None

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request for a path below /v1/."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("X-Vault-Token", self.token)
        data = None if body is None else json.dumps(body).encode()
        return await send(self.url, method, f"/v1/{path}", headers=sent, body=data)

    async def get(self, path: str, **headers: str) -> Reply:
        """Read a path."""
        return await self.send("GET", path, headers=headers)

    async def data(self, path: str) -> Any:
        """Return the data of a path that can be read."""
        reply = await self.get(path)
        assert reply.status == 200, reply
        return reply.reported["data"]

    async def log_in(self, method: str, **body: str) -> "DoorCaller":
        """Log in, and return the caller with its token."""
        reply = await self.send("POST", f"auth/{method}/login", body)
        assert reply.status == 200, reply
        return replace(self, token=reply.reported["auth"]["client_token"])

    def hvac(self) -> Any:
        """Return a client of Vault with the caller's token."""
        hvac = pytest.importorskip("hvac", reason="hvac is not installed: pip install hvac")
        return hvac.Client(url=self.url, token=self.token)

    async def raw(self, text: str) -> bytes:
        """Send bytes as they are, and return the answer.

        The connection is closed after the answer. A server that refused a body keeps the connection
        open for some seconds more, to discard what the client still sends.
        """
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(text.encode("latin-1"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = await reader.readline()
            if not line:  # the connection ended
                break
            head += line
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", head)
        body = b""
        if length is not None and not text.startswith("HEAD "):
            body = await reader.readexactly(int(length[1]))
        writer.close()
        return head + body


@asynccontextmanager
async def open_door(
    bench: DoorBench,
    client: Client,
    *mounts: str,
    fresh_s: float = 0,
    stale_s: float = 0,
    roles: Mapping[str, str] | None = None,
    has_own_grant: bool = True,
    is_writable: bool = False,
    more_grants: int = 0,
    allowed: Set[Principal] = frozenset(),
    max_connections: int = 640,
) -> AsyncIterator[DoorCaller]:
    """Serve a door until the block ends, and yield a caller with its own token.

    `more_grants` is a number of further tokens for the door's own session. The header `X-Client`
    of a request is the address by which the door counts its client.
    """
    door = Door(
        client,
        mounts_of(mounts or ("secret=flat",)),
        cache=Cache(fresh_s=fresh_s, stale_s=stale_s, clock=bench.clock),
        roles=roles or {},
        clock=bench.clock,
        entropy=bench.entropy,
        allowed=allowed,
        is_writable=is_writable,
    )
    for _ in range(more_grants):
        door.add_own_grant()
    bound = bind_socket("127.0.0.1", 0)
    # The kernel keeps little of an answer, so the door waits for clients that do not read.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    url = url_of(bound)
    app = door.application(
        list_method=LIST_METHOD,
        own_host="127.0.0.1",
        client_of=lambda request: request.headers.get("X-Client"),
    )
    limits = ConnectionLimits(max_connections=max_connections)
    async with listening(app, bound, limits, reads_list=True):
        yield DoorCaller(url, door.add_own_grant() if has_own_grant else None)


class LateRequest:
    """A request to the node that a relay holds back until `passes` is set.

    It is the request with the given number among those with a path that ends so.
    """

    def __init__(self, relay: Relay, ending: str, number: int = 1) -> None:
        self.is_there = asyncio.Event()
        self.passes = asyncio.Event()
        self._ending = ending
        self._left = number
        relay.hold = self._hold

    async def _hold(self, request: web.Request) -> None:
        if not request.path.endswith(self._ending):
            return
        self._left -= 1
        if self._left == 0:
            self.is_there.set()
            await self.passes.wait()


async def blocking(call: Callable[..., Done], *arguments: Any, **named: Any) -> Done:
    """Make a call of a blocking client in a thread."""
    return await asyncio.to_thread(call, *arguments, **named)
