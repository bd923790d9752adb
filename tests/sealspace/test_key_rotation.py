"""Tests of replacing the key of an encryption network, with clients and a real node."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before

from capabilities.abilities import SET_POLICY
from capabilities.resources import NetworkId
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import encode_standard
from encryption_network.envelope import parse_envelope
from encryption_network.pins import NetworkPin
from node.operations.releases import key_usage
from sealspace.apps.key_rotation import Reencrypted
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.key_statements import key_change, sign_key_change
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    InvalidInput,
    MalformedAnswer,
    NetworkKeyChanged,
    NodeRefused,
    PreconditionFailed,
    ResponseSignatureInvalid,
    SealspaceError,
    Unauthorized,
)
from sealspace.session import Session
from sealspace.wallets import AnyWallet, new_wallet
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
_MOST_RACES = 8
FIRST, SECOND = "open sesame", b"\0\1"


@dataclass
class Scene:
    """An owner with two secrets."""

    bench: Any
    owner: Client
    wallet: AnyWallet

    @property
    def network(self) -> NetworkId:
        return self.owner.encryption.network()

    @property
    def node_did(self) -> str:
        did: str = self.bench.node.services.keyring.node_did
        return did

    async def rotate(self, client: Client | None = None) -> NetworkPin:
        return await (client or self.owner).network_keys.rotate(
            self.network, wallet=lambda: self.wallet
        )

    async def reencrypt(self, **more: Any) -> Reencrypted:
        return await self.owner.network_keys.reencrypt(self.network, **more)

    async def versions_of_keys(self) -> dict[str, int]:
        """Return the version of the key to which each stored envelope is sealed, by path."""
        kv = self.owner.kv("secrets")
        values = await kv.get_many([key async for key in kv.list("vault/secrets/")])
        return {key: parse_envelope(value.body).key_version for key, value in values.items()}


@pytest.fixture
async def scene(bench: Any) -> Scene:
    """An owner with the right to change the network, and two secrets under the first key."""
    owner, wallet = await bench.owner()
    scene = Scene(bench, owner, wallet)
    await owner.delegations.add_right(wallet, [allow(scene.network.text, SET_POLICY)])
    await owner.secrets().put("API_KEY", FIRST)
    await owner.secrets().put("CERT", SECOND, scope="mail")
    return scene


async def secrets_of(client: Client, owner: str | None = None) -> tuple[str | bytes, str | bytes]:
    secrets = client.secrets(owner)
    return await secrets.get("API_KEY"), await secrets.get("CERT", scope="mail")


# --- the next key ---------------------------------------------------------------------------------


async def test_both_keys_open_and_the_newest_seals(scene: Scene) -> None:
    """Former values open with their version; new ones are sealed to the newest (EN17, EN35)."""
    before = (await scene.owner.encryption.descriptor(scene.network)).public_key
    newest = await scene.rotate()
    descriptor = await scene.owner.encryption.descriptor(scene.network)
    assert (newest.key_version, descriptor.key_version) == (2, 2)
    assert descriptor.public_key == newest.public_key != before
    assert descriptor.state == "active"
    assert await secrets_of(scene.owner) == (FIRST, SECOND)
    await scene.owner.secrets().put("API_KEY", "changed")
    assert await scene.versions_of_keys() == {
        "vault/secrets/API_KEY": 2,
        "vault/secrets/scoped/mail/CERT": 1,
    }
    assert await secrets_of(scene.owner) == ("changed", SECOND)
    keys = await scene.owner.network_keys.versions(scene.network)
    assert [(one.key_version, one.state) for one in keys.keys] == [(1, "accepted"), (2, "newest")]


async def test_only_the_first_wallet_signature_counts(scene: Scene) -> None:
    """A rotation takes one signature of the wallet, and none of a session (EN36)."""
    signed: int = scene.wallet.signatures
    await scene.rotate()
    assert scene.wallet.signatures == signed + 1
    with pytest.raises(InvalidInput, match="only the owner's wallet"):
        await scene.owner.network_keys.rotate(scene.network)


async def test_an_owner_with_a_key(bench: Any) -> None:
    """The key that is the owner signs itself (EN36)."""
    client = await bench.client()
    await client.sign_in_with_key(bench.entropy.token(32), spaces=("secrets",))
    await client.encryption.ensure_network()
    network = client.encryption.network()
    await client.secrets().put("API_KEY", FIRST)
    assert (await client.network_keys.rotate(network)).key_version == 2
    assert (await client.network_keys.reencrypt(network)).sealed == 1
    assert await client.secrets().get("API_KEY") == FIRST


async def test_two_rotations_at_once(scene: Scene) -> None:
    """One of two concurrent rotations wins, the other is refused, and both see one key (EN35)."""
    other = await scene.bench.client(scene.owner.session)
    won: list[NetworkPin] = []
    for _ in range(_MOST_RACES):
        done = await asyncio.gather(scene.rotate(), scene.rotate(other), return_exceptions=True)
        won = [one for one in done if isinstance(one, NetworkPin)]
        lost = [one for one in done if isinstance(one, PreconditionFailed | NetworkKeyChanged)]
        if len(won) == 1:
            break
        # On a busy machine one can begin after the other has ended. Then both are in order.
        assert len({one.key_version for one in won}) == 2, done
    assert len(won) == 1 and len(lost) == 1, done
    for client in (scene.owner, other):
        client.encryption.forget(scene.network)
        assert (await client.encryption.descriptor(scene.network)).public_key == won[0].public_key


async def test_others_cannot_change_the_key(scene: Scene) -> None:
    """A delegate and a stranger get no candidate (EN35)."""
    stranger, wallet = await scene.bench.owner()
    with pytest.raises(InvalidInput, match="only the owner"):
        await stranger.network_keys.rotate(scene.network, wallet=lambda: wallet)
    granted = await scene.owner.delegations.delegate(
        stranger.session.did, [allow(scene.network.text, SET_POLICY)]
    )
    await stranger.delegations.accept(granted)
    with pytest.raises(Unauthorized):
        await stranger.network_keys.retire(scene.network, 1)


def statement(scene: Scene, former: NetworkPin, public_key: bytes, changes: dict[str, Any]) -> str:
    """Return a statement with some members changed, signed by the owner's wallet by default."""
    change = key_change(
        replace(former, **changes.get("former", {})),
        changes.get("public_key", public_key),
        node_did=changes.get("node_did", scene.node_did),
        at=changes.get("at", "2026-11-26T00:00:00.000Z"),
    )
    return sign_key_change(change, changes.get("signer", scene.wallet)).decode()


