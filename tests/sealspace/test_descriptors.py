"""Tests of network descriptors, which a node signs for a client's nonce."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before

from capabilities.resources import NetworkId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from encryption_network.keywrap import public_key_of
from encryption_network.networks import create_network
from encryption_network.pins import NetworkPin
from encryption_network.signed_descriptor import is_nonce, sign_descriptor
from sealspace.client import Client
from sealspace.errors import (
    DescriptorUnsigned,
    InvalidResponse,
    MalformedAnswer,
    NetworkKeyChanged,
    NodeMismatch,
    ResponseSignatureInvalid,
    SealspaceError,
)
from sealspace.session import Session, load_session, save_session
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
OTHER = Ed25519Signer(b"\x0e" * 32).did
OTHER_KEY = public_key_of(b"\x0e" * 32)
Twist = Callable[[Answer], None]


@dataclass
class Scene:
    """An owner with a secret, a relay before the node, and clients of the relay."""

    bench: Any
    owner: Client
    relay: Relay
    clients: AsyncExitStack

    @property
    def network(self) -> NetworkId:
        return self.owner.encryption.network()

    async def client(
        self, session: Session | None = None, *, unsigned_descriptors: bool = False
    ) -> Client:
        """Return a client of the owner's session at the relay, without remembered keys."""
        client = Client(
            self.relay.url,
            session=session or replace(self.owner.session, pins=()),
            unsigned_descriptors=unsigned_descriptors,
            settings=SETTINGS,
            clock=self.bench.clock,
            entropy=self.bench.entropy,
        )
        return await self.clients.enter_async_context(client)

    def describe(self, twist: Twist) -> None:
        """Have every descriptor changed by the relay."""
        self.relay.twist = lambda answer: (
            twist(answer) if answer.path.endswith(self.network.text) else None
        )

    def sign_another_key(self, answer: Answer) -> None:
        """Sign another network key with the node's identity."""
        keyring = self.bench.node.services.keyring
        record = create_network(self.network, now=0, keyring=keyring, entropy=self.bench.entropy)
        nonce = answer.query.removeprefix("nonce=")
        signature = sign_descriptor(
            msgspec.structs.replace(record, public_key=OTHER_KEY), nonce, keyring.node_signer
        )
        answer.change(publicEncryptionKey=encode_standard(OTHER_KEY))
        answer.body = json.dumps(json.loads(answer.body) | {"nodeSignature": signature}).encode()


@pytest.fixture
async def scene(bench: Any) -> AsyncIterator[Scene]:
    """A scene in which the relay changes nothing yet."""
    owner, _ = await bench.owner()
    await owner.secrets().put("API_KEY", "value")
    async with relay_before(bench.node.url) as relay, AsyncExitStack() as clients:
        yield Scene(bench, owner, relay, clients)


def unsigned(answer: Answer) -> None:
    """Answer without a signature, as a node that does not support nonces."""
    answer.drop("nodeSignature")


async def test_each_question_has_a_nonce_of_its_own(scene: Scene) -> None:
    """Each request has a fresh nonce, so an answer cannot be prepared in advance (EN29)."""
    asked: list[str] = []
    scene.describe(lambda answer: asked.append(answer.query))
    for _ in range(2):
        await (await scene.client()).encryption.descriptor(scene.network)
    assert len(asked) == len(set(asked)) == 2
    assert all(is_nonce(query.removeprefix("nonce=")) for query in asked)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("signature", [None, "", "AA==", 1, [], encode_standard(bytes(64))])
async def test_a_signature_that_does_not_hold(scene: Scene, signature: Any, lenient: bool) -> None:
    """Nothing is encrypted to a key with an invalid signature (EN29)."""

    def forged(answer: Answer) -> None:
        answer.body = json.dumps(json.loads(answer.body) | {"nodeSignature": signature}).encode()

    scene.describe(forged)
    client = await scene.client(unsigned_descriptors=lenient)
    with pytest.raises(ResponseSignatureInvalid):
        await client.encryption.encrypt(b"payload", network=scene.network)


