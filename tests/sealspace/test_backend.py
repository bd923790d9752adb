"""Tests of a backend in a simulated trust domain: which secrets it can open."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from deviating_platform import SimulatedPlatform
from patience import PATIENCE_S
from tests_support import CountingEntropy

from capabilities.principals import principal_of
from encryption_network.policy import Measurements, Policy
from sealspace.apps.attestation import Attested, Challenge
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.encryption import new_receiver_key
from sealspace.errors import (
    AttestationRefused,
    DecryptDenied,
    DelegationRevoked,
    NodeRefused,
    NotGranted,
    ReleaseRefused,
    SealspaceError,
)
from sealspace.session import key_session
from sealspace.wallets import Wallet
from sealspace.wire.portable import PortableDelegation
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.report_data import session_binding
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of
from tee_backend.evidence.source import Quoted

APPROVED = measurements_of("approved")
OTHER = measurements_of("other")
POLICY = Policy(measurements=(APPROVED,))
GET = "tinycloud.kv/get"
DECRYPT = "tinycloud.encryption/decrypt"
SEED = bytes(range(32))
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass
class Source:
    """A trust domain that runs one program and counts its quotes."""

    platform: SimulatedPlatform
    measurements: Measurements = APPROVED
    quotes: int = 0

    def quote(self, data: bytes) -> Quoted:
        self.quotes += 1
        return Quoted(self.platform.mint_quote(self.measurements, data))


class Granted(NamedTuple):
    """The parties of one grant."""

    client: Client
    wallet: Wallet
    agent: Client
    backend: Backend
    portable: PortableDelegation
    source: Source


async def granted(bench, *, policy=POLICY, wallet=None, measurements=APPROVED, owner=None):
    """An owner with a secret, and a backend with a grant to it."""
    client, own_wallet = owner or await bench.owner()
    await client.secrets().put("API_KEY", "value")
    network = client.encryption.network()
    grant = [allow(client.secrets().resource("API_KEY"), GET), allow(network.text, DECRYPT)]
    agent = await bench.client(key_session(SEED))
    portable = await client.delegations.delegate(
        agent.session.did, grant, policy=policy, wallet=wallet
    )
    await agent.delegations.accept(portable)
    source = Source(bench.platform, measurements)
    backend = Backend(agent, source, clock=bench.clock, entropy=bench.entropy)
    return Granted(client, own_wallet, agent, backend, portable, source)


def reason_of(denial: DecryptDenied) -> str:
    assert isinstance(denial.refusal, ReleaseRefused), denial.refusal
    return denial.refusal.reason


@pytest.mark.parametrize("signed_by_wallet", [False, True])
async def test_approved_code_reads_the_secret(bench, signed_by_wallet: bool) -> None:
    """An attested backend with approved code reads the secret, by a grant of the owner's session or
    wallet."""
    owner = await bench.owner()
    wallet = owner[1] if signed_by_wallet else None
    one = await granted(bench, owner=owner, wallet=wallet)
    attestation = await one.backend.attest(one.client.encryption.network())
    assert attestation == one.backend.attestation
    assert attestation.expires_at > bench.clock.now()
    assert await one.backend.read_secret(one.client.session.owner, "API_KEY") == "value"


async def test_nothing_is_released_before_attesting(bench) -> None:
    """Before attesting, a backend can read the envelope but not get the key."""
    one = await granted(bench)
    with pytest.raises(DecryptDenied) as denial:
        await one.backend.read_secret(one.client.session.owner, "API_KEY")
    assert reason_of(denial.value) == "not_attested"
    assert denial.value.hint


async def test_a_genuine_quote_alone_is_not_enough(bench) -> None:
    """A grant that approves no code releases no key."""
    one = await granted(bench, policy=None)
    await one.backend.attest(one.client.encryption.network())
    with pytest.raises(DecryptDenied) as denial:
        await one.backend.read_secret(one.client.session.owner, "API_KEY")
    assert reason_of(denial.value) == "no_policy"


async def test_other_code_is_refused(bench) -> None:
    """Evidence is stored for any code, but keys are released only to approved code."""
    one = await granted(bench, measurements=OTHER)
    await one.backend.attest(one.client.encryption.network())
    with pytest.raises(DecryptDenied) as denial:
        await one.backend.read_secret(one.client.session.owner, "API_KEY")
    assert reason_of(denial.value) == "measurement"


async def test_the_network_s_policy_can_be_the_approval(bench) -> None:
    """A network's policy approves code for every grant until the owner removes it."""
    one = await granted(bench, policy=None)
    network = one.client.encryption.network()
    await one.client.delegations.add_right(
        one.wallet, [allow(network.text, "sealspace.encryption/policy")]
    )
    await one.client.encryption.set_policy(network, POLICY)
    await one.backend.attest(network)
    assert await one.backend.read_secret(one.client.session.owner, "API_KEY") == "value"
    await one.client.encryption.set_policy(network, None)
    with pytest.raises(DecryptDenied) as denial:
        await one.backend.read_secret(one.client.session.owner, "API_KEY")
    assert reason_of(denial.value) == "no_policy"


