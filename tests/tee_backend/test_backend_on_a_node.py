"""A backend with an event log at a real node, approved by the hash of its compose file."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from deviating_log import LogOptions, mint_event_log
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from patience import PATIENCE_S
from simulators.agent import AgentSimulator, agent_on
from simulators.tsm import TsmSimulator
from tests_support import CountingEntropy, FixedClock, altered
from trust_settings import trusting_config

from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import AttestationRefused, DecryptDenied, ReleaseRefused
from sealspace.session import key_session
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.event_log import EventLog
from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.backend import Backend
from tee_backend.evidence.dstack import DstackSource
from tee_backend.evidence.simulated import measurements_of
from tee_backend.evidence.source import EvidenceSource
from tee_backend.evidence.tsm import TsmSource

IMAGE = replace(measurements_of("image"), rtmr3=None)
COMPOSE = bytes(range(32))
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
GET, DECRYPT = "tinycloud.kv/get", "tinycloud.encryption/decrypt"


@dataclass
class Parties:
    """An owner with a secret, and a backend's client with a grant to it."""

    owner: Client
    agent: Client
    clock: FixedClock
    entropy: CountingEntropy

    def backend(self, source: EvidenceSource) -> Backend:
        return Backend(self.agent, source, clock=self.clock, entropy=self.entropy)

    async def attest(self, source: EvidenceSource) -> Backend:
        backend = self.backend(source)
        await backend.attest(self.owner.encryption.network())
        return backend

    async def read(self, backend: Backend) -> str | bytes:
        return await backend.read_secret(self.owner.session.owner, "API_KEY")


@pytest.fixture
async def parties(
    machine: SimulatedPlatform, tmp_path: Path, clock: FixedClock, entropy: CountingEntropy
) -> AsyncIterator[Parties]:
    """A node that trusts the simulated root, and a grant that approves one compose file on one
    image."""
    config = trusting_config(tmp_path, machine, published_at=clock.now())
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(config, clock=clock, entropy=entropy))
        clients = [
            await stack.enter_async_context(
                Client(node.url, session=session, settings=SETTINGS, clock=clock, entropy=entropy)
            )
            for session in (None, key_session(bytes(range(32))))
        ]
        found = Parties(clients[0], clients[1], clock, entropy)
        await _grant(found, entropy)
        yield found


async def _grant(parties: Parties, entropy: CountingEntropy) -> None:
    owner = parties.owner
    await owner.sign_in(new_wallet(entropy=entropy))
    await owner.secrets().put("API_KEY", "value")
    grant = [
        allow(owner.secrets().resource("API_KEY"), GET),
        allow(owner.encryption.network().text, DECRYPT),
    ]
    policy = Policy(measurements=(IMAGE,), compose_hashes=(COMPOSE,))
    await parties.agent.delegations.accept(
        await owner.delegations.delegate(parties.agent.session.did, grant, policy=policy)
    )


@pytest.fixture
async def agent(machine: SimulatedPlatform, tmp_path: Path) -> AsyncIterator[AgentSimulator]:
    """A guest agent beside the approved application."""
    simulated = AgentSimulator(machine, IMAGE, mint_event_log(COMPOSE))
    async with agent_on(tmp_path / "dstack.sock", simulated):
        yield simulated


@pytest.fixture
def source(agent: AgentSimulator, tmp_path: Path) -> DstackSource:
    """The backend's connection to the agent."""
    return DstackSource.find((tmp_path,))


def reason_of(denial: DecryptDenied) -> str:
    assert isinstance(denial.refusal, ReleaseRefused)
    return denial.refusal.reason


@pytest.mark.parametrize(
    "options", [LogOptions(), LogOptions(version=2), LogOptions(gives_digests=False)]
)
async def test_an_approved_application(
    parties: Parties, source: DstackSource, agent: AgentSimulator, options: LogOptions
) -> None:
    """The approved compose file on the approved image reads the secret, with every form of log
    (AT22)."""
    agent.minted = mint_event_log(COMPOSE, options=options)
    assert "value" == await parties.read(await parties.attest(source))


async def test_another_application_on_the_image(
    parties: Parties, source: DstackSource, agent: AgentSimulator
) -> None:
    """Evidence of another application is stored, but opens no secret."""
    agent.minted = mint_event_log(b"x" * 32)
    backend = await parties.attest(source)
    with pytest.raises(DecryptDenied) as denial:
        await parties.read(backend)
    assert "measurement" == reason_of(denial.value)


async def test_the_application_on_another_image(
    parties: Parties, source: DstackSource, agent: AgentSimulator
) -> None:
    """A compose hash is not trusted on an unapproved image, which can write any hash (AT22)."""
    agent.image = replace(measurements_of("development image"), rtmr3=None)
    backend = await parties.attest(source)
    with pytest.raises(DecryptDenied) as denial:
        await parties.read(backend)
    assert "measurement" == reason_of(denial.value)


@pytest.mark.parametrize("source_without_log", ["agent", "kernel"])
async def test_without_a_log(
    parties: Parties,
    source: DstackSource,
    machine: SimulatedPlatform,
    agent: AgentSimulator,
    tmp_path: Path,
    source_without_log: str,
) -> None:
    """A genuine quote without a log does not satisfy a policy on the compose file."""
    kernel = TsmSimulator(lambda data: machine.mint_quote(agent.minted.run_on(IMAGE), data))
    kernel_source = TsmSource(tmp_path, files=kernel, entropy=parties.entropy)
    quiet: EvidenceSource = source if source_without_log == "agent" else kernel_source
    agent.fault = "without-log"
    backend = await parties.attest(quiet)
    with pytest.raises(DecryptDenied) as denial:
        await parties.read(backend)
    assert "measurement" == reason_of(denial.value)


async def test_a_forged_log(parties: Parties, source: DstackSource, agent: AgentSimulator) -> None:
    """A log with the approved hash and the digest of another hash is refused before anything is
    stored."""
    other = mint_event_log(b"x" * 32)
    entries = [
        altered(event, payload_hex=COMPOSE.hex()) if event.name == "compose-hash" else event
        for event in other.log.entries
    ]
    agent.minted = other._replace(log=EventLog(tuple(entries)))
    with pytest.raises(AttestationRefused) as refusal:
        await parties.attest(source)
    assert "event-log" == refusal.value.problem


async def test_a_log_that_ends_early(
    parties: Parties, source: DstackSource, agent: AgentSimulator
) -> None:
    """A log with missing entries does not match the quote."""
    whole = agent.minted
    agent.minted = whole._replace(log=EventLog(whole.log.entries[:-1]))
    with pytest.raises(AttestationRefused) as refusal:
        await parties.attest(source)
    assert "event-log" == refusal.value.problem


@pytest.mark.parametrize("name", ["none", "local-sgx"])
async def test_key_providers(
    parties: Parties, source: DstackSource, agent: AgentSimulator, name: str
) -> None:
    """An application without a key provider, or with one that only the host vouches for, is refused
    (AT29)."""
    provider = KeyProvider(name, b"")  # type: ignore[arg-type]  # of the literals
    agent.minted = mint_event_log(COMPOSE, options=LogOptions(key_provider=provider))
    with pytest.raises(AttestationRefused) as refusal:
        await parties.attest(source)
    assert "key-provider" == refusal.value.problem


async def test_another_machine(
    parties: Parties, source: DstackSource, agent: AgentSimulator, machine: SimulatedPlatform
) -> None:
    """The application may move to another machine of the family, which has another platform id."""
    agent.platform = machine.another_machine(b"the second machine")
    assert "value" == await parties.read(await parties.attest(source))
