"""A real cause for each error class of the SDK, at a node in this process.

Example:
    with pytest.raises(kind):
        await CAUSES[kind](world)
"""

import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from backend_site import Documents, Domain, Program, owner_of, serving
from deviating_platform import CollateralOptions
from held_ports import held_ports
from moving_teams import moved_team
from msgspec import structs
from patience import PATIENCE_S
from relabelled import store_unbound
from relay import Answer, relay_before
from tests_support import FixedClock
from trust_settings import trusting_config

from capabilities.strict_base64 import encode_standard
from encryption_network.envelope import encode_envelope
from encryption_network.pins import NetworkPin
from encryption_network.policy import Policy
from node.config.tree import Config, Hosting
from sealspace import errors
from sealspace.apps.attestation import Attested
from sealspace.apps.backends import LOOK_TTL_S, deliver, fetch_evidence, require_expected
from sealspace.client import Client, SignIn
from sealspace.delegations import allow
from sealspace.documents.manifests import parse_manifest
from sealspace.documents.node_evidence import NodePolicy
from sealspace.documents.recovery_shares import join_shares, parse_share, split_key
from sealspace.documents.recovery_sheets import OwnerRecovery
from sealspace.encryption import envelope_bytes
from sealspace.errors import (
    BackendError,
    DecryptDenied,
    EncryptionError,
    ReplicaError,
    SealspaceError,
    TransportError,
)
from sealspace.secrets import parse_secret_name, secret_label
from sealspace.session import Session, decode_session, key_session, mint
from sealspace.wallets import wallet_from_keystore
from sealspace.wire.portable import decode_portable
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import Request, Transport, TransportSettings
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.held_grants import HeldGrants
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of

GET = "tinycloud.kv/get"
SEED = bytes(range(32))
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)
CRYPTO = {
    "kdf": "pbkdf2",
    "kdfparams": {"c": 1, "prf": "hmac-sha256", "dklen": 32, "salt": "00"},
    "cipher": "aes-128-ctr",
    "cipherparams": {"iv": "00" * 16},
    "ciphertext": "00" * 32,
    "mac": "00" * 32,
}
MANIFEST: dict[str, Any] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}


