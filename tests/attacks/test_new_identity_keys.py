"""The keys of networks at a node that has got a new identity (RK9).

The owner's statements about earlier versions of a key name the node's former DID (EN36).
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.test_root_rotation import config_of, rotate
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from owner_desk import OwnerDesk

from capabilities.abilities import SET_POLICY
from encryption_network.envelope import parse_envelope
from node.config.tree import Config
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import NetworkKeyChanged, NodeMismatch
from sealspace.session import Session
from sealspace.wallets import Wallet, new_wallet

pytestmark = pytest.mark.slow

NAMES = ("API_KEY", "OTHER")


@dataclass
class Person:
    """A person who may replace the key of the own network."""

    client: Client
    wallet: Wallet

    async def replace_key(self) -> int:
        """Replace the key, encrypt everything again, and return the newest version."""
        keys = self.client.network_keys
        network = self.client.encryption.network()
        newest = await keys.rotate(network, wallet=lambda: self.wallet)
        assert (await keys.reencrypt(network)).failed == ()
        return newest.key_version

    async def retire(self, version: int) -> None:
        network = self.client.encryption.network()
        await self.client.network_keys.retire(network, version)
        await self.client.network_keys.destroy(network, version, wallet=lambda: self.wallet)

    async def reads(self, owner: "Person", name: str) -> str | bytes:
        """Read this person's copy of a secret."""
        received = await self.client.sharing.received(owner.wallet.did, wallet=lambda: self.wallet)
        return await received.get(name)

    async def states(self) -> list[str]:
        listed = await self.client.network_keys.versions(self.client.encryption.network())
        return [one.state for one in listed.keys]


@asynccontextmanager
async def served(config: Config) -> AsyncIterator[tuple[EmbeddedNode, AsyncExitStack]]:
    async with embedded_node(config) as node, AsyncExitStack() as clients:
        yield node, clients


async def signed_in(
    node: EmbeddedNode, clients: AsyncExitStack, wallet: Wallet | None = None
) -> Person:
    """Sign in, at a node that the person accepts."""
    person = Person(await clients.enter_async_context(Client(node.url)), wallet or new_wallet())
    await person.client.sign_in(person.wallet)
    await person.client.encryption.ensure_network()
    network = person.client.encryption.network()
    await person.client.delegations.add_right(person.wallet, [allow(network.text, SET_POLICY)])
    return person


async def test_RK9_keys_go_on_under_a_new_identity(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """The owner opens everything, lists the versions, replaces the key again, and retires them.

    A program that pinned the former identity refuses the node until it accepts the new one.
    """
    config = config_of(tmp_path, platform)
    async with served(config) as (node, clients):
        owner = await signed_in(node, clients)
        await owner.client.secrets().put_many(dict.fromkeys(NAMES, "first"))
        assert await owner.replace_key() == 2
        former: Session = owner.client.session
        former_did = node.services.keyring.node_did
    assert await rotate(config, "--new-identity", "--yes") == 0
    async with served(config) as (node, clients):
        pinned = await clients.enter_async_context(
            Client(node.url, session=former, pinned_node=former_did)
        )
        with pytest.raises(NodeMismatch):
            await pinned.secrets().get("API_KEY")
        owner = await signed_in(node, clients, owner.wallet)
        assert await owner.client.secrets().get_many(NAMES) == dict.fromkeys(NAMES, "first")
        versions = await owner.client.secrets().versions("API_KEY")
        for one in versions:
            found = await owner.client.secrets().get("API_KEY", version=one.version)
            assert found == "first"
        assert await owner.states() == ["accepted", "newest"]
        assert await owner.replace_key() == 3
        assert await owner.states() == ["accepted", "accepted", "newest"]
        await owner.retire(1)
        await owner.retire(2)
        assert await owner.states() == ["retired", "retired", "newest"]
        assert await owner.client.secrets().get_many(NAMES) == dict.fromkeys(NAMES, "first")
        values = await owner.client.kv("secrets").get_many(
            [f"vault/secrets/{name}" for name in NAMES]
        )
        assert {parse_envelope(one.body).key_version for one in values.values()} == {3}
        # A session that pinned version 2 since then follows the statement for the present node.
        later = await signed_in(node, clients, owner.wallet)
        assert await owner.replace_key() == 4
        later.client.encryption.forget(owner.client.encryption.network())
        await later.client.secrets().put("API_KEY", "second")
        assert later.client.session.pins[0].key_version == 4


async def test_RK9_copies_for_a_person_under_a_new_identity(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """Copies from before stay readable. A key that was replaced under the former identity is not
    followed: the copies are made anew for it, after both have compared the fingerprint."""
    config = config_of(tmp_path, platform)
    async with served(config) as (node, clients):
        owner, friend = await signed_in(node, clients), await signed_in(node, clients)
        await owner.client.secrets().put_many(dict.fromkeys(NAMES, "first"))
        await owner.client.sharing.share(
            ["API_KEY"], friend.wallet.did, wallet=lambda: owner.wallet
        )
        assert await friend.replace_key() == 2
    assert await rotate(config, "--new-identity", "--yes") == 0
    async with served(config) as (node, clients):
        owner = await signed_in(node, clients, owner.wallet)
        friend = await signed_in(node, clients, friend.wallet)
        assert await friend.reads(owner, "API_KEY") == "first"
        sharing = owner.client.sharing
        with pytest.raises(NetworkKeyChanged) as refused:
            await sharing.renew_for(friend.wallet.did, wallet=lambda: owner.wallet)
        assert "unshare" in refused.value.step
        await sharing.unshare(None, did=friend.wallet.did)
        await sharing.share(["API_KEY"], friend.wallet.did, wallet=lambda: owner.wallet)
        assert await friend.reads(owner, "API_KEY") == "first"
        await friend.retire(1)
        assert await friend.replace_key() == 3
        await sharing.renew_for(friend.wallet.did, wallet=lambda: owner.wallet)
        assert await friend.reads(owner, "API_KEY") == "first"


async def test_RK9_the_commands_for_keys_under_a_new_identity(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a login, the commands list the versions, say which were signed for the former DID,
    replace the key and retire former ones."""
    for variable in ("SEALSPACE_NODE", "SEALSPACE_HOME", "SEALSPACE_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    config, home = config_of(tmp_path, platform), tmp_path / "home"
    async with served(config) as (node, _):
        desk = OwnerDesk(node, node.url, home, capsys, monkeypatch)
        await desk.log_in()
        await desk.run("secret", "put", "API_KEY", given="first")
        assert (await desk.run("network", "rotate")).status == 0
        former_did = node.services.keyring.node_did
    assert await rotate(config, "--new-identity", "--yes") == 0
    async with served(config) as (node, _):
        desk = OwnerDesk(node, node.url, home, capsys, monkeypatch)
        assert (await desk.run("login", node.url)).status == 0
        present_did = node.services.keyring.node_did
        assert (await desk.run("network", "rotate")).status == 0
        shown = await desk.run("network", "show", "--json")
        signed_for = [one["signedForNode"] for one in json.loads(shown.out)["keys"]]
        assert signed_for == [None, former_did, present_did]
        told = f"version 2 of the key was signed for the node's former DID {former_did}"
        assert [line for line in shown.err.splitlines() if "former DID" in line] == [told]
        for version in ("1", "2"):
            ran = await desk.run("network", "retire", "--version", version, "--yes")
            assert ran.status == 0, ran
        assert (await desk.run("secret", "get", "API_KEY")).out == "first"
