"""The parties of an attack: an owner with a secret, a delegate with its own key, and quotes for
both.

Everything a delegate sends is minted here, so that each part of it can be wrong on its own.

Example:
    owner = await stage.owner()
    delegate = Delegate(new_key())
    grant = owner.grant_decrypt(delegate.did, policy=policy_for("approved"))
    delegate.take(await stage.register(grant))
    await stage.attest(delegate, owner.network)
    reply = await stage.ask(delegate, owner)
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import libipld
from capability_cases import machine_statement
from deviating_platform import SimulatedPlatform
from running_node import (
    Grants,
    Reply,
    RunningNode,
    id_of,
    key_token,
    network_path,
    new_key,
    send,
    wallet_token,
)

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.facts import (
    ATTESTATION_FACT,
    MACHINE_FACT,
    MACHINE_URN,
    SESSION_FACT,
    statement_resource,
)
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.envelope import InlineEnvelope, open_envelope, parse_envelope
from encryption_network.keywrap import open_wrapped
from encryption_network.policy import Policy, ReceiverMode, policy_json
from encryption_network.requests import decrypt_body_json, decrypt_fact
from sealspace.client import Client, SignIn
from sealspace.encryption import ReceiverKey, new_receiver_key
from sealspace.wallets import new_wallet
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.report_data import session_binding
from tee_backend.evidence.simulated import measurements_of

DECRYPT = "tinycloud.encryption/decrypt"
SET_POLICY = "sealspace.encryption/policy"
GET, PUT, DELETE, LIST = (f"tinycloud.kv/{name}" for name in ("get", "put", "del", "list"))
READ_CAPABILITIES = "tinycloud.capabilities/read"
REVOKE = "tinycloud.delegation/revoke"
SETTINGS = TransportSettings(timeout_s=30, tries=1, backoff_s=0)
SECRET, VALUE = "API_KEY", "the value"
ENTROPY = SystemEntropy()

Route = Literal["route", "invoke"]
ROUTES: tuple[Route, ...] = ("route", "invoke")


def refused(code: str, route: Route = "route") -> tuple[int, str]:
    """Return the expected answer of a route for a release that the gate refuses (RL14)."""
    return (401 if route == "route" else 403), f"release refused: {code}"


def policy_for(*programs: str, **members: Any) -> Policy:
    """Return a policy that approves some programs by their simulated measurements."""
    return Policy(measurements=tuple(measurements_of(one) for one in programs), **members)


@dataclass
class Delegate:
    """A key that acts at the node, with its grants and its attested receiver key."""

    signer: Ed25519Signer = field(default_factory=new_key)
    proofs: list[str] = field(default_factory=list)
    receiver: ReceiverKey = field(default_factory=lambda: new_receiver_key(ENTROPY))

    @property
    def did(self) -> str:
        """The DID that owners delegate to."""
        return self.signer.did

    @property
    def did_url(self) -> str:
        """The DID URL that a wallet's sign-in names (J4)."""
        return self.signer.did_url

    def grant(
        self, audience: str, grants: Grants, *, policy: Policy | None = None, **more: Any
    ) -> str:
        """Return a delegation by this key that cites all its grants."""
        facts: list[Json] = [] if policy is None else [{ATTESTATION_FACT: policy_json(policy)}]
        given: dict[str, Any] = {"ttl_s": 600, "proofs": self.proofs, "facts": facts} | more
        return key_token(self.signer, audience, grants, **given)


