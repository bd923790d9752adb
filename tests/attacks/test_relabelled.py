"""Envelopes of other secrets with a changed or removed label are refused at every door (EN45).

Nothing authenticates the label of an envelope (EN22). The attacker may write at the path of one
secret, and stores the envelope of another secret of the owner there. Each door first reads the
right value, so that its refusal has no other cause.

The node refuses the key of such an envelope to everybody but the owner in person (RL22). Doors for
others are therefore tried twice: with the node's check, and with a node that has forgotten which
path stored the key, so that only the reader's own check is left.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backend_site import Domain
from deviating_platform import SimulatedPlatform
from door_stage import DoorBench, open_door
from embedded_node import EmbeddedNode, embedded_node
from forked_programs import forked_program
from mcp_agent import SHOW, agent_of
from mcp_agent import allow as allow_agents
from oidc_issuer import SHOP, Issuer, github_claims
from owner_desk import OwnerDesk, Ran
from owner_machine import Owner, new_machine
from relabelled import LABELS, Label, move, relabelled
from tests_support import CountingEntropy, FixedClock
from trust_settings import trusting_config

from capabilities.abilities import DECRYPT, KV_GET, KV_PUT
from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from encryption_network.envelope import parse_envelope
from encryption_network.policy import Policy
from sealspace.cli.owner.owner_profile import OwnerHome
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    ContactsInvalid,
    InvalidEnvelope,
    InvalidSecretPayload,
    LabelMismatch,
    PlaceMismatch,
    SealspaceError,
)
from sealspace.session import Session, key_session
from sealspace.wallets import Wallet, new_wallet
from sealspace.wire.caller import Caller
from sealspace.wire.id_tokens import exchange
from sealspace.wire.token_line import read_token
from sealspace.wire.transport import Transport
from spaces.keyspace import KEY_PLACES_PREFIX
from spaces.store.contract import Commit, Committed, Put, Range, read_page
from tee_backend.backend import Backend
from tee_backend.evidence.simulated import measurements_of

pytestmark = pytest.mark.slow

RIGHT, OTHER = "right-7f3a91d4e2", "other-7f3a91d4e2"
REFUSED = "place-mismatch"
"""Code of the error; also for its message, where a door has no codes."""
SAID = "was sealed for another place"
CODE = measurements_of("approved")
PATH = "vault/secrets/API_KEY"


@dataclass
class Scene:
    """An owner with two secrets, and an attacker who may write one and fetch both envelopes."""

    node: EmbeddedNode
    platform: SimulatedPlatform
    machine: Owner
    owner: Client
    attacker: Client
    clients: AsyncExitStack

    @property
    def desk(self) -> OwnerDesk:
        return self.machine.desk

    @property
    def wallet(self) -> Wallet:
        wallet = OwnerHome(self.desk.home).profile().wallet()
        assert wallet is not None
        return wallet

    async def client(self, session: Session | None = None) -> Client:
        return await self.clients.enter_async_context(Client(self.node.url, session=session))

    async def friend(self) -> tuple[Client, Wallet]:
        """Return another person with a network."""
        client, wallet = await self.client(), new_wallet()
        await client.sign_in(wallet)
        await client.encryption.ensure_network()
        return client, wallet

    async def relabel(self, label: Label) -> None:
        """Store the envelope of BANK at API_KEY, with no other rights than the attacker's."""
        values = self.attacker.kv(self.owner.kv("secrets").space.text)
        envelope = parse_envelope((await values.get("vault/secrets/BANK")).body)
        await values.put(PATH, relabelled(envelope, self.owner, PATH, label))

    async def forget_paths(self) -> None:
        """Remove what the node has recorded about the paths of content keys (RL21)."""
        store = self.node.services.store
        rows = (await read_page(store, Range(KEY_PLACES_PREFIX, limit=4096))).rows
        result = await store.commit(Commit(puts=tuple(Put(key, None) for key, _record in rows)))
        assert isinstance(result, Committed)


