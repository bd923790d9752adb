"""Tests of retiring a former key, and of people who share across a new key, with a real node."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from capabilities.abilities import SET_POLICY
from capabilities.resources import NetworkId
from encryption_network.networks import decode_network
from encryption_network.pins import NetworkPin
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.key_statements import sign_key_end
from sealspace.documents.network_keys import NetworkKeys
from sealspace.errors import (
    DecryptDenied,
    InvalidInput,
    NetworkKeyChanged,
    NodeRefused,
    SealspaceError,
    Unauthorized,
)
from sealspace.wallets import AnyWallet, new_wallet
from spaces.documents.network_rows import network_row_key
from spaces.store.contract import read_row


@dataclass
class Owner:
    """An owner who may change the network."""

    bench: Any
    client: Client
    wallet: AnyWallet

    @property
    def did(self) -> str:
        return self.client.session.owner

    @property
    def network(self) -> NetworkId:
        return self.client.encryption.network()

    async def rotate(self) -> NetworkPin:
        return await self.client.network_keys.rotate(self.network, wallet=lambda: self.wallet)

    async def rotate_and_reencrypt(self) -> None:
        await self.rotate()
        assert (await self.client.network_keys.reencrypt(self.network)).failed == ()

    async def retire(self, key_version: int) -> None:
        await self.client.network_keys.retire(self.network, key_version)
        await self.destroy(key_version)

    async def destroy(self, key_version: int) -> NetworkKeys:
        return await self.client.network_keys.destroy(
            self.network, key_version, wallet=lambda: self.wallet
        )

    async def shares(self, person: "Owner", *labels: str, team: str | None = None) -> None:
        await self.client.sharing.share(labels, person.did, team=team, wallet=lambda: self.wallet)

    async def reads(self, owner: "Owner", name: str, team: str | None = None) -> str | bytes:
        received = await self.client.sharing.received(
            owner.did, team=team, wallet=lambda: self.wallet
        )
        return await received.get(name)

    async def folders(self) -> list[tuple[str | None, int]]:
        """Return the team and the version of the key of each folder that this owner shares."""
        return [
            (one.folder.team, one.folder.key_version) for one in await self.client.sharing.shares()
        ]


async def owner_on(bench: Any) -> Owner:
    client, wallet = await bench.owner()
    owner = Owner(bench, client, wallet)
    await client.delegations.add_right(wallet, [allow(owner.network.text, SET_POLICY)])
    return owner


@pytest.fixture
async def alice(bench: Any) -> Owner:
    """An owner with two secrets."""
    alice = await owner_on(bench)
    await alice.client.secrets().put("API_KEY", "open sesame")
    await alice.client.secrets().put("TOKEN", "t0", scope="ci")
    return alice


@pytest.fixture
async def bob(bench: Any) -> Owner:
    return await owner_on(bench)


# --- retiring -------------------------------------------------------------------------------------


async def test_EN38_a_stolen_session_destroys_no_key(alice: Owner) -> None:
    """EN38: only the owner's wallet or own key destroys a key, by a statement about this key and
    this node that serves no other purpose."""
    await alice.rotate()  # nothing is encrypted again yet
    client, network = alice.client, alice.network
    await client.network_keys.retire(network, 1)
    first, second = (key.pin(network.text) for key in (await client.encryption.keys(network)).keys)
    node_did, at = alice.bench.node.services.keyring.node_did, "2026-01-01T00:00:00Z"
    of_session = sign_key_end(first, client.session.signer, node_did=node_did, at=at)
    of_stranger = sign_key_end(first, new_wallet(), node_did=node_did, at=at)
    of_other_node = sign_key_end(first, alice.wallet, node_did=client.session.did, at=at)
    of_other_key = sign_key_end(second, alice.wallet, node_did=node_did, at=at)
    of_other_bytes = sign_key_end(
        replace(first, public_key=second.public_key), alice.wallet, node_did=node_did, at=at
    )
    other_network = replace(first, network=f"{network.text}x")
    of_other_network = sign_key_end(other_network, alice.wallet, node_did=node_did, at=at)
    without_time = sign_key_end(first, alice.wallet, node_did=node_did, at="")
    activated = (await client.encryption.keys(network)).statements[0].encode()
    for statement in (
        of_session,
        of_stranger,
        of_other_node,
        of_other_key,
        of_other_bytes,
        of_other_network,
        without_time,
        activated,
        b"{}",
    ):
        with pytest.raises(NodeRefused) as refused:
            await client.network_keys._post_change(
                network, {"action": "destroy", "keyVersion": 1, "statement": statement.decode()}
            )
        assert refused.value.status == 400
    with pytest.raises(NodeRefused, match="newer version"):  # as former clients ask
        await client.network_keys._post_change(network, {"action": "destroy", "keyVersion": 1})
    with pytest.raises(InvalidInput, match="wallet"):
        await client.network_keys.destroy(network, 1)
    assert await client.secrets().get("API_KEY") == "open sesame"
    await alice.destroy(1)
    with pytest.raises(DecryptDenied):
        await client.secrets().get("API_KEY")


async def test_a_former_key_is_retired_in_two_steps(alice: Owner) -> None:
    """A retiring key opens values and seals none; a retired key opens nothing (EN38)."""
    client, network = alice.client, alice.network
    stale = await alice.bench.client(client.session)
    await stale.secrets().put("OTHER", "before")  # it keeps the descriptor of version 1 now
    kv = client.kv("secrets")
    former = (await kv.get("vault/secrets/API_KEY")).body
    await alice.rotate_and_reencrypt()
    with pytest.raises(NodeRefused, match="not retiring yet"):
        await alice.destroy(1)
    keys = await client.network_keys.retire(network, 1)
    assert [one.state for one in keys.keys] == ["retiring", "newest"]
    with pytest.raises(NodeRefused, match="seal it to version 2") as refused:
        await stale.secrets().put("OTHER", "after")
    assert refused.value.status == 400
    with pytest.raises(NodeRefused, match="seal it to version 2"):
        await stale.secrets().put_many({"OTHER": "after", "MORE": "after"})
    await client.secrets().put("OTHER", "after")
    assert await client.encryption.decrypt(former)
    keys = await alice.destroy(1)
    assert [one.state for one in keys.keys] == ["retired", "newest"]
    with pytest.raises(DecryptDenied):
        await client.encryption.decrypt(former)
    assert await client.secrets().get("API_KEY") == "open sesame"
    with pytest.raises(NodeRefused, match="seal it to version 2"):
        await stale.secrets().put("OTHER", "again")


@pytest.mark.parametrize(("version", "why"), [(2, "newest"), (3, "no such version")])
async def test_keys_that_cannot_be_retired(alice: Owner, version: int, why: str) -> None:
    """The newest key and an unknown one are not retired, and a retired one only once (EN38)."""
    await alice.rotate()
    with pytest.raises(NodeRefused, match=why):
        await alice.client.network_keys.retire(alice.network, version)
    with pytest.raises(SealspaceError, match=why):
        await alice.destroy(version)
    await alice.retire(1)
    with pytest.raises(NodeRefused, match="retired already"):
        await alice.client.network_keys.retire(alice.network, 1)


async def test_the_chain_outlives_a_retired_key(alice: Owner) -> None:
    """A client that knows only a retired key follows the owner's statements (EN30, EN38)."""
    kept = alice.client.session
    await alice.rotate_and_reencrypt()
    await alice.retire(1)
    await alice.rotate_and_reencrypt()
    client = await alice.bench.client(kept)
    assert await client.secrets().get("API_KEY") == "open sesame"