@dataclass(frozen=True)
class Owner:
    """A user who has signed in and stored one secret."""

    client: Client
    wallet: WalletSigner
    envelope: InlineEnvelope

    @property
    def network(self) -> str:
        """Id of the default network."""
        return self.client.encryption.network().text

    @property
    def session(self) -> Delegate:
        """The session's key and its sign-in, as raw parts."""
        session = self.client.session
        return Delegate(session.signer, [grant.header for grant in session.grants])

    @property
    def secret(self) -> str:
        """Resource of the secret's envelope."""
        return self.client.secrets().resource(SECRET)

    def space(self, name: str = "default") -> str:
        """Id of a space of the owner."""
        return self.client.session.own_space(name).text

    def grant(self, audience: str, grants: Grants, **more: Any) -> str:
        """Return a delegation signed by the wallet."""
        return wallet_token(self.wallet, audience, grants, **more)

    def grant_decrypt(self, audience: str, **more: Any) -> str:
        """Return a wallet's delegation of decrypt on the default network."""
        return self.grant(audience, {self.network: [DECRYPT]}, **more)

    def machine(self, delegate: Delegate, *names: str, **more: Any) -> str:
        """Return a machine token by the wallet for the secret, or for the named secrets."""
        paths = [self.client.secrets().resource(name) for name in names or (SECRET,)]
        return machine_token(self.wallet, delegate.did, paths, self.network, **more)

    def sign_in(self, audience: str, *, space: str = "default", **more: Any) -> str:
        """Return a wallet's sign-in with every right that a release needs."""
        grants = {self.network: [DECRYPT], f"{self.space(space)}/capabilities": [READ_CAPABILITIES]}
        return self.grant(audience, grants, **more)


def machine_token(
    signer: WalletSigner | Ed25519Signer,
    did: str,
    paths: Sequence[str],
    network: str,
    *,
    ttl_s: int = 3600,
    ends_at: int | None = None,
    also: Grants | None = None,
    policy: Policy | None = None,
    facts: Sequence[Json] = (),
    proofs: Sequence[str] = (),
    **stated: Json,
) -> str:
    """Return a delegation that states that it is a machine token.

    Args:
        signer: an owner's wallet or key.
        did: the delegate.
        paths: resources of secrets.
        network: id of the network.
        ttl_s: seconds until it ends.
        ends_at: epoch seconds at which it ends, in place of `ttl_s`.
        also: what it grants beside its paths and decrypt.
        policy: stated beside it.
        facts: further facts of a key's token.
        proofs: what it cites.
        stated: members that replace those of the statement.
    """
    if ends_at is None:
        ends_at = int(time.time()) + ttl_s
    statement = machine_statement(key=did, paths=paths, ends_at=ends_at, name="deploy") | stated
    grants = {**{path: [GET] for path in paths}, network: [DECRYPT], **(also or {})}
    if isinstance(signer, WalletSigner):
        stated_there = [statement_resource(statement, urn=MACHINE_URN)]
        return wallet_token(
            signer,
            did,
            grants,
            ends_at=ends_at,
            policy=policy,
            resources=stated_there,
            parents=ids(*proofs),
        )
    every: list[Json] = [{MACHINE_FACT: statement}, *facts]
    if policy is not None:
        every.append({ATTESTATION_FACT: policy_json(policy)})
    return key_token(signer, did, grants, ends_at=ends_at, facts=every, proofs=proofs)


@dataclass(frozen=True, kw_only=True)
class Decrypt:
    """A decrypt request: token and body."""

    token: str
    body: bytes
    network: str


