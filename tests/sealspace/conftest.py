"""A real node on loopback, a platform it trusts, and clients on it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from patience import PATIENCE_S
from tests_support import CountingEntropy, FixedClock
from trust_settings import trusting_config

from node.config.tree import Config, Hosting
from sealspace.client import Client, SignIn
from sealspace.session import Session
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass
class Bench:
    """A node, its platform and any number of clients, which all share one clock."""

    node: EmbeddedNode
    platform: SimulatedPlatform
    clock: FixedClock
    entropy: CountingEntropy
    clients: AsyncExitStack

    async def client(
        self, session: Session | None = None, *, pinned_node: str | None = None
    ) -> Client:
        client = Client(
            self.node.url,
            session=session,
            pinned_node=pinned_node,
            settings=SETTINGS,
            clock=self.clock,
            entropy=self.entropy,
        )
        return await self.clients.enter_async_context(client)

    async def owner(self, asked: SignIn | None = None) -> tuple[Client, "CountingWallet"]:
        """Sign a new owner in."""
        client, wallet = await self.client(), CountingWallet(self.entropy)
        await client.sign_in(wallet, asked)
        return client, wallet


class CountingWallet:
    """A wallet that counts its signatures."""

    def __init__(self, entropy: CountingEntropy) -> None:
        self._signer = new_wallet(entropy=entropy)
        self.address, self.chain_id, self.did = (
            self._signer.address,
            self._signer.chain_id,
            self._signer.did,
        )
        self.signatures = 0

    def sign_eip191(self, text: str) -> bytes:
        self.signatures += 1
        return self._signer.sign_eip191(text)


@pytest.fixture
def platform(entropy: CountingEntropy) -> SimulatedPlatform:
    """A simulated platform with its own root certificate."""
    return SimulatedPlatform.from_seed(entropy.token(32))


@pytest.fixture
def config(tmp_path: Path, platform: SimulatedPlatform, clock: FixedClock) -> Config:
    """Settings of a node that trusts the platform."""
    return trusting_config(tmp_path, platform, published_at=clock.now())


@pytest.fixture
async def bench_with(
    platform: SimulatedPlatform, clock: FixedClock, entropy: CountingEntropy
) -> AsyncIterator[Callable[[Config], Awaitable[Bench]]]:
    """Start a node with given settings. It is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(config: Config) -> Bench:
            node = await stack.enter_async_context(
                embedded_node(config, clock=clock, entropy=entropy)
            )
            clients = await stack.enter_async_context(AsyncExitStack())
            return Bench(node, platform, clock, entropy, clients)

        yield start


@pytest.fixture
async def bench(bench_with: Callable[[Config], Awaitable[Bench]], config: Config) -> Bench:
    """A node with default settings."""
    return await bench_with(config)


@pytest.fixture
async def strict_bench(bench_with: Callable[[Config], Awaitable[Bench]], config: Config) -> Bench:
    """A node that hosts spaces only on the owner's request."""
    return await bench_with(
        Config(
            http=config.http,
            store=config.store,
            release=config.release,
            hosting=Hosting(mode="explicit"),
        )
    )