BAD: dict[str, dict[str, Any]] = {
    "another former key": {"former": {"public_key": b"k" * 32}},
    "another former version": {"former": {"key_version": 2}},
    "another network": {"former": {"network": "urn:tinycloud:encryption:did:key:z:n"}},
    "another node": {"node_did": Ed25519Signer(b"\x0e" * 32).did},
    "another signer": {"signer": new_wallet()},
    "a session's key": {"signer": Ed25519Signer(b"\x0f" * 32)},
    "no time": {"at": "yesterday"},
    "another key": {"public_key": b"k" * 32},
}


@pytest.mark.parametrize("case", BAD)
async def test_statements_that_the_node_refuses(scene: Scene, case: str) -> None:
    """A statement for another key, version, network, node or signer installs nothing (EN36)."""
    keys = scene.owner.network_keys
    current = (await scene.owner.encryption.descriptor(scene.network)).public_key
    pin = NetworkPin(scene.network.text, current, 1)
    text = statement(scene, pin, await keys._fetch_candidate(scene.network, pin), BAD[case])
    with pytest.raises(NodeRefused) as refused:
        await keys._post_change(scene.network, {"action": "activate", "statement": text})
    assert refused.value.status in (400, 412)
    assert (await scene.owner.encryption.descriptor(scene.network)).public_key == current
    assert len((await keys.versions(scene.network)).keys) == 1