@pytest.fixture
async def scene(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    """A node that trusts the simulated platform, with the owner's machine."""
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME", "SEALSPACE_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    machine = new_machine(tmp_path / "owner")
    async with (
        embedded_node(trusting_config(tmp_path, platform)) as node,
        AsyncExitStack() as clients,
    ):
        home = machine.folder / "home" / ".sealspace"
        desk = OwnerDesk(node, node.url, home, capsys, monkeypatch)
        await desk.log_in()
        owner = await clients.enter_async_context(desk.client())
        await owner.secrets().put_many({"API_KEY": RIGHT, "BANK": OTHER})
        attacker = await clients.enter_async_context(
            Client(node.url, session=key_session(bytes([7]) * 32))
        )
        at, other = (owner.secrets().resource(one) for one in ("API_KEY", "BANK"))
        rights = [allow(at, KV_PUT), allow(other, KV_GET)]
        await attacker.delegations.accept(
            await owner.delegations.delegate(attacker.session.did, rights, ttl_s=600)
        )
        commands = (forked_program("sealspace"),)
        of_owner = Owner(machine.folder, desk, command=commands)
        yield Scene(node, platform, of_owner, owner, attacker, clients)


def outcome(ran: Ran) -> str:
    """Return the output of a command, or the code of its error."""
    if ran.status == 0:
        return ran.out
    return REFUSED if SAID in ran.err else ran.err


# --- the doors ------------------------------------------------------------------------------------


async def _sdk(scene: Scene) -> object:
    return await scene.owner.secrets().get("API_KEY")


async def _sdk_batch(scene: Scene) -> object:
    return (await scene.owner.secrets().get_many(["API_KEY"]))["API_KEY"]


async def _sdk_version(scene: Scene) -> object:
    newest = (await scene.owner.secrets().versions("API_KEY"))[0].version
    return await scene.owner.secrets().get("API_KEY", version=newest)


async def _command(scene: Scene) -> object:
    return outcome(await scene.desk.run("secret", "get", "API_KEY"))


async def _export(scene: Scene) -> object:
    file = scene.machine.folder / "exported"
    file.unlink(missing_ok=True)
    ran = await scene.desk.run("secret", "export", "--out", str(file), "--yes")
    if ran.status:
        assert not file.exists()
        return outcome(ran)
    lines = dict(line.split("=", 1) for line in file.read_text().split())
    return lines["API_KEY"].strip("'")


async def _template(scene: Scene) -> object:
    return outcome(await scene.desk.run("template", "-", given='{{ secret "API_KEY" }}'))


async def _run(scene: Scene) -> object:
    script = f'test "$API_KEY" = {RIGHT} && echo right'
    ran = await scene.machine.run("run", "--only=API_KEY", "--", "sh", "-c", script)
    if ran.stdout == b"right\n":
        return RIGHT
    return REFUSED if SAID in ran.stderr.decode() else (ran.stdout, ran.stderr)


async def _agent(scene: Scene) -> object:
    listed = {"program": SHOW[0], "arguments": SHOW[1:], "secrets": ["API_KEY"]}
    allow_agents(scene.machine, commands=[listed])
    async with agent_of(scene.machine) as agent:
        told = await agent.run_command(*SHOW)
    if "got ***" in told:
        return RIGHT
    return REFUSED if SAID in told else told


async def _machine_token(scene: Scene) -> object:
    line = await scene.owner.delegations.create_token("deploy", ["API_KEY"], wallet=scene.wallet)
    program = await scene.client(read_token(line))
    return await program.secrets().get("API_KEY")


async def _ci_job(scene: Scene) -> object:
    issuer = Issuer("https://ci.test")
    trust = await scene.owner.delegations.trust_issuer(
        "shop",
        ["API_KEY"],
        issuer=issuer.address,
        claims={"repository_id": [SHOP["repository_id"]]},
        jwks=issuer.jwks,
        wallet=scene.wallet,
    )
    token = issuer.token(github_claims(), audience=scene.node.services.keyring.node_did)
    async with Transport(scene.node.url) as transport:
        caller = Caller(transport=transport, clock=SystemClock(), entropy=SystemEntropy())
        line = await exchange(caller, token=token, trust=trust, seed=bytes([3]) * 32)
    job = await scene.client(read_token(line))
    return await job.secrets().get("API_KEY")


async def _backend(scene: Scene) -> object:
    agent = await scene.client(key_session(SystemEntropy().token(32)))
    rights = [
        allow(scene.owner.secrets().resource("API_KEY"), KV_GET),
        allow(scene.owner.encryption.network().text, DECRYPT),
    ]
    policy = Policy(measurements=(CODE,))
    portable = await scene.owner.delegations.delegate(agent.session.did, rights, policy=policy)
    backend = Backend(agent, Domain(scene.platform, CODE))
    await backend.accept(portable)
    return await backend.read_secret(scene.owner.session.owner, "API_KEY")


async def _door(scene: Scene) -> object:
    line = await scene.owner.delegations.create_token("deploy", ["API_KEY"], wallet=scene.wallet)
    program = await scene.client(read_token(line))
    bench = DoorBench(scene.node, FixedClock(SystemClock.now()), CountingEntropy(), scene.clients)
    async with open_door(bench, program, "secret=flat") as caller:
        reply = await caller.get("secret/data/API_KEY")
    if reply.status == 200:
        (value,) = reply.reported["data"]["data"].values()
        return value
    (said,) = reply.reported["errors"]
    assert reply.status == 403, reply
    return REFUSED if SAID in said else said


async def _share(scene: Scene) -> object:
    friend, wallet = await scene.friend()
    await scene.owner.sharing.share(["API_KEY"], wallet.did, wallet=lambda: scene.wallet)
    source = await friend.sharing.received(scene.owner.session.owner, wallet=lambda: wallet)
    return await source.get("API_KEY")


async def _team(scene: Scene) -> object:
    friend, wallet = await scene.friend()
    sharing = scene.owner.sharing
    await sharing.share(["API_KEY"], wallet.did, team="ops", wallet=lambda: scene.wallet)
    source = await friend.sharing.received(
        scene.owner.session.owner, team="ops", wallet=lambda: wallet
    )
    return await source.get("API_KEY")


DOORS: dict[str, Callable[[Scene], Awaitable[object]]] = {
    "SDK": _sdk,
    "SDK, several secrets": _sdk_batch,
    "SDK, a version": _sdk_version,
    "secret get": _command,
    "secret export": _export,
    "template": _template,
    "run": _run,
    "MCP server": _agent,
    "machine token": _machine_token,
    "CI job": _ci_job,
    "backend": _backend,
    "Vault API": _door,
    "share": _share,
    "team": _team,
}
FOR_OTHERS = ("machine token", "CI job", "backend", "Vault API")
"""Doors whose caller is not the owner in person."""


async def answer(scene: Scene, door: str) -> object:
    """Return what a door says: the code of its refusal, or its value."""
    try:
        return await DOORS[door](scene)
    except SealspaceError as error:
        assert OTHER not in f"{error}{getattr(error, '__notes__', '')}"
        return error.code


@pytest.mark.parametrize("door", DOORS)
async def test_EN45_every_door_refuses_a_relabelled_envelope(scene: Scene, door: str) -> None:
    """Each door returns the right value, and refuses another secret's envelope in its place."""
    assert str(await DOORS[door](scene)).strip() == RIGHT
    if door in FOR_OTHERS:
        for label in LABELS:
            await scene.relabel(label)
            refused = str(await answer(scene, door))
            assert refused == "decrypt-denied" or "release refused: path" in refused, label
        await scene.forget_paths()
    for label in LABELS:
        await scene.relabel(label)
        assert await answer(scene, door) == REFUSED, label


# --- copies, versions, files and contacts ---------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "refusal"), [("changed", PlaceMismatch), ("removed", LabelMismatch)]
)
async def test_EN45_a_moved_copy_is_refused(
    scene: Scene, label: Label, refusal: type[SealspaceError]
) -> None:
    """A copy is refused under another name, in a team's folder, and as a secret of the owner."""
    friend, wallet = await scene.friend()
    sharing, names = scene.owner.sharing, ["API_KEY", "BANK"]
    alone = await sharing.share(names, wallet.did, wallet=lambda: scene.wallet)
    team = await sharing.share(names, wallet.did, team="ops", wallet=lambda: scene.wallet)
    by = {"wallet": lambda: wallet}
    source = await friend.sharing.received(scene.owner.session.owner, team="", **by)
    of_team = await friend.sharing.received(scene.owner.session.owner, team="ops", **by)
    assert await source.get("API_KEY") == await of_team.get("API_KEY") == RIGHT
    bank = f"{alone.folder.path}BANK"
    await move(scene.owner, bank, f"{alone.folder.path}API_KEY", label=label)
    await move(scene.owner, bank, f"{team.folder.path}BANK", label=label)
    for read in (source.get("API_KEY"), of_team.get("BANK")):
        with pytest.raises(refusal):
            await read
    await move(scene.owner, bank, PATH, label=label)
    with pytest.raises(InvalidEnvelope):  # another owner's network
        await scene.owner.secrets().get("API_KEY")


