"""A backend whose node has to fetch collateral first: it retries by itself, for a limited time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from patience import PATIENCE_S
from simulators.pcs import CERTIFICATES, TCB, PcsSimulator, pcs_on_loopback
from tests_support import CountingEntropy, FixedClock

from encryption_network.policy import Policy
from node.config.tree import Collateral, Config, Http, Release
from node.operations.attestation.refresh_collateral import ASK_AGAIN_S, fetch_due
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import AttestationRefused, NodeFailure
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of
from tee_backend.evidence.source import Quoted

APPROVED = measurements_of("approved")
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, backoff_s=0)  # as many tries as programs make
SEED = bytes(range(32))


@dataclass
class Source:
    """A trust domain that records what its quotes were made for."""

    platform: SimulatedPlatform
    asked: list[bytes] = field(default_factory=list)

    def quote(self, data: bytes) -> Quoted:
        self.asked.append(data)
        return Quoted(self.platform.mint_quote(APPROVED, data))


@dataclass
class Parties:
    """A node that knows no platform yet, an owner with a secret, a backend's client, and a
    publisher."""

    node: EmbeddedNode
    pcs: PcsSimulator
    platform: SimulatedPlatform
    owner: Client
    agent: Client
    clock: FixedClock
    entropy: CountingEntropy
    pauses: list[float] = field(default_factory=list)

    def backend(
        self,
        source: Source,
        *,
        patience_s: float = 60.0,
        while_waiting: Callable[[], Awaitable[object]],
    ) -> Backend:
        async def pause(pause_s: float) -> None:
            self.pauses.append(pause_s)
            self.clock.advance(pause_s)
            await while_waiting()

        return Backend(
            self.agent,
            source,
            clock=self.clock,
            entropy=self.entropy,
            patience_s=patience_s,
            pause=pause,
        )

    async def fetch(self) -> None:
        """Publish the platform's documents, and let the node fetch them."""
        self.pcs.publish(self.platform.collateral_json(self.clock.now()))
        await fetch_due(self.node.services)

    async def nothing(self) -> None:
        """Publish no documents."""


@pytest.fixture
async def parties(
    machine: SimulatedPlatform, tmp_path: Path, clock: FixedClock, entropy: CountingEntropy
) -> AsyncIterator[Parties]:
    """A node that fetches the collateral that backends need, and a grant."""
    root = tmp_path / "root.pem"
    root.write_text(machine.root_pem)
    async with AsyncExitStack() as stack:
        pcs = await stack.enter_async_context(pcs_on_loopback(PcsSimulator()))
        config = Config(
            http=Http(port=0, drain_s=1),
            store=store_at(tmp_path / "data"),
            release=Release(trust_root=str(root)),
            collateral=Collateral(
                service_url=pcs.url, root_crl_url=pcs.url + CERTIFICATES, check_numbers=False
            ),
        )
        node = await stack.enter_async_context(embedded_node(config, clock=clock, entropy=entropy))
        owner, agent = [
            await stack.enter_async_context(
                Client(node.url, session=session, settings=SETTINGS, clock=clock, entropy=entropy)
            )
            for session in (None, key_session(SEED))
        ]
        await owner.sign_in(new_wallet(entropy=entropy))
        await owner.secrets().put("API_KEY", "value")
        rights = [
            allow(owner.secrets().resource("API_KEY"), "tinycloud.kv/get"),
            allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"),
        ]
        policy = Policy(measurements=(APPROVED,))
        await agent.delegations.accept(
            await owner.delegations.delegate(agent.session.did, rights, policy=policy)
        )
        yield Parties(node, pcs, machine, owner, agent, clock, entropy)


async def test_it_comes_again_when_the_node_says(parties: Parties) -> None:
    """The backend waits as long as the node says, and then attests with a new quote (AT39)."""
    source = Source(parties.platform)
    backend = parties.backend(source, while_waiting=parties.fetch)
    await backend.attest(parties.owner.encryption.network())
    assert parties.pauses == [ASK_AGAIN_S]
    assert len(set(source.asked)) == 2  # a challenge serves once
    assert await backend.read_secret(parties.owner.session.owner, "API_KEY") == "value"
    assert parties.pcs.asked[TCB] == 1


@pytest.mark.parametrize(
    ("patience_s", "tries"),
    [(0.0, 1), (ASK_AGAIN_S - 0.5, 1), (ASK_AGAIN_S, 2), (60.0, 1 + 60 // ASK_AGAIN_S)],
)
async def test_patience_ends(parties: Parties, patience_s: float, tries: int) -> None:
    """The backend waits no longer in total than configured, then raises the node's error."""
    source = Source(parties.platform)
    backend = parties.backend(source, patience_s=patience_s, while_waiting=parties.nothing)
    with pytest.raises(NodeFailure) as failure:
        await backend.attest(parties.owner.encryption.network())
    assert failure.value.problem == "collateral-missing"
    assert failure.value.retry_after_s == ASK_AGAIN_S
    assert len(source.asked) == tries
    assert sum(parties.pauses) <= patience_s
    assert backend.attestation is None


async def test_a_platform_that_nobody_knows(parties: Parties) -> None:
    """The backend does not wait for a node that says to retry in an hour (AT32)."""
    source = Source(parties.platform)
    backend = parties.backend(source, while_waiting=lambda: fetch_due(parties.node.services))
    with pytest.raises(NodeFailure) as failure:
        await backend.attest(parties.owner.encryption.network())
    assert failure.value.retry_after_s == 3600 + ASK_AGAIN_S
    assert len(source.asked) == 2
    assert parties.pauses == [ASK_AGAIN_S]


async def test_a_refusal_is_no_reason_to_wait(parties: Parties) -> None:
    """A final refusal is not retried."""
    source = Source(SimulatedPlatform.from_seed(b"a root of somebody else"))
    with pytest.raises(AttestationRefused) as refused:
        await parties.backend(source, while_waiting=parties.nothing).attest(
            parties.owner.encryption.network()
        )
    assert refused.value.problem == "untrusted-root"
    assert len(source.asked) == 1
    assert parties.pauses == []