@dataclass
class World:
    """A node without users, and methods that provoke its refusals."""

    bench: Any
    bench_with: Callable[[Config], Awaitable[Any]]
    folder: Path
    stack: AsyncExitStack

    async def host(self, hosting: Hosting) -> None:
        """Restart the node with other hosting settings."""
        config = trusting_config(
            self.folder, self.bench.platform, published_at=self.bench.clock.now()
        )
        self.bench = await self.bench_with(structs.replace(config, hosting=hosting))

    async def owner(self) -> Client:
        client: Client = (await self.bench.owner())[0]
        return client

    async def agent(self) -> Client:
        client: Client = await self.bench.client(key_session(SEED))
        return client

    async def elsewhere(self, url: str, session: Session | None = None, **options: Any) -> Client:
        given = {
            "settings": SETTINGS,
            "clock": self.bench.clock,
            "entropy": self.bench.entropy,
            **options,
        }
        return await self.stack.enter_async_context(Client(url, session=session, **given))

    async def with_changed_answers(
        self, part: str, lie: Callable[[Answer], None], session: Session
    ) -> Client:
        """Return a client whose answers are changed for matching paths."""
        relay = await self.stack.enter_async_context(relay_before(self.bench.node.url))

        def twist(answer: Answer) -> None:
            if part in answer.path:
                lie(answer)

        relay.twist = twist
        return await self.elsewhere(relay.url, session)

    async def serve(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        return await self.stack.enter_async_context(serving(handler))

    async def backend(self) -> str:
        """Return the address of a backend that publishes its evidence."""
        domain = Domain(self.bench.platform, measurements_of("notes"))
        client = await self.agent()
        backend = Backend(client, domain, clock=self.bench.clock, entropy=self.bench.entropy)
        program = Program(client, backend, ("API_KEY",))
        surface = BackendSurface(
            domain, did=backend.did, manifest=MANIFEST, compose=None, on_grant=program.accept
        )
        return await self.stack.enter_async_context(serving(surface))

    async def look(self, url: str, options: CollateralOptions | None = None) -> Any:
        documents = Documents(
            self.bench.platform, self.bench.clock.now(), options or CollateralOptions()
        )
        inspector = Inspector(documents, root=parse_trust_root(self.bench.platform.root_der))
        return await fetch_evidence(
            url, inspector, clock=self.bench.clock, entropy=self.bench.entropy, settings=SETTINGS
        )


Cause = Callable[[World], Awaitable[object]]
CAUSES: dict[type[SealspaceError], Cause] = {}
BASES: set[type[SealspaceError]] = {
    SealspaceError,
    TransportError,
    BackendError,
    EncryptionError,
    ReplicaError,
}
"""Base classes that are never raised themselves."""


def cause(kind: type[SealspaceError]) -> Callable[[Cause], Cause]:
    def note(function: Cause) -> Cause:
        assert kind not in CAUSES
        CAUSES[kind] = function
        return function

    return note


# --- the caller's own mistake ---------------------------------------------------------------------


@cause(errors.InvalidInput)
async def _no_key(world: World) -> None:
    await (await world.owner()).kv().get("no key")


@cause(errors.InvalidSecretName)
async def _name(world: World) -> None:
    await (await world.owner()).secrets().get("api_key")


@cause(errors.InvalidSecretScope)
async def _scope(world: World) -> None:
    await (await world.owner()).secrets().list(scope="default")


@cause(errors.InvalidSecretValue)
async def _value(world: World) -> None:
    await (await world.owner()).secrets().put("A", None)  # type: ignore[arg-type]  # wrong on purpose


@cause(errors.InvalidKeystore)
async def _keystore(world: World) -> None:
    (world.folder / "keystore").write_text("{}")
    wallet_from_keystore(world.folder / "keystore", "password")


@cause(errors.WrongPassword)
async def _password(world: World) -> None:
    (world.folder / "keystore").write_text(json.dumps({"version": 3, "crypto": CRYPTO}))
    wallet_from_keystore(world.folder / "keystore", "password")


@cause(errors.InvalidShare)
async def _share(world: World) -> None:
    parse_share("open sesame")


@cause(errors.SharesMissing)
async def _shares(world: World) -> None:
    join_shares(split_key(bytes(32), threshold=2, shares=2)[:1])


@cause(errors.RecoveredKeyMismatch)
async def _recovered_key(world: World) -> None:
    recovery = OwnerRecovery()
    for share in split_key(bytes(31) + b"\1", threshold=2, shares=2):
        recovery.add_typed(share, name="a share")
    recovery.key(owner=(await world.owner()).session.owner)


@cause(errors.InvalidNetworkId)
async def _network_id(world: World) -> None:
    (await world.owner()).encryption.network("a/b")


@cause(errors.InvalidPolicy)
async def _policy(_world: World) -> None:
    NodePolicy(code=Policy())


@cause(errors.InvalidPortableDelegation)
async def _portable(_world: World) -> None:
    decode_portable(b"{}")


@cause(errors.InvalidSession)
async def _session(_world: World) -> None:
    decode_session(b"{}")


@cause(errors.ManifestInvalid)
async def _manifest(_world: World) -> None:
    parse_manifest({})


@cause(errors.ClientNotReady)
async def _no_space(world: World) -> None:
    (await world.agent()).kv()


@cause(errors.NotSignedIn)
async def _nobody(world: World) -> None:
    (await world.bench.client()).kv("notes")


@cause(errors.ClientClosed)
async def _closed(world: World) -> None:
    client = await world.owner()
    await client.close()
    await client.kv().get("a")


@cause(errors.NotGranted)
async def _not_granted(world: World) -> None:
    owner, agent = await world.owner(), await world.agent()
    await agent.kv(owner.kv().space.text).get("a")


@cause(errors.SessionExpired)
async def _expired(world: World) -> None:
    owner = await world.owner()
    world.bench.clock.advance(8 * 86_400)
    await owner.kv().get("a")


@cause(errors.LifetimeTooLong)
async def _lifetime(world: World) -> None:
    await (await world.owner()).kv().signed_url("a", ttl_s=301)


@cause(errors.BatchIncomplete)
async def _batch(world: World) -> None:
    kv = (await world.owner()).kv()
    keys = [str(number) for number in range(250)]
    await kv.put_many(dict.fromkeys(keys, b""))
    await kv.delete_many([*keys, "never"])


# --- the way to the node --------------------------------------------------------------------------


@cause(errors.NodeUnreachable)
async def _unreachable(world: World) -> None:
    with held_ports(1) as (port,):  # nobody listens there
        await (await world.elsewhere(f"http://127.0.0.1:{port}")).info()


@cause(errors.NodeTimeout)
async def _timeout(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        await (await world.elsewhere(url, settings=replace(SETTINGS, timeout_s=0.05))).info()


@cause(errors.TransferBroken)
async def _broken(world: World) -> None:
    owner = await world.owner()
    await owner.kv().put("a", b"one body")

    def other(answer: Answer) -> None:
        answer.body = b"another"

    client = await world.with_changed_answers("/invoke", other, owner.session)
    await client.kv().download("a", world.folder / "a")


@cause(errors.ResponseTooLarge)
async def _too_large(world: World) -> None:
    owner = await world.owner()
    await owner.kv().put("a", b"1")

    def longer(answer: Answer) -> None:
        answer.body = b"x" * 100

    await (
        (await world.with_changed_answers("/invoke", longer, owner.session))
        .kv()
        .get("a", max_bytes=10)
    )


@cause(errors.MalformedAnswer)
async def _malformed(world: World) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text='{"protocol": ')

    await (await world.elsewhere(await world.serve(page))).info()


@cause(errors.NodeMismatch)
async def _mismatch(world: World) -> None:
    await (await world.bench.client(pinned_node=key_session(SEED).did)).info()


@cause(errors.NodeEvidenceRefused)
async def _no_evidence(world: World) -> None:
    await (await world.bench.client()).node_attestation()


# --- refused by the node --------------------------------------------------------------------------


@cause(errors.SpacesNotHosted)
async def _not_hosted(world: World) -> None:
    await world.host(Hosting(mode="permit"))
    await world.owner()


@cause(errors.NodeRefused)
async def _bad_cursor(world: World) -> None:
    await (await world.owner()).kv().list_page(cursor="made-up")


@cause(errors.Unauthorized)
async def _not_mine(world: World) -> None:
    owner, other = await world.owner(), await world.owner()
    await other.delegations.revoke(owner.session.grants[0].cid)


@cause(errors.ActionNotAuthorized)
async def _not_covered(world: World) -> None:
    owner, agent, portable = await granted(world)
    token = mint(
        agent.session.signer,
        world.bench.entropy,
        audience=(await agent.info()).node_id,
        capabilities=[allow(f"{owner.kv().space.text}/kv/b", GET)],
        proofs=[portable.cid],
        expires_at=world.bench.clock.now() + 60,
    )
    async with Transport(world.bench.node.url) as transport:
        await transport.require(Request("POST", "/invoke", mint=lambda: token))


async def granted(world: World) -> tuple[Client, Client, Any]:
    owner, agent = await world.owner(), await world.agent()
    grant = [allow(f"{owner.kv().space.text}/kv/a", GET)]
    portable = await owner.delegations.delegate(agent.session.did, grant)
    await agent.delegations.accept(portable)
    return owner, agent, portable


@cause(errors.DelegationRevoked)
async def _revoked(world: World) -> None:
    owner, agent, portable = await granted(world)
    await owner.delegations.revoke(portable)
    await agent.kv(owner.kv().space.text).get("a")


@cause(errors.OwnerMoved)
async def _owner_moved(world: World) -> None:
    moved = await moved_team(world.bench)
    await moved.admins[0].acting.secrets().get("API_KEY")


@cause(errors.SuccessionInvalid)
async def _not_the_line_of_a_move(world: World) -> None:
    await (await world.owner()).team_moves.examine("smove_")


@cause(errors.TokenOutsideWindow)
async def _clock_ahead(world: World) -> None:
    owner = await world.owner()
    ahead = await world.elsewhere(
        owner.url, owner.session, clock=FixedClock(world.bench.clock.now() + 3600)
    )
    await ahead.kv().get("a")


@cause(errors.DecryptDenied)
async def _denied(world: World) -> None:
    owner, agent = await world.owner(), await world.agent()
    await owner.secrets().put("A", "1")
    grant = [allow(owner.secrets().resource("A"), GET)]
    grant.append(allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"))
    await agent.delegations.accept(await owner.delegations.delegate(agent.session.did, grant))
    await agent.secrets(owner.session.owner).get("A")


@cause(errors.ReleaseRefused)
async def _gate(world: World) -> None:
    with pytest.raises(DecryptDenied) as denied:
        await _denied(world)
    raise denied.value.refusal


@cause(errors.AttestationRefused)
async def _quote(world: World) -> None:
    owner = await world.owner()
    network = owner.encryption.network()
    challenge = await owner.attestation.challenge()
    await owner.attestation.open_session(
        network, challenge, Attested(quote=b"no quote", receiver_public_key=bytes(32))
    )


@cause(errors.NotFound)
async def _absent(world: World) -> None:
    await (await world.owner()).kv().get("a")


@cause(errors.SpaceNotFound)
async def _unhosted(world: World) -> None:
    await (await world.agent()).kv("unhosted").get("a")


@cause(errors.DuplicateRequest)
async def _again(world: World) -> None:
    client = await world.bench.client()
    await client.sign_in_with_key(SEED, spaces=("default",))
    for _ in range(2):
        await client.spaces().create("twice")


@cause(errors.PreconditionFailed)
async def _rival(world: World) -> None:
    kv = (await world.owner()).kv()
    for _ in range(2):
        await kv.put("a", b"1", if_absent=True)


@cause(errors.QuotaExceeded)
async def _full(world: World) -> None:
    await world.host(Hosting(default_quota_bytes=10))
    kv = (await world.owner()).kv()
    for key in "ab":
        await kv.put(key, b"x" * 10)


@cause(errors.ValueTooLarge)
async def _large(world: World) -> None:
    kv = (await world.owner()).kv()
    await kv.put("a", b"12345")
    await kv.get("a", max_bytes=4)


@cause(errors.RateLimited)
async def _often(world: World) -> None:
    owner = await world.bench.client()
    await owner.sign_in_with_key(SEED, spaces=("public",))
    await owner.kv("public").put("a", b"1")
    for _ in range(100):
        await owner.public(owner.kv("public").space.text).get("a")


@cause(errors.NodeFailure)
async def _failure(world: World) -> None:
    owner = await world.owner()

    def fail(answer: Answer) -> None:
        answer.status, answer.body = 500, b""

    await (await world.with_changed_answers("/invoke", fail, owner.session)).kv().get("a")


@cause(errors.StoreFull)
async def _full_store(world: World) -> None:
    owner = await world.owner()

    def fill(answer: Answer) -> None:
        answer.status, answer.body = 507, b"The node's store is full"

    await (await world.with_changed_answers("/invoke", fill, owner.session)).kv().put("a", b"1")


# --- backends and receipts ------------------------------------------------------------------------


@cause(errors.BackendUnreachable)
async def _no_backend(world: World) -> None:
    with held_ports(1) as (port,):
        await world.look(f"http://127.0.0.1:{port}")


@cause(errors.BackendAnswerInvalid)
async def _no_backend_there(world: World) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<h1>It works!</h1>")

    await world.look(await world.serve(page))


@cause(errors.BackendNotProven)
async def _another_root(world: World) -> None:
    seed = b"another platform" * 2
    url = await world.backend()
    world.bench.platform = type(world.bench.platform).from_seed(seed)
    await world.look(url)


@cause(errors.CollateralNeeded)
async def _no_collateral(world: World) -> None:
    inspector = Inspector(
        CollateralFolder(world.folder), root=parse_trust_root(world.bench.platform.root_der)
    )
    await fetch_evidence(await world.backend(), inspector, clock=world.bench.clock)


@cause(errors.BackendNotExpected)
async def _other_code(world: World) -> None:
    require_expected(await world.look(await world.backend()), ["ab" * 48])


@cause(errors.BackendNotAcceptable)
async def _long_ago(world: World) -> None:
    seen = await world.look(await world.backend())
    world.bench.clock.advance(LOOK_TTL_S + 1)
    await (await world.owner()).backends.grant(seen)


@cause(errors.GrantNotTaken)
async def _not_for_it(world: World) -> None:
    _owner, _agent, portable = await granted(world)
    url = await world.backend()
    await deliver(url, portable, settings=SETTINGS)  # a grant that opens no secret of its program


@cause(errors.GrantsFull)
async def _full_backend(world: World) -> None:
    _owner, agent, _ = await granted(world)
    (grant,) = agent.session.grants
    held = HeldGrants(most=1)
    grants = held.with_new(replace(grant, cid="first"), (), now=world.bench.clock.now())
    held.mark_read(["first"])
    held.with_new(grant, grants, now=world.bench.clock.now())


@cause(errors.ReceiptInvalid)
async def _receipt(world: World) -> None:
    owner = await owner_of(world.bench)

    def other(answer: Answer) -> None:
        answer.status, answer.body = 200, b"another document"

    await (await world.with_changed_answers("/receipts/", other, owner.session)).receipts.document(
        bytes(32)
    )


# --- sealing and opening --------------------------------------------------------------------------


@cause(errors.NetworkNotFound)
async def _no_network(world: World) -> None:
    owner = await world.owner()
    await owner.encryption.encrypt(b"", network=owner.encryption.network("other"))


@cause(errors.NetworkNotActive)
async def _ended(world: World) -> None:
    revoking = ("tinycloud.encryption/network.create", "tinycloud.encryption/network.revoke")
    owner: Client = (await world.bench.owner(SignIn(network_abilities=revoking)))[0]
    await owner.encryption.revoke_network(owner.encryption.network())
    await owner.secrets().put("A", "1")


@cause(errors.NetworkKeyChanged)
async def _other_key(world: World) -> None:
    owner = await world.owner()
    owner.use(owner.session.with_pin(NetworkPin(owner.encryption.network().text, b"k" * 32, 1)))
    await owner.secrets().put("A", "1")


@cause(errors.DescriptorUnsigned)
async def _unsigned(world: World) -> None:
    owner = await world.owner()
    client = await world.with_changed_answers(
        "/encryption/", lambda answer: answer.drop("nodeSignature"), owner.session
    )
    await client.secrets().put("A", "1")


async def opened(world: World, stored: bytes | str) -> None:
    owner = await world.owner()
    await owner.kv("secrets").put("vault/secrets/A", stored)
    await owner.secrets().get("A")


@cause(errors.InvalidEnvelope)
async def _no_envelope(world: World) -> None:
    owner = await world.owner()
    await owner.kv("secrets").put("vault/secrets/A", b"no envelope")
    await owner.secrets().get("A")


@cause(errors.LabelMismatch)
async def _moved(world: World) -> None:
    owner = await world.owner()
    await owner.secrets().put("A", "1")
    moved = await owner.kv("secrets").get("vault/secrets/A")
    await owner.kv("secrets").put("vault/secrets/B", moved.body)
    await owner.secrets().get("B")


@cause(errors.PlaceMismatch)
async def _relabelled(world: World) -> None:
    """The label is not authenticated, so the attacker changes it."""
    owner = await world.owner()
    await owner.secrets().put("A", "1")
    stored = await owner.secrets().envelope("A")
    label = secret_label(owner.kv("secrets").space, parse_secret_name("B"))
    moved = replace(stored, aad=encode_standard(label))
    await owner.kv("secrets").put("vault/secrets/B", encode_envelope(moved))
    await owner.secrets().get("B")


@cause(errors.UnboundValue)
async def _unbound(world: World) -> None:
    """A machine token reads a value of a client that knows no places."""
    owner, wallet = await world.bench.owner()
    await store_unbound(owner, "A", "1")
    line = await owner.delegations.create_token("deploy", ["A"], wallet=wallet)
    program = await world.bench.client(read_token(line))
    await program.secrets().get("A")


@cause(errors.InvalidResponse)
async def _spoilt(world: World) -> None:
    owner = await world.owner()
    envelope = await owner.encryption.encrypt(b"payload", network=owner.encryption.network())
    await owner.encryption.decrypt(replace(envelope, ciphertext=bytes(len(envelope.ciphertext))))


async def decrypting(world: World, **changed: object) -> None:
    owner = await world.owner()
    await owner.secrets().put("A", "1")
    client = await world.with_changed_answers(
        "/decrypt", lambda answer: answer.change(**changed), owner.session
    )
    await client.secrets().get("A")


@cause(errors.ResponseBindingMismatch)
async def _other_answer(world: World) -> None:
    await decrypting(world, requestHash="00" * 32)


@cause(errors.ResponseSignatureInvalid)
async def _forged(world: World) -> None:
    await decrypting(world, nodeSignature="AA==")


@cause(errors.InvalidSecretPayload)
async def _no_payload(world: World) -> None:
    owner = await world.owner()
    envelope = await owner.encryption.encrypt(b"no payload", network=owner.encryption.network())
    await owner.kv("secrets").put("vault/secrets/A", envelope_bytes(envelope))
    await owner.secrets().get("A")