async def test_what_needs_a_key_is_listed(alice: Owner) -> None:
    """The search finds current and former values, in files too, and those of deleted secrets
    (EN38)."""
    client = alice.client
    await client.secrets().put("LARGE", "x" * 200_000)
    await client.secrets().put("GONE", "1")
    await client.secrets().delete("GONE")
    names = {"API_KEY", "LARGE", "scoped/ci/TOKEN"}
    found = await client.network_keys.usage(alice.network, 1)
    assert {(one.path.removeprefix("vault/secrets/"), one.version) for one in found} == {
        *((name, None) for name in names),
        ("GONE", 1),
    }
    await alice.rotate_and_reencrypt()
    found = await client.network_keys.usage(alice.network, 1)
    assert {(one.path.removeprefix("vault/secrets/"), one.version) for one in found} == {
        *((name, 1) for name in names),
        ("GONE", 1),
    }
    for name in ("API_KEY", "LARGE", "GONE"):
        await client.secrets().delete(name, purge=True)
    await client.secrets().delete("TOKEN", scope="ci", purge=True)
    assert await client.network_keys.usage(alice.network, 1) == ()


async def test_values_that_cannot_be_read_are_listed(alice: Owner, tmp_path: Path) -> None:
    """A missing and a damaged file do not end the search. Their values are listed, because they
    may need the key, and so is every other value that needs it (EN38)."""
    secrets = alice.client.secrets()
    sizes = {"DAMAGED": 200_000, "MISSING": 300_000, "WHOLE": 400_000}
    await secrets.put_many({name: "x" * size for name, size in sizes.items()})
    files = [path for path in tmp_path.rglob("blobs/**/*") if path.is_file()]
    damaged, missing, _whole = sorted(files, key=lambda path: path.stat().st_size)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    missing.unlink()
    found = await alice.client.network_keys.usage(alice.network, 1)
    unreadable = {value.path.rpartition("/")[2]: value.is_unreadable for value in found}
    assert unreadable == {
        "API_KEY": False,
        "TOKEN": False,
        "DAMAGED": True,
        "MISSING": True,
        "WHOLE": False,
    }
    for name in ("DAMAGED", "MISSING"):
        await secrets.delete(name, purge=True)
    found = await alice.client.network_keys.usage(alice.network, 1)
    assert not any(value.is_unreadable for value in found)


