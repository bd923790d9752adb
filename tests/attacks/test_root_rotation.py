"""A node before, during and after the replacement of its root secret (RK1 to RK9)."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    GET,
    PUT,
    SECRET,
    SETTINGS,
    VALUE,
    Delegate,
    Owner,
    Stage,
    opens,
    policy_for,
    stage_on,
)
from attacks.test_id_tokens import GITHUB, exchange, trust_of
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from engines import needs_folder
from forked_programs import forked_program
from msgspec.structs import replace
from oidc_issuer import Issuer, github_claims
from running_node import send
from sms_owner import SmsOwner, challenge, new_owner
from trust_settings import MANY_CHALLENGES, trusting_config

from capabilities.audit_export import verify_export
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.keyring import KEPT_KEYS_SEAL, NETWORK_SEAL, NODE_IDENTITY, Keyring
from encryption_network.keywrap import open_blob
from encryption_network.network_errors import RequestError
from node.cli.opened_store import own_keyring
from node.config.tree import Config, Sms
from node.storage.root_rotation import Replacement
from node.storage.stores import open_store
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import NodeFailure, SealspaceError
from sealspace.wallets import new_wallet
from spaces.audit.audit_chain import Chain, exported_lines, seal_batch
from spaces.identity import recorded_identity
from spaces.keyspace import NETWORKS_PREFIX
from spaces.store.contract import Range, Store, pages_of
from spaces.store.lmdb.engine import read_lmdb

pytestmark = pytest.mark.slow

ENTROPY = SystemEntropy()


@dataclass
class Life:
    """What people did at a node, to be repeated after its root secret was replaced."""

    owner: Owner
    backend: Delegate
    machine: Delegate
    issuer: Issuer
    trust: str
    sms: SmsOwner
    cursor: str
    signed_url: str
    info: dict[str, object]
    space_did: str


@asynccontextmanager
async def served(
    config: Config, platform: SimulatedPlatform
) -> AsyncIterator[tuple[EmbeddedNode, Stage]]:
    """Run a node, and put a stage on it."""
    async with embedded_node(config) as node, AsyncExitStack() as clients:
        yield node, await stage_on(node.url, platform, clients)


async def people(node: EmbeddedNode, stage: Stage, home: Path) -> Life:
    """Let people use the node in every way that depends on its keys."""
    owner, issuer = await stage.owner(), Issuer(GITHUB)
    backend, machine = Delegate(), Delegate()
    grant = owner.grant_decrypt(backend.did, policy=policy_for("approved"))
    backend.proofs = [await stage.register(grant)]
    await stage.attest(backend, owner.network)
    machine.proofs = [await stage.register(owner.machine(machine))]
    sms = await new_owner(home, node.url, node.sms_url)
    await sms.enable("--public-checks")
    assert (await sms.push_result("token", b"first")).status == 204
    values = owner.client.kv()
    for name in ("a", "b", "c"):
        await values.put(name, name.encode())
    page = await stage.invoke(
        owner.session.signer,
        {f"{owner.space()}/kv/": ["tinycloud.kv/list"]},
        proofs=owner.session.proofs,
        headers={"x-tinycloud-limit": "1"},
    )
    return Life(
        owner=owner,
        backend=backend,
        machine=machine,
        issuer=issuer,
        trust=await trust_of(owner, issuer),
        sms=sms,
        cursor=page.headers["x-tinycloud-next-cursor"],
        signed_url=(await values.signed_url("a")).url,
        info=dict((await send(node.url, "GET", "/info")).value),
        space_did=(await send(node.url, "GET", f"/peer/generate/{owner.space()}")).text,
    )


def at_node(life: Life, stage: Stage) -> Owner:
    """Return the owner with the former session, at the address of a node."""
    client = Client(stage.url, settings=SETTINGS, session=life.owner.client.session)
    return Owner(client, life.owner.wallet, life.owner.envelope)


async def check_people(node: EmbeddedNode, stage: Stage, life: Life) -> None:
    """Check that everyone goes on with what they had."""
    owner = at_node(life, stage)
    async with owner.client as client:
        # in person, with a session from before and after a new sign-in
        assert await client.secrets().get(SECRET) == VALUE
        await client.secrets().put("LATER", "later")
        assert (await client.kv().get("a")).body == b"a"
    async with Client(stage.url, settings=SETTINGS) as client:
        await client.sign_in(life.owner.wallet)
        assert await client.secrets().get("LATER") == "later"
    # a backend with the evidence from before, and after attesting again
    assert opens(await stage.ask(life.backend, owner), life.backend, owner)
    await stage.attest(life.backend, owner.network)
    assert opens(await stage.ask(life.backend, owner), life.backend, owner)
    assert opens(await stage.ask(life.machine, owner), life.machine, owner)
    # a trust from before
    job = Delegate()
    token = life.issuer.token(github_claims(), audience=stage.node_did)
    assert (await exchange(stage, life.trust, token, job)).status == 200
    assert opens(await stage.ask(job, owner), job, owner)
    path = life.signed_url[life.signed_url.index("/signed/") :]
    assert (await send(stage.url, "GET", path)).body == b"a"
    # the service for iExec's clients, with its grant and its used challenges from before
    sms = SmsOwner(life.sms.home, node.url, node.sms_url)
    assert (await sms.push_result("token", ENTROPY.token(8).hex().encode(), "PUT")).status == 204
    assert (await sms.push_result("token", b"first", "PUT")).status == 401
    info = (await send(node.url, "GET", "/info")).value
    for name in ("nodeId", "oidcDid", "smsDid"):
        assert info[name] == life.info[name], name


def config_of(tmp_path: Path, platform: SimulatedPlatform) -> Config:
    """Return the settings of a node with the service for iExec's clients."""
    config = trusting_config(tmp_path, platform, limits=MANY_CHALLENGES)
    return replace(config, sms=Sms(listen="127.0.0.1:0"))