async def test_a_statement_serves_once(scene: Scene) -> None:
    """A statement that was used cannot be used again (EN36)."""
    await scene.rotate()
    keys = await scene.owner.encryption.keys(scene.network)
    with pytest.raises(PreconditionFailed):
        await scene.owner.network_keys._post_change(
            scene.network, {"action": "activate", "statement": keys.statements[0]}
        )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "rotate"},
        {"action": "candidate"},
        {"action": "candidate", "nonce": "x"},
        {"action": "candidate", "nonce": "A" * 22, "more": 1},
        {"action": "activate", "statement": {}},
        {"action": "activate", "statement": "{}" * 1000},
        {"action": "retire"},
        {"action": "retire", "keyVersion": 0},
        {"action": "retire", "keyVersion": True},
        {"action": "destroy", "keyVersion": 1},
        {"action": "destroy", "keyVersion": 33, "statement": "{}"},
    ],
)
async def test_malformed_changes(scene: Scene, body: Any) -> None:
    """A change that is not one of the four is refused (EN37)."""
    with pytest.raises(NodeRefused) as refused:
        await scene.owner.network_keys._post_change(scene.network, body)
    assert refused.value.status == 400


# --- clients that know a former key ---------------------------------------------------------------


async def test_a_client_follows_the_owner(scene: Scene) -> None:
    """A client that pinned an earlier version accepts the newest by the statements (EN30)."""
    kept = scene.owner.session
    assert kept.pins[0].key_version == 1
    for _ in range(3):
        await scene.rotate()
    client = await scene.bench.client(kept)
    assert await secrets_of(client) == (FIRST, SECOND)
    await client.secrets().put("API_KEY", "changed")
    assert client.session.pins[0].key_version == 4
    with pytest.raises(NetworkKeyChanged):  # a store that was set back
        other = await scene.bench.client(kept.with_pin(replace(kept.pins[0], key_version=5)))
        await other.secrets().put("API_KEY", "again")


async def test_a_client_notices_a_new_key(scene: Scene) -> None:
    """A client that runs for long seals to the newest key after some minutes (EN30)."""
    client = await scene.bench.client(scene.owner.session)
    await client.secrets().put("API_KEY", "one")
    await scene.rotate()
    await client.secrets().put("API_KEY", "two")
    assert (await scene.versions_of_keys())["vault/secrets/API_KEY"] == 1
    scene.bench.clock.advance(301)
    await client.secrets().put("API_KEY", "three")
    assert (await scene.versions_of_keys())["vault/secrets/API_KEY"] == 2


@pytest.fixture
async def relayed(scene: Scene) -> AsyncIterator[tuple[Relay, Callable[[], Awaitable[Client]]]]:
    """A relay before the node, and clients of it that know the first key."""
    kept = scene.owner.session
    async with relay_before(scene.bench.node.url) as relay, AsyncExitStack() as stack:

        async def client(session: Session = kept) -> Client:
            return await stack.enter_async_context(
                Client(
                    relay.url,
                    session=session,
                    settings=SETTINGS,
                    clock=scene.bench.clock,
                    entropy=scene.bench.entropy,
                )
            )

        yield relay, client


@pytest.mark.parametrize("case", [*BAD, "none", "too many", "no text", "missing", "reversed"])
async def test_statements_that_clients_refuse(scene: Scene, relayed: Any, case: str) -> None:
    """A client refuses a key to which no chain of the owner's statements leads (EN30, EN36)."""
    relay, client = relayed
    first = (await scene.owner.encryption.descriptor(scene.network)).public_key
    second = await scene.rotate()
    await scene.rotate()
    true = (await scene.owner.encryption.keys(scene.network)).statements
    lies: list[Any] = list(true)
    if case in BAD:
        pin = NetworkPin(scene.network.text, first, 1)
        lies[0] = statement(scene, pin, second.public_key, BAD[case])
    elif case == "none":
        lies = []
    elif case == "too many":
        lies *= 17
    elif case == "no text":
        lies[0] = 1
    elif case == "reversed":
        lies.reverse()

    def lie(answer: Answer) -> None:
        if answer.path.endswith("/keys"):
            if case == "missing":
                answer.status = 404
            answer.body = json.dumps(json.loads(answer.body) | {"statements": lies}).encode()

    relay.twist = lie
    with pytest.raises((NetworkKeyChanged, MalformedAnswer)):
        await (await client()).secrets().put("API_KEY", "changed")
    relay.twist = lambda answer: None
    await (await client()).secrets().put("API_KEY", "changed")


