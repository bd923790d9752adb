"""Attacks of a relay that ends TLS before a genuine node."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from attacks.parties import ENTROPY, SECRET, SETTINGS, VALUE, Owner, Stage
from relay import Answer, Relay, relay_before

from capabilities.strict_base64 import decode_standard, encode_standard
from encryption_network.envelope import open_envelope, parse_envelope
from encryption_network.keywrap import open_wrapped
from encryption_network.network_errors import RequestError
from sealspace.client import Client
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.errors import SealspaceError


@dataclass
class Thief:
    """A relay with its own key pair, and the envelopes that it could open."""

    relay: Relay
    key: ReceiverKey = field(default_factory=lambda: new_receiver_key(ENTROPY))
    passed: list[bytes] = field(default_factory=list)
    read: list[bytes] = field(default_factory=list)

    def swap(self, *paths: str) -> None:
        """Put the relay's key into every answer whose path has the given ending."""
        self.relay.twist = lambda answer: self._twist(answer, paths)

    def _twist(self, answer: Answer, paths: tuple[str, ...]) -> None:
        if answer.path.endswith(paths) and answer.status == 200:
            answer.change(publicEncryptionKey=encode_standard(self.key.public_key))
        if answer.path == "/invoke" and answer.asked:
            self.passed.append(answer.asked)
            envelope = parse_envelope(answer.asked)
            wrapped = decode_standard(envelope.encrypted_symmetric_key)
            assert wrapped is not None
            with suppress(RequestError):  # it was sealed to somebody else
                self.read.append(
                    open_envelope(envelope, open_wrapped(self.key.private_key, wrapped))
                )


@pytest.fixture
async def thief(stage: Stage) -> AsyncIterator[Thief]:
    """A relay before the node, which changes nothing by default."""
    async with relay_before(stage.url) as relay:
        yield Thief(relay)


async def through(stage: Stage, thief: Thief, owner: Owner) -> Client:
    """Return a client of the owner's session that connects through the relay."""
    return await stage.clients.enter_async_context(
        Client(thief.relay.url, session=owner.client.session, settings=SETTINGS)
    )


async def outcome(asked: Awaitable[object]) -> str:
    """Return how a call ended: the code of the error, or "done"."""
    try:
        await asked
    except SealspaceError as error:
        return error.code
    return "done"


async def test_a_relay_that_changes_nothing(stage: Stage, thief: Thief) -> None:
    """As a control, secrets are stored and read through an honest relay."""
    owner = await stage.owner()
    client = await through(stage, thief, owner)
    thief.swap("/nowhere")
    assert await outcome(client.secrets().put("OTHER", VALUE)) == "done"
    assert await client.secrets().get("OTHER") == VALUE
    assert len(thief.passed) == 1 and not thief.read


async def test_a_relay_that_swaps_a_network_s_key(stage: Stage, thief: Thief) -> None:
    """A descriptor with the relay's key is refused, so nothing is encrypted to it (EN28, EN29)."""
    owner = await stage.owner()
    client = await through(stage, thief, owner)
    thief.swap("/networks/" + owner.network)
    ended = await outcome(client.secrets().put(SECRET, "the newest value"))
    assert thief.read == []
    assert not thief.passed
    assert ended == "response-signature-invalid"
    assert await owner.client.secrets().get(SECRET) == VALUE


async def test_a_relay_that_takes_the_signature_away(stage: Stage, thief: Thief) -> None:
    """An unsigned descriptor is refused (EN29)."""
    owner = await stage.owner()
    client = await through(stage, thief, owner)

    thief.swap("/networks/" + owner.network)
    swapped = thief.relay.twist

    def unsigned(answer: Answer) -> None:
        swapped(answer)
        if answer.path.endswith(owner.network):
            answer.drop("nodeSignature")

    thief.relay.twist = unsigned
    ended = await outcome(client.secrets().put(SECRET, "the newest value"))
    assert thief.read == []
    assert not thief.passed
    assert ended == "descriptor-unsigned"


async def test_a_relay_that_swaps_the_key_of_a_new_network(stage: Stage, thief: Thief) -> None:
    """A client reads a new network's key back and verifies its signature (EN29)."""
    client = await stage.clients.enter_async_context(Client(thief.relay.url, settings=SETTINGS))
    await client.sign_in_with_key(ENTROPY.token(32), spaces=["secrets"])
    thief.swap("/encryption/networks")
    descriptor = await client.encryption.ensure_network()
    assert descriptor.public_key != thief.key.public_key
    await client.secrets().put(SECRET, VALUE)
    assert len(thief.passed) == 1 and not thief.read
    assert await client.secrets().get(SECRET) == VALUE


async def test_a_relay_that_answers_with_a_descriptor_of_before(stage: Stage, thief: Thief) -> None:
    """An older signed descriptor is refused, so a revoked network stays revoked."""
    owner = await stage.owner()
    client = await through(stage, thief, owner)
    kept: list[bytes] = []

    def replay(answer: Answer) -> None:
        if answer.path.endswith(owner.network):
            kept.append(answer.body)
            answer.body = kept[0]

    thief.relay.twist = replay
    assert await outcome(client.secrets().put(SECRET, VALUE)) == "done"
    ended = await outcome((await through(stage, thief, owner)).secrets().put(SECRET, VALUE))
    assert ended == "response-signature-invalid"
    assert len(kept) == 2