def options_of(config: Config) -> list[str]:
    """Return the options of commands for the store of a node."""
    options = ["--data", str(config.data)]
    return options if config.store.url is None else [*options, "--store", config.store.url]


async def rotate(config: Config, *more: str) -> int:
    """Run the command, and return its exit status."""
    return await asyncio.to_thread(main, ["admin", "root", "rotate", *options_of(config), *more])


async def test_RK3_everyone_goes_on(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """After one replacement and after a second one, everything works as before.

    Cursors of lists end (RK8), and the DIDs of spaces change.
    """
    config = config_of(tmp_path, platform)
    async with served(config, platform) as (node, stage):
        life = await people(node, stage, tmp_path / "home")
    for _ in range(2):
        assert await rotate(config) == 0
        async with served(config, platform) as (node, stage):
            await check_people(node, stage, life)
            space = life.owner.space()
            assert (await send(node.url, "GET", f"/peer/generate/{space}")).text != life.space_did
            await check_cursor(stage, life)
            assert node.services.keyring.has_kept_keys


async def check_cursor(stage: Stage, life: Life) -> None:
    """Check that a cursor from before is refused."""
    page = await stage.invoke(
        life.owner.session.signer,
        {f"{life.owner.space()}/kv/": ["tinycloud.kv/list"]},
        proofs=life.owner.session.proofs,
        headers={"x-tinycloud-limit": "1", "x-tinycloud-cursor": life.cursor},
    )
    assert page.status == 400, page.said


async def test_RK8_uses_that_earlier_versions_recorded(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """A challenge whose use an earlier version recorded is refused until the first replacement."""
    config = config_of(tmp_path, platform)
    async with served(config, platform) as (node, _stage):
        sms = await new_owner(tmp_path / "home", node.url, node.sms_url)
        await sms.enable()
        hashed = challenge(sms.address, b"token", b"v")
        digest = node.services.keyring.derive(b"sealspace/sms/challenge" + hashed).hex()
        async with sms.client() as client:
            values = client.kv("secrets")
            right = allow(f"{values.space.text}/kv/iexec/", PUT)
            await client.delegations.add_right(sms.wallet, [right])
            await values.put(f"iexec/used/{digest}", b"")
        refused_push = await sms.push_result("token", b"v")
        assert (refused_push.status, refused_push.value["code"]) == (401, "sms-challenge-used")
        assert (await sms.push_result("token", b"w")).status == 204


# --- the former secret ----------------------------------------------------------------------------


def opened_parts(value: bytes, keys: Sequence[bytes]) -> list[bytes]:
    """Return all that the keys open anywhere in a row."""
    found: list[bytes] = []
    for start in range(len(value)):
        if value[start] != 1:
            continue
        for end in range(start + 29, min(len(value), start + 700) + 1):
            # every record of a store is sealed by one of these keys, with the tag at its end
            for key in keys:
                try:
                    found.append(open_blob(key, value[start:end]))
                except RequestError:
                    continue
    return found


async def sealed_rows(store: Store) -> dict[bytes, bytes]:
    """Return the rows that can contain something sealed by the root secret."""
    rows: dict[bytes, bytes] = {}
    for prefix in (NETWORKS_PREFIX, b"m"):
        async for page in pages_of(store, Range(prefix)):
            rows.update({key: record.value or b"" for key, record in page.rows})
    return rows


@needs_folder()
async def test_RK5_the_former_secret_opens_nothing(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """The former secret opens no row and occurs in none; neither in a backup made afterwards."""
    config = config_of(tmp_path, platform)
    async with served(config, platform) as (node, stage):
        await people(node, stage, tmp_path / "home")
    secret = (config.data / "secret").read_bytes()
    former = Keyring(secret)
    keys = [former.derive(NETWORK_SEAL), former.derive(KEPT_KEYS_SEAL)]
    store = read_lmdb(config.data)
    assert len(await opened_everywhere(store, keys)) == 2  # the networks of both owners
    await store.close()
    assert await rotate(config) == 0
    store = read_lmdb(config.data)
    try:
        assert await opened_everywhere(store, keys) == []
        former_keys = (secret, *keys, former.derive(NODE_IDENTITY))
        for first_byte in range(256):
            async for page in pages_of(store, Range(bytes([first_byte]))):
                values = [record.value or b"" for _, record in page.rows]
                assert not any(key in value for value in values for key in former_keys)
    finally:
        await store.close()
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert await admin("backup", str(backup), *options_of(config)) == 0
    assert await admin("restore", str(backup), "--data", str(restored)) == 0
    # A restored folder has no pages of the former store.
    for file in (backup, restored / "store" / "data.mdb"):
        assert secret not in file.read_bytes()
    store = read_lmdb(restored)
    assert await opened_everywhere(store, keys) == []
    await store.close()


async def opened_everywhere(store: Store, keys: Sequence[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for value in (await sealed_rows(store)).values():
        found += opened_parts(value, keys)
    return found


async def admin(*arguments: str, database: str | None = None) -> int:
    """Run a command of the operator in a process of its own, and return its exit status."""
    called = [forked_program("sealspace"), "admin", *arguments]
    environment = dict(os.environ)
    if database is not None:
        environment["SEALSPACE_STORE__URL"] = database
    done = await asyncio.to_thread(
        subprocess.run, called, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode


# --- a new identity -------------------------------------------------------------------------------


async def test_RK9_a_new_identity(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """With a new identity, the node has other DIDs, and secrets still open after a new sign-in.

    Trusts and tokens for the former node end. The audit log can be exported and verified.
    """
    config = config_of(tmp_path, platform)
    async with served(config, platform) as (node, stage):
        life = await people(node, stage, tmp_path / "home")
    data = ["--data", str(config.data)]
    assert await admin("audit", "export", *data, database=config.store.url) == 0
    assert await rotate(config, "--new-identity") != 0  # there is no terminal to ask
    assert await rotate(config, "--new-identity", "--yes") == 0
    async with served(config, platform) as (node, stage):
        info = (await send(node.url, "GET", "/info")).value
        for name in ("nodeId", "oidcDid", "smsDid"):
            assert info[name] != life.info[name], name
        async with Client(stage.url, settings=SETTINGS) as client:
            await client.sign_in(life.owner.wallet)
            assert await client.secrets().get(SECRET) == VALUE
        token = life.issuer.token(github_claims(), audience=str(life.info["nodeId"]))
        assert (await exchange(stage, life.trust, token, Delegate())).status == 401
        sms = SmsOwner(life.sms.home, node.url, node.sms_url)
        assert (await sms.push_result("token", b"second", "PUT")).status == 401
    await check_export(config, str(info["nodeId"]))


async def check_export(config: Config, node_did: str) -> None:
    store = open_store(config)
    try:
        keyring = await own_keyring(config, store)
        identity = await recorded_identity(store)
        assert identity is not None
        chain = Chain(node_did, identity.store_id, keyring.node_signer.sign)
        while (await seal_batch(store, chain, now=time.time(), is_last=True)).more:
            pass
        lines = [line async for line in exported_lines(store, chain)]
    finally:
        await store.close()
    verified = verify_export(iter(lines), node_did=node_did)
    assert verified.is_covered
    assert any(b"root-secret.replaced" in line for line in lines)


# --- a node that was not stopped ------------------------------------------------------------------


async def test_RK4_a_node_with_the_former_secret(held: HeldStage) -> None:
    """A process that still has the former secret releases no key and makes no network.

    It serves values meanwhile, but stores no envelope: it could not record the path of the content
    key in it (RL21). `/readyz` says that it has to be restarted.
    """
    owner = await held.owner()
    services = held.services
    new = Keyring(ENTROPY.token(32))
    replacement = Replacement(
        store=services.store,
        offered=Keyring((services.config.data / "secret").read_bytes()),
        new=new,
        new_identity=False,
        clock=SystemClock(),
        entropy=ENTROPY,
        progress=lambda _: None,
    )
    making = held.store.hold(lambda commit: any(put.key[:1] == b"N" for put in commit.puts))
    stranger = new_wallet()
    newcomer = await held.client()
    signing_in = asyncio.create_task(newcomer.sign_in(stranger))
    await making.reached.wait()  # a network was sealed by the former secret, and is not stored yet
    held.store.hold(lambda _: False)
    done = await replacement.run()
    assert done.networks == 1
    making.go.set()
    with pytest.raises(SealspaceError, match="root secret was replaced"):
        await signing_in
    with pytest.raises(NodeFailure, match="root secret was replaced"):
        await owner.client.secrets().get(SECRET)
    reply = await held.ask(owner.session, owner)
    assert reply.status == 503
    reply = await held.invoke(
        owner.session.signer, {owner.secret: [GET]}, proofs=owner.session.proofs
    )
    assert reply.status == 200
    await owner.client.kv("default").put("plain", b"value")
    with pytest.raises(NodeFailure, match="root secret was replaced"):
        await owner.client.secrets().put("LATER", "later")
    with pytest.raises(NodeFailure, match="root secret was replaced"):
        await owner.client.secrets().put_many({"LATER": "later", "MORE": "x" * 100_000})
    assert await owner.client.secrets().list() == (SECRET,)
    ready = await send(held.url, "GET", "/readyz")
    assert ready.status == 503
    assert "must be restarted" in str(ready.value["closed"])