@pytest.mark.parametrize(
    ("nodes", "is_listed"),
    [
        (("present", "present"), True),
        (("former", "present"), True),
        (("former", "former"), True),
        (("earlier", "former"), True),
        (("present", "former"), False),
    ],
)
async def test_RK9_statements_for_a_former_identity(
    scene: Scene, relayed: Any, nodes: tuple[str, str], is_listed: bool
) -> None:
    """A list accepts statements for a former identity of the node before those for the present one.

    A client that knows a key does not follow them.
    """
    relay, client = relayed
    dids = {
        "present": scene.node_did,
        "former": Ed25519Signer(b"\x0e" * 32).did,
        "earlier": Ed25519Signer(b"\x0d" * 32).did,
    }
    pins = [NetworkPin(scene.network.text, (await current_key(scene)), 1)]
    texts = []
    for node in nodes:
        pins.append(await scene.rotate())
        changes = {"node_did": dids[node]}
        texts.append(statement(scene, pins[-2], pins[-1].public_key, changes))

    def lie(answer: Answer) -> None:
        if answer.path.endswith("/keys"):
            answer.change(statements=texts)

    relay.twist = lie
    listing = (await client(scene.owner.session)).network_keys.versions(scene.network)
    if is_listed:
        assert len((await listing).keys) == 3
    else:
        with pytest.raises(NetworkKeyChanged):
            await listing
    following = await client()
    if nodes == ("present", "present"):
        await following.secrets().put("API_KEY", "changed")
    else:
        with pytest.raises(NetworkKeyChanged):
            await following.secrets().put("API_KEY", "changed")


async def current_key(scene: Scene) -> bytes:
    return (await scene.owner.encryption.descriptor(scene.network)).public_key


@pytest.mark.parametrize("member", ["keyVersion", "publicEncryptionKey", "alg", "nodeSignature"])
async def test_a_candidate_that_the_node_did_not_sign(
    scene: Scene, relayed: Any, member: str
) -> None:
    """The owner signs no key that came from somebody between the node and the client (EN37)."""
    relay, client = relayed

    def lie(answer: Answer) -> None:
        if answer.path.endswith("/keys"):
            value = json.loads(answer.body)
            lies = {
                "keyVersion": 3,
                "publicEncryptionKey": encode_standard(b"k" * 32),
                "alg": "rot13/v1",
            }
            if member in lies:
                value["candidate"][member] = lies[member]
            else:
                del value[member]
            answer.body = json.dumps(value).encode()

    relay.twist = lie
    signed = scene.wallet.signatures
    with pytest.raises(ResponseSignatureInvalid):
        await scene.rotate(await client())
    assert scene.wallet.signatures == signed


# --- encrypting again -----------------------------------------------------------------------------


async def test_everything_is_encrypted_again(scene: Scene) -> None:
    """Secrets and other envelopes are sealed to the newest key, byte for byte the same (EN39)."""
    owner = scene.owner
    await owner.contacts.add("bob", Ed25519Signer(b"\x0f" * 32).did)
    envelope = await owner.encryption.encrypt(b"note", network=scene.network, label=b"a label")
    await owner.kv("secrets").put("vault/secrets/notes/API_KEY", "not an envelope")
    await owner.kv().put("odd", envelope_bytes(envelope), metadata={"kind": "note"})
    await scene.rotate()
    seen: list[tuple[int, int]] = []
    done = await scene.reencrypt(
        spaces=("default",), progress=lambda moved, total: seen.append((moved, total))
    )
    assert (done.sealed, done.current, done.failed) == (4, 0, ())
    assert seen[-1][0] == seen[-1][1]
    assert done.other == 1
    await owner.kv("secrets").delete("vault/secrets/notes/API_KEY")
    assert set((await scene.versions_of_keys()).values()) == {2}
    assert await secrets_of(owner) == (FIRST, SECOND)
    assert [one.name for one in await owner.contacts.list()] == ["bob"]
    odd = await owner.kv().get("odd")
    assert odd.metadata["kind"] == "note"
    stored = parse_envelope(odd.body)
    assert (stored.key_version, stored.aad) == (2, envelope.aad)
    assert stored.encrypted_symmetric_key != envelope.encrypted_symmetric_key
    assert await owner.encryption.decrypt(stored) == b"note"
    assert (await scene.reencrypt(spaces=("default",))).current == 4