@dataclass
class Stage:
    """A running node, its trusted platform, and the parties that act on it.

    Attributes:
        url: where the node listens.
        platform: whose quotes it accepts.
        clients: ends what was opened here.
        node_did: the node's DID.
        node: its processes; None when it runs in this one.
    """

    url: str
    platform: SimulatedPlatform
    clients: AsyncExitStack
    node_did: str
    node: RunningNode | None = None

    def only(self, worker: int) -> AbstractContextManager[None]:
        """Stop all workers but one while the block runs."""
        assert self.node is not None
        return self.node.only(worker)

    async def client(self) -> Client:
        """Return a client without a session, which is closed with the stage."""
        return await self.clients.enter_async_context(Client(self.url, settings=SETTINGS))

    async def owner(self, *spaces: str, wallet: WalletSigner | None = None) -> Owner:
        """Sign in an owner, a new one by default, who stores a secret."""
        client = await self.client()
        wallet = wallet or new_wallet()
        await client.sign_in(wallet, SignIn(spaces=spaces))
        await client.secrets().put(SECRET, VALUE)
        path = client.secrets().resource(SECRET).partition("/kv/")[2]
        return Owner(client, wallet, parse_envelope((await client.kv("secrets").get(path)).body))

    async def post(self, path: str, token: str) -> Reply:
        """Send a bare token to a route."""
        return await send(self.url, "POST", path, token=token)

    async def register(self, token: str) -> str:
        """Post a delegation that must be accepted, and return it."""
        reply = await self.post("/delegate", token)
        assert reply.status == 200, reply.said
        return token

    async def invoke(
        self,
        signer: Ed25519Signer,
        grants: Grants,
        *,
        proofs: Sequence[str] = (),
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Reply:
        """Invoke capabilities with a fresh token."""
        token = key_token(signer, signer.did, grants, proofs=proofs, **more)
        return await send(self.url, "POST", "/invoke", token=token, body=body, headers=headers)

    # --- attestation ------------------------------------------------------------------------------

    async def nonce(self, did: str) -> bytes:
        """Ask for a challenge."""
        reply = await send(
            self.url, "POST", "/attestation/challenge", body=canonical_bytes({"did": did})
        )
        assert reply.status == 200, reply.said
        return bytes(libipld.decode_multibase("u" + str(reply.value["nonce"]))[1])

    def report_data(
        self, holder: str, receiver: bytes, nonce: bytes, *, mode: ReceiverMode = "attested"
    ) -> bytes:
        """Return the report data that a quote must contain."""
        return session_binding(
            nonce, self.node_did, parse_principal(holder), mode, receiver
        ).report_data

    def quote(
        self,
        holder: str,
        receiver: bytes,
        nonce: bytes,
        *,
        program: str = "approved",
        mode: ReceiverMode = "attested",
    ) -> bytes:
        """Have the platform make a quote of a program."""
        return self.platform.mint_quote(
            measurements_of(program), self.report_data(holder, receiver, nonce, mode=mode)
        )

    async def submit_quote(
        self,
        delegate: Delegate,
        network: str,
        *,
        nonce: bytes,
        quote: bytes,
        mode: str = "attested",
        more: Mapping[str, Json] | None = None,
        ttl_s: float = 60,
    ) -> Reply:
        """Send a quote, with any content, by the delegate's authority."""
        token, body = self.session_request(
            delegate, network, nonce=nonce, quote=quote, mode=mode, more=more, ttl_s=ttl_s
        )
        return await send(self.url, "POST", "/attestation/sessions", token=token, body=body)

    def session_request(
        self,
        delegate: Delegate,
        network: str,
        *,
        nonce: bytes,
        quote: bytes,
        mode: str = "attested",
        more: Mapping[str, Json] | None = None,
        ttl_s: float = 60,
    ) -> tuple[str, bytes]:
        """Return token and body that hand a quote in."""
        body: dict[str, Json] = {
            "quote": base64_of(quote),
            "eventLog": None,
            "receiverPublicKey": base64_of(delegate.receiver.public_key),
            "receiverMode": mode,
            **(more or {}),
        }
        nonce_text = libipld.encode_multibase("u", nonce)[1:]
        fact: Json = {"type": SESSION_FACT, "nonce": nonce_text, "bodyHash": canonical_hash(body)}
        token = key_token(
            delegate.signer,
            self.node_did,
            {network: [DECRYPT]},
            proofs=delegate.proofs,
            facts=[fact],
            ttl_s=ttl_s,
        )
        return token, canonical_bytes(body)

    async def attest(self, delegate: Delegate, network: str, *, program: str = "approved") -> None:
        """Prove to the node that the delegate is a program."""
        nonce = await self.nonce(delegate.did)
        quote = self.quote(delegate.did, delegate.receiver.public_key, nonce, program=program)
        reply = await self.submit_quote(delegate, network, nonce=nonce, quote=quote)
        assert reply.status == 200, reply.said

    # --- release ----------------------------------------------------------------------------------

    def decrypt(
        self,
        delegate: Delegate,
        owner: Owner,
        *,
        receiver: bytes | None = None,
        also: Grants | None = None,
        audience: str | None = None,
        proofs: Sequence[str] | None = None,
        ttl_s: float = 60,
        envelope: InlineEnvelope | None = None,
        caveats: Sequence[Mapping[str, Json]] = ({},),
    ) -> Decrypt:
        """Return a request for the content key of the owner's secret."""
        sealed = envelope or owner.envelope
        body = decrypt_body_json(
            owner.network,
            target_node=self.node_did,
            alg=sealed.alg,
            key_version=sealed.key_version,
            encrypted_symmetric_key=sealed.encrypted_symmetric_key,
            receiver_public_key=receiver or delegate.receiver.public_key,
        )
        token = key_token(
            delegate.signer,
            audience or self.node_did,
            {owner.network: [DECRYPT], **(also or {})},
            proofs=delegate.proofs if proofs is None else proofs,
            facts=[decrypt_fact(body)],
            ttl_s=ttl_s,
            caveats=caveats,
        )
        return Decrypt(token=token, body=canonical_bytes(body), network=owner.network)

    async def send_decrypt(
        self, request: Decrypt, route: Route = "route", *, token: str | None = None
    ) -> Reply:
        """Send a request on one of the two routes."""
        path = "/invoke" if route == "invoke" else network_path(request.network, "decrypt")
        return await send(self.url, "POST", path, token=token or request.token, body=request.body)

    async def ask(
        self, delegate: Delegate, owner: Owner, route: Route = "route", **more: Any
    ) -> Reply:
        """Ask for the content key of the owner's secret."""
        return await self.send_decrypt(self.decrypt(delegate, owner, **more), route)


async def release_to_machine(
    url: str, platform: SimulatedPlatform, wallet: WalletSigner, *, name: str = "deploy"
) -> str:
    """Store a secret, read it with a machine token's key, and return that key."""
    async with AsyncExitStack() as clients:
        stage, holder = await stage_on(url, platform, clients), Delegate()
        owner = await stage.owner(wallet=wallet)
        holder.proofs = [await stage.register(owner.machine(holder, name=name))]
        assert opens(await stage.ask(holder, owner), holder, owner)
        return holder.did


async def put_policy(stage: Stage, who: Delegate, owner: Owner, policy: Policy) -> Reply:
    """Ask to replace the owner's policy."""
    value = policy_json(policy)
    fact: Json = {
        "type": "sealspace.encryption.policy/v1",
        "targetNode": stage.node_did,
        "networkId": owner.network,
        "bodyHash": canonical_hash(value),
    }
    token = who.grant(stage.node_did, {owner.network: [SET_POLICY]}, facts=[fact], ttl_s=60)
    path = network_path(owner.network, "policy")
    return await send(stage.url, "PUT", path, token=token, body=canonical_bytes(value))


async def stage_on(url: str, platform: SimulatedPlatform, clients: AsyncExitStack) -> Stage:
    """Return the stage on a node that runs."""
    info = await send(url, "GET", "/info")
    return Stage(url, platform, clients, str(info.value["nodeId"]))


def opens(reply: Reply, delegate: Delegate, owner: Owner) -> bool:
    """Return whether an answer gave the delegate the owner's content key."""
    assert reply.status == 200, reply.said
    wrapped = libipld.decode_multibase("M" + str(reply.value["wrappedKey"]))[1]
    key = open_wrapped(delegate.receiver.private_key, wrapped)
    return VALUE.encode() in open_envelope(owner.envelope, key)


def base64_of(data: bytes) -> str:
    """Return standard base64 with padding."""
    return str(libipld.encode_multibase("M", data))[1:]


def ids(*tokens: str) -> list[str]:
    """Return the ids of tokens."""
    return [id_of(token) for token in tokens]