async def test_a_policy_can_bind_keys_to_one_path(bench) -> None:
    """A right to decrypt on a network opens each of its keys, unless the policy names paths."""
    owner = await bench.owner()
    client = owner[0]
    policy = Policy(measurements=(APPROVED,), paths=(client.secrets().resource("API_KEY"),))
    one = await granted(bench, owner=owner, policy=policy)
    network = client.encryption.network()
    attestation = await one.backend.attest(network)
    assert await one.backend.read_secret(client.session.owner, "API_KEY") == "value"
    elsewhere = await client.encryption.encrypt(b"other", network=network)
    with pytest.raises(DecryptDenied) as denial:
        await one.agent.encryption.decrypt(elsewhere, receiver=attestation.receiver)
    assert reason_of(denial.value) == "path"


async def test_keys_are_wrapped_to_the_attested_receiver_only(bench) -> None:
    """A thief with the session's key, but without the receiver key, gets no key."""
    one = await granted(bench)
    await one.backend.attest(one.client.encryption.network())
    thief = await bench.client(one.agent.session)
    with pytest.raises(DecryptDenied) as denial:
        await thief.secrets(one.client.session.owner).get(
            "API_KEY", receiver=new_receiver_key(bench.entropy)
        )
    assert reason_of(denial.value) == "receiver"


class Drawn(CountingEntropy):
    """A random source that records its output."""

    def __init__(self) -> None:
        super().__init__(b"inside the trust domain")
        self.given: list[bytes] = []

    def token(self, size_bytes: int) -> bytes:
        self.given.append(super().token(size_bytes))
        return self.given[-1]


async def test_a_backend_makes_its_receiver_keys(bench) -> None:
    """Each attestation has its own new receiver key, and no private key is sent in a request
    (AT8)."""
    one, inside, sent = await granted(bench), Drawn(), bytearray()
    async with (
        _overheard(bench.node.url, sent) as url,
        Client(url, session=one.agent.session, settings=SETTINGS, clock=bench.clock) as client,
    ):
        backend = Backend(client, one.source, clock=bench.clock, entropy=inside)
        receivers = [
            (await backend.attest(one.client.encryption.network())).receiver for _ in range(2)
        ]
        assert await backend.read_secret(one.client.session.owner, "API_KEY") == "value"
    private = [receiver.private_key for receiver in receivers]
    assert private[0] != private[1] and set(private) <= set(inside.given)
    overheard = bytes(sent)
    assert all(_appears(receiver.public_key, overheard) for receiver in receivers)
    assert not any(_appears(secret, overheard) for secret in (*private, SEED))


def _appears(secret: bytes, text: bytes) -> bool:
    coded = (base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    return any(
        spelling.rstrip(b"=") in text for spelling in (secret, secret.hex().encode(), *coded)
    )


@asynccontextmanager
async def _overheard(url: str, sent: bytearray) -> AsyncIterator[str]:
    """Relay between a client and a node, and record the client's requests."""
    parts = urlsplit(url)

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray
    ) -> None:
        while data := await reader.read(65_536):
            kept += data
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(
            carry(reader, far_writer, sent), carry(far_reader, writer, bytearray())
        )

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_revoked_grant_opens_nothing_whatever_the_evidence(bench) -> None:
    """A revoked grant releases no key, even to attested code."""
    one = await granted(bench)
    await one.backend.attest(one.client.encryption.network())
    await one.client.delegations.revoke(one.portable)
    with pytest.raises(DelegationRevoked):
        await one.backend.read_secret(one.client.session.owner, "API_KEY")


