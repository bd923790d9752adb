"""Users who call a node in this process, with any settings, on a folder that the test provides."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from conformance.minting import Grants, key_token
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from patience import PATIENCE_S
from running_node import Reply
from tests_support import CountingEntropy, FixedClock
from wire_replay import token_id
from yarl import URL

from capabilities.signatures import Ed25519Signer
from node.config.tree import Config, Http

_COUNT = itertools.count()


class Serving:
    """A running node: `owner` has spaces on it, `friend` may get grants, `other` has nothing."""

    def __init__(
        self, node: EmbeddedNode, session: aiohttp.ClientSession, clock: FixedClock
    ) -> None:
        self.node = node
        self.clock = clock
        self._session = session
        self.owner, self.friend, self.other = (
            Ed25519Signer(bytes([fill]) * 32) for fill in (0x61, 0x62, 0x63)
        )

    def space(self, name: str = "default", owner: Ed25519Signer | None = None) -> str:
        """Return the id of a space, by default one of the owner's."""
        return f"tinycloud:{(owner or self.owner).did.removeprefix('did:')}:{name}"

    def kv(self, path: str, name: str = "default") -> str:
        """Return the resource of a value of the owner's."""
        return f"{self.space(name)}/kv/{path}"

    def token(
        self,
        grants: Grants,
        *,
        signer: Ed25519Signer | None = None,
        audience: str | None = None,
        proofs: Sequence[str] = (),
        lifetime_s: float = 60,
    ) -> str:
        """Return a delegation or an invocation, by default the owner's; `proofs` are tokens."""
        signer = signer or self.owner
        return key_token(
            signer,
            audience=audience or signer.did,
            grants=grants,
            expires_at=self.clock.now() + lifetime_s,
            proofs=[token_id(proof) for proof in proofs],
            nonce=f"serving{next(_COUNT)}",
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        **headers: str,
    ) -> Reply:
        """Send a request. Header names have underscores for hyphens; there is no content type
        unless one is given."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = token
        skipped = () if "content-type" in sent else ("Content-Type",)
        url = URL(self.node.url + path, encoded=True)
        async with self._session.request(
            method, url, headers=sent, data=body, skip_auto_headers=skipped, allow_redirects=False
        ) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, named, await answer.read())

    async def json(self, method: str, path: str, body: bytes, *, token: str | None = None) -> Reply:
        """Send a request with a JSON body."""
        return await self.send(
            method, path, token=token, body=body, content_type="application/json"
        )

    async def put(self, path: str, body: bytes, *, name: str = "default", **headers: str) -> Reply:
        """Write a value to one of the owner's spaces; this hosts the space."""
        token = self.token({self.kv(path, name): ["tinycloud.kv/put"]})
        return await self.send("POST", "/invoke", token=token, body=body, **headers)

    async def delegate(self, token: str) -> Reply:
        """Register a delegation."""
        return await self.send("POST", "/delegate", token=token)


Serve = Callable[..., AbstractAsyncContextManager[Serving]]
"""A function that runs a node with some sections of the settings."""


def serve_at(folder: Path, clock: FixedClock) -> Serve:
    """Return a function that runs a node with some settings, always on the same folder."""

    @asynccontextmanager
    async def run(**sections: object) -> AsyncIterator[Serving]:
        settings: Mapping[str, object] = {"http": Http(port=0, drain_s=0), **sections}
        config = Config(store=store_at(folder / "data"), **settings)  # type: ignore[arg-type]  # by name
        async with embedded_node(config, clock=clock) as node, aiohttp.ClientSession() as session:
            yield Serving(node, session, clock)

    return run


@contextmanager
def node_in_a_thread(config: Config, clock: FixedClock) -> Iterator[EmbeddedNode]:
    """Run a node for tests that block, such as those of Hypothesis."""
    is_up, made, loops = threading.Event(), list[EmbeddedNode](), []

    async def run() -> None:
        stop = asyncio.Event()
        async with embedded_node(config, clock=clock, entropy=CountingEntropy()) as node:
            made.append(node)
            loops.append((asyncio.get_running_loop(), stop))
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert is_up.wait(PATIENCE_S)
    loop, stop = loops[0]
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