async def test_a_value_that_cannot_be_opened(scene: Scene) -> None:
    """A damaged envelope is reported and stays as it is; the others are encrypted (EN39)."""
    kv = scene.owner.kv("secrets")
    whole = json.loads((await kv.get("vault/secrets/API_KEY")).body)
    whole["ciphertext"] = encode_standard(bytes(40))
    damaged = json.dumps(whole)
    await kv.put("vault/secrets/DAMAGED", damaged)
    await scene.rotate()
    done = await scene.reencrypt()
    assert done.sealed == 2
    assert [path for path, _ in done.failed] == ["vault/secrets/DAMAGED"]
    assert (await kv.get("vault/secrets/DAMAGED")).body == damaged.encode()


async def test_another_writer_wins(scene: Scene, relayed: Any) -> None:
    """A value that another client stores meanwhile is not overwritten (EN39)."""
    relay, client = relayed
    await scene.rotate()
    other = await scene.bench.client(scene.owner.session)
    written = []

    async def write(request: web.Request) -> None:
        if request.path.endswith("/decrypt") and not written:
            written.append(1)
            await other.secrets().put("API_KEY", "by another writer")
            await other.secrets().delete("CERT", scope="mail")

    relay.hold = write
    done = await (await client()).network_keys.reencrypt(scene.network)
    assert done.failed == ()
    assert written
    assert await scene.owner.secrets().get("API_KEY") == "by another writer"
    assert await scene.owner.secrets().list(scope="mail") == ()


async def test_cut_at_50_moments_and_continued(scene: Scene, relayed: Any) -> None:
    """Encrypting again can be cut at any request, and continued. Each value stays readable
    (EN39)."""
    relay, client = relayed
    rng = random.Random(26)
    values = {f"NAME_{number}": rng.randbytes(rng.randrange(1, 900)) for number in range(60)}
    await scene.owner.secrets().put_many(values)
    await scene.rotate()
    cuts = 0
    left = 0

    async def hold(request: web.Request) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise web.HTTPBadGateway

    def lose(answer: Answer) -> None:
        # The request was served, and its answer is lost.
        if left == 0:
            answer.status, answer.body = 502, b""

    while cuts < 50:
        relay.hold = hold
        relay.twist = lose if rng.random() < 0.5 else lambda answer: None
        left = rng.randrange(1, 12)
        try:
            done = await (await client()).network_keys.reencrypt(scene.network)
        except SealspaceError:
            cuts += 1
        else:
            break
        found = await scene.owner.secrets().get_many(values)
        assert found == values
    left = 1_000_000
    relay.twist = lambda answer: None
    done = await (await client()).network_keys.reencrypt(scene.network)
    assert done.failed == ()
    assert done.sealed + done.current == len(values) + 2
    assert set((await scene.versions_of_keys()).values()) == {2}
    assert await scene.owner.secrets().get_many(values) == values
    assert cuts >= 10, cuts


async def test_EN38_the_search_reads_so_much_at_a_time(
    scene: Scene, relayed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of the search ends after some MiB of bodies in files; the pages find everything."""
    monkeypatch.setattr(key_usage, "PAGE_BYTES", 150_000)
    relay, connect = relayed
    for name in ("LONG_1", "LONG_2", "LONG_3"):
        await scene.owner.secrets().put(name, "x" * 100_000)
    pages: list[str] = []

    def note(answer: Answer) -> None:
        if answer.path.endswith("/usage"):
            pages.append(answer.path)

    found = await scene.owner.network_keys.usage(scene.network, 1)
    relay.twist = note
    client = await connect()
    assert found == await client.network_keys.usage(scene.network, 1)
    assert {value.path.rpartition("/")[2] for value in found} >= {"LONG_1", "LONG_2", "LONG_3"}
    monkeypatch.setattr(key_usage, "PAGE_BYTES", 1_000_000)
    in_short_pages = len(pages)
    await client.network_keys.usage(scene.network, 1)
    assert len(pages) == 2 * in_short_pages - 1