async def test_a_node_that_cannot_sign(scene: Scene) -> None:
    """Unsigned descriptors are accepted only by clients that allow them (EN29)."""
    scene.describe(unsigned)
    with pytest.raises(DescriptorUnsigned) as refused:
        await (await scene.client()).secrets().put("OTHER", "value")
    assert "unsigned_descriptors" in refused.value.hint
    await (await scene.client(unsigned_descriptors=True)).secrets().put("OTHER", "value")
    assert await scene.owner.secrets().get("OTHER") == "value"


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"publicEncryptionKey": encode_standard(bytes(32))}, InvalidResponse),
        ({"alg": "rot13/v1"}, MalformedAnswer),
        ({"members": [{"nodeId": OTHER, "role": "primary"}]}, NodeMismatch),
        ({"members": []}, NodeMismatch),
        (
            {"networkId": f"urn:tinycloud:encryption:{OTHER}:default", "ownerDid": OTHER},
            MalformedAnswer,
        ),
    ],
)
async def test_unsigned_is_not_unchecked(
    scene: Scene, members: Any, kind: type[SealspaceError]
) -> None:
    """An unsigned descriptor is still compared with the request."""

    def changed(answer: Answer) -> None:
        unsigned(answer)
        answer.change(**members)

    scene.describe(changed)
    client = await scene.client(unsigned_descriptors=True)
    with pytest.raises(kind):
        await client.encryption.encrypt(b"payload", network=scene.network)


async def test_a_key_that_changes(scene: Scene, tmp_path: Path) -> None:
    """A stored session rejects a changed network key, even if the node signed it (EN30)."""
    client = await scene.client()
    first = await client.encryption.descriptor(scene.network)
    save_session(client.session, tmp_path / "session.json")
    kept = load_session(tmp_path / "session.json")
    assert (NetworkPin(scene.network.text, first.public_key, 1),) == kept.pins
    scene.describe(scene.sign_another_key)
    client = await scene.client(kept)
    for _ in range(2):
        with pytest.raises(NetworkKeyChanged) as refused:
            await client.secrets().put("API_KEY", "newer")
    assert first.public_key == refused.value.pinned.public_key
    assert refused.value.offered.public_key == OTHER_KEY
    assert await scene.owner.secrets().get("API_KEY") == "value"


@pytest.mark.parametrize("lenient", [False, True])
async def test_an_unsigned_key_is_held_to_as_well(scene: Scene, lenient: bool) -> None:
    """A session keeps to the first key it saw, signed or not."""

    def changed(answer: Answer) -> None:
        unsigned(answer)
        answer.change(publicEncryptionKey=encode_standard(OTHER_KEY))

    scene.describe(changed)
    client = await scene.client(scene.owner.session, unsigned_descriptors=lenient)
    with pytest.raises(NetworkKeyChanged if lenient else DescriptorUnsigned):
        await client.encryption.encrypt(b"payload", network=scene.network)


async def test_a_change_is_accepted_by_name(scene: Scene) -> None:
    """Accepting a changed key accepts only that key; the earlier one is rejected from then on
    (EN30)."""
    scene.describe(scene.sign_another_key)
    client = await scene.client(scene.owner.session)
    with pytest.raises(NetworkKeyChanged) as refused:
        await client.encryption.descriptor(scene.network)
    client.encryption.accept(refused.value.offered)
    assert OTHER_KEY == (await client.encryption.descriptor(scene.network)).public_key
    scene.relay.twist = lambda answer: None
    with pytest.raises(NetworkKeyChanged):
        await (await scene.client(client.session)).encryption.descriptor(scene.network)


async def test_a_client_that_has_not_signed_in_asks_once(scene: Scene) -> None:
    """Without a session the client uses the first key that it got."""
    bench = scene.bench
    client = Client(scene.relay.url, settings=SETTINGS, clock=bench.clock, entropy=bench.entropy)
    await scene.clients.enter_async_context(client)
    first = await client.encryption.descriptor(scene.network)
    scene.describe(scene.sign_another_key)
    assert first == await client.encryption.descriptor(scene.network)
    client.use(replace(scene.owner.session, pins=(NetworkPin(scene.network.text, OTHER_KEY, 1),)))
    with pytest.raises(NetworkKeyChanged):
        await client.encryption.descriptor(scene.network)
    # asked for anew
    assert OTHER_KEY == (await client.encryption.descriptor(scene.network)).public_key