@pytest.mark.parametrize("label", LABELS)
async def test_EN45_a_version_of_another_secret_is_refused(scene: Scene, label: Label) -> None:
    """A version that an attacker stored is refused when it is read, stored again or restored."""
    secrets = scene.owner.secrets()
    await scene.relabel(label)
    planted = (await secrets.versions("API_KEY"))[0].version
    await secrets.put("API_KEY", RIGHT)
    assert await secrets.get("API_KEY") == RIGHT
    with pytest.raises(PlaceMismatch):
        await secrets.get("API_KEY", version=planted)
    await secrets.rollback("API_KEY", planted)
    with pytest.raises(PlaceMismatch):
        await secrets.get("API_KEY")
    await secrets.delete("API_KEY")
    await secrets.restore("API_KEY")
    with pytest.raises(PlaceMismatch):
        await secrets.get("API_KEY")


async def test_EN45_an_exported_value_is_bound_to_its_new_name(scene: Scene) -> None:
    """Import seals values anew, so a file that was exported can be imported under other names."""
    file = scene.machine.folder / "values.json"
    file.write_text(json.dumps({"RENAMED": RIGHT}))
    assert (await scene.desk.run("secret", "import", str(file), "--yes")).status == 0
    read = await scene.owner.secrets().read("RENAMED")
    assert (read.value, read.is_bound) == (RIGHT, True)


@pytest.mark.parametrize("label", LABELS)
async def test_EN45_contacts_and_secrets_are_not_mistaken(scene: Scene, label: Label) -> None:
    """The list of contacts is no secret, and a secret is no list of contacts."""
    owner = scene.owner
    await owner.contacts.add("bob", scene.attacker.session.did)
    contacts, values = owner.kv("default"), owner.kv("secrets")
    listed = parse_envelope((await contacts.get("vault/contacts")).body)
    await values.put(PATH, relabelled(listed, owner, PATH, label))
    with pytest.raises(InvalidSecretPayload):
        await owner.secrets().get("API_KEY")
    bank = parse_envelope((await values.get("vault/secrets/BANK")).body)
    named: dict[str, Any] = json.loads((await contacts.get("vault/contacts")).body)
    moved = json.loads(relabelled(bank, owner, PATH, label))
    if label == "changed":
        moved["aad"] = named["aad"]
    await contacts.put("vault/contacts", json.dumps(moved).encode())
    with pytest.raises((ContactsInvalid, LabelMismatch)):
        await (await scene.client(owner.session)).contacts.list()