async def test_a_long_search(alice: Owner) -> None:
    """The search has pages, and finds each value once (EN38)."""
    values = {f"NAME_{number}": "x" for number in range(150)}
    await alice.client.secrets().put_many(values)
    found = await alice.client.network_keys.usage(alice.network, 1)
    assert len(found) == len(set(found)) == 152


async def test_delegates_do_not_search(alice: Owner, bob: Owner) -> None:
    """The paths of an owner's spaces are shown to nobody else (EN38)."""
    granted = await alice.client.delegations.delegate(
        bob.client.session.did, [allow(alice.network.text, SET_POLICY)]
    )
    await bob.client.delegations.accept(granted)
    with pytest.raises(Unauthorized):
        await bob.client.network_keys.usage(alice.network, 1)


async def test_a_destroyed_key_is_in_no_row(alice: Owner, tmp_path: Path) -> None:
    """The record and a compacted copy of the store do not contain the former key (EN38)."""
    services = alice.bench.node.services
    row = await read_row(services.store, network_row_key(alice.network))
    assert row is not None and row.value is not None
    sealed = decode_network(row.value).sealed_private_key
    await alice.rotate_and_reencrypt()
    row = await read_row(services.store, network_row_key(alice.network))
    assert row is not None and row.value is not None and sealed in row.value
    await alice.retire(1)
    row = await read_row(services.store, network_row_key(alice.network))
    assert row is not None and row.value is not None and sealed not in row.value


# --- people, tokens and delegates -----------------------------------------------------------------


async def test_a_person_who_replaced_the_key(alice: Owner, bob: Owner) -> None:
    """Copies are read under the former key, and renewed with one signature each (SH15)."""
    await alice.shares(bob, "API_KEY")
    await alice.shares(bob, "ci/TOKEN", team="ops")
    await bob.rotate()
    assert await bob.reads(alice, "API_KEY", team="") == "open sesame"
    await alice.client.sharing.put_many({"API_KEY": "second"})
    assert await bob.reads(alice, "API_KEY", team="") == "second"
    alice.client.encryption.forget(bob.network)
    with pytest.raises(NetworkKeyChanged) as changed:
        await alice.shares(bob, "ci/TOKEN")
    assert "team renew" in changed.value.step
    signed = alice.wallet.signatures
    renewed = await alice.client.sharing.renew_for(bob.did, wallet=lambda: alice.wallet)
    assert alice.wallet.signatures == signed + 2
    assert {one.folder.team for one in renewed} == {None, "ops"}
    assert sorted(await alice.folders(), key=str) == [("ops", 2), (None, 2)]
    assert await bob.reads(alice, "API_KEY", team="") == "second"
    await alice.shares(bob, "ci/TOKEN")
    await bob.retire(1)
    await alice.client.sharing.put_many({"API_KEY": "third"})
    assert await bob.reads(alice, "API_KEY", team="") == "third"
    assert await alice.client.sharing.renew_for(bob.did, wallet=lambda: alice.wallet) == ()
    folder = renewed[0].folder
    assert folder.path.endswith(".2/")
    stored = [key async for key in alice.client.kv("secrets").list("vault/secrets/shared/")]
    assert all(".2/" in key for key in stored)


async def test_an_interrupted_renewal(alice: Owner, bob: Owner) -> None:
    """With both folders live, the complete copies are read, and renewing goes on (SH15)."""
    await alice.shares(bob, "API_KEY")
    await bob.rotate()
    alice.client.encryption.forget(bob.network)
    put_many = alice.client.sharing.put_many
    sharing = alice.client.sharing

    async def cut(*_: object, **__: object) -> None:
        raise ConnectionError

    sharing.put_many = cut  # type: ignore[method-assign]  # the connection is cut
    with pytest.raises(ConnectionError):
        await sharing.renew_for(bob.did, wallet=lambda: alice.wallet)
    assert sorted(await alice.folders(), key=str) == [(None, 1), (None, 2)]
    assert await bob.reads(alice, "API_KEY") == "open sesame"
    await put_many({"API_KEY": "second"})
    assert await bob.reads(alice, "API_KEY") == "second"
    signed = alice.wallet.signatures
    await alice.client.sharing.renew_for(bob.did, wallet=lambda: alice.wallet)
    assert alice.wallet.signatures == signed
    assert await alice.folders() == [(None, 2)]
    assert await bob.reads(alice, "API_KEY") == "second"


async def test_copies_that_need_a_former_key(alice: Owner, bob: Owner) -> None:
    """A person finds the folders of others that name a former key (EN38)."""
    await alice.shares(bob, "API_KEY")
    await bob.rotate()
    ((owner, folder),) = await bob.client.sharing.received_folders()
    assert (owner, folder.key_version) == (alice.did, 1)