async def test_evidence_is_renewed_before_it_ends(bench) -> None:
    """A backend that reads regularly attests again shortly before its evidence expires, and only
    then."""
    one = await granted(bench)
    first = await one.backend.attest(one.client.encryption.network())
    await one.backend.read_secret(one.client.session.owner, "API_KEY")
    assert one.source.quotes == 1
    bench.clock.advance(first.expires_at - bench.clock.now() - 1)
    assert await one.backend.read_secret(one.client.session.owner, "API_KEY") == "value"
    assert one.source.quotes == 2
    assert first.receiver.public_key != one.backend.attestation.receiver.public_key


async def test_a_challenge_serves_once(bench) -> None:
    """A nonce is accepted once, even with a valid quote."""
    one = await granted(bench)
    network = one.client.encryption.network()
    challenge = await one.agent.attestation.challenge()
    attested = quoted(one.agent, one.source, challenge, bench)
    await one.agent.attestation.open_session(network, challenge, attested)
    with pytest.raises(AttestationRefused) as refusal:
        await one.agent.attestation.open_session(network, challenge, attested)
    assert refusal.value.problem == "challenge-used"


def quoted(agent, source, challenge: Challenge, bench, *, holder: str | None = None) -> Attested:
    receiver = new_receiver_key(bench.entropy)
    bound = session_binding(
        challenge.nonce,
        challenge.audience,
        principal_of(holder or agent.session.did),
        "attested",
        receiver.public_key,
    ).report_data
    return Attested(source.quote(bound).quote, receiver.public_key)


async def test_a_quote_for_another_client_is_refused(bench) -> None:
    """Report data bind a quote to its holder."""
    one = await granted(bench)
    challenge = await one.agent.attestation.challenge()
    attested = quoted(one.agent, one.source, challenge, bench, holder=one.client.session.did)
    with pytest.raises(AttestationRefused):
        await one.agent.attestation.open_session(
            one.client.encryption.network(), challenge, attested
        )


async def test_a_quote_of_another_platform_is_refused(bench) -> None:
    """Quotes count only under the root certificate that the node trusts."""
    one = await granted(bench)
    source = Source(SimulatedPlatform.from_seed(b"another platform"))
    challenge = await one.agent.attestation.challenge()
    with pytest.raises(NodeRefused):
        await one.agent.attestation.open_session(
            one.client.encryption.network(), challenge, quoted(one.agent, source, challenge, bench)
        )


async def test_only_who_was_granted_decrypt_may_attest(bench) -> None:
    """A client without a right to decrypt sends no quote."""
    one = await granted(bench)
    outsider = Backend(
        await bench.client(key_session(bytes(32))),
        one.source,
        clock=bench.clock,
        entropy=bench.entropy,
    )
    with pytest.raises(NotGranted):
        await outsider.attest(one.client.encryption.network())


async def test_a_source_that_fails_is_the_caller_s_to_handle(bench) -> None:
    """An error of the platform reaches the caller unchanged, and no evidence is recorded."""

    class Broken:
        def quote(self, data: bytes) -> Quoted:
            raise OSError("no TSM")

    one = await granted(bench)
    broken = Backend(one.agent, Broken(), clock=bench.clock, entropy=bench.entropy)
    with pytest.raises(OSError, match="no TSM"):
        await broken.attest(one.client.encryption.network())
    assert broken.attestation is None


async def test_many_readers_share_one_attestation(bench) -> None:
    """Concurrent reads share one renewal of evidence."""
    one = await granted(bench)
    first = await one.backend.attest(one.client.encryption.network())
    for quotes in (1, 2):
        reads = [one.backend.read_secret(one.client.session.owner, "API_KEY") for _ in range(5)]
        assert await asyncio.gather(*reads) == ["value"] * 5
        assert one.source.quotes == quotes
        bench.clock.advance(first.expires_at - bench.clock.now() - 1)


async def test_no_error_holds_a_secret(bench) -> None:
    """No error contains a value, a key or a token."""
    one = await granted(bench, measurements=OTHER)
    await one.backend.attest(one.client.encryption.network())
    with pytest.raises(SealspaceError) as denial:
        await one.backend.read_secret(one.client.session.owner, "API_KEY")
    said = f"{denial.value} {denial.value!r} {denial.value.hint} {denial.value.__cause__}"
    for hidden in ("value", one.portable.header, SEED.hex()):
        assert hidden not in said
