"""Attacks on a closed node by networks of owners who get no space there (EN32)."""

import asyncio
from pathlib import Path

import pytest
from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, Delegate
from attacks.test_hosting import CLOSED, default_network, hosting_stage, sign_in_token
from attacks.test_network_claims import administer
from deviating_platform import SimulatedPlatform
from running_node import Reply, network_path, send, wallet_token

from capabilities.abilities import NETWORK_CREATE
from capabilities.principals import Principal
from capabilities.resources import parse_network_id
from capabilities.signatures import WalletSigner
from node.config.tree import Hosting
from sealspace.wallets import new_wallet
from spaces.grants.admissions import admission_key, admission_put
from spaces.store.contract import Commit, Committed, Put


async def create(stage: HeldStage, who: Delegate, network: str) -> Reply:
    """Ask to create a network."""
    asked = parse_network_id(network)
    body = {"name": asked.name, "ownerDid": asked.owner}
    return await administer(stage, who, network, NETWORK_CREATE, {**body}, "/encryption/networks")


async def exists(stage: HeldStage, network: str) -> bool:
    """Return whether a network exists."""
    return (await send(stage.url, "GET", network_path(network, "")[:-1])).status == 200


def refused(network: str) -> tuple[int, str]:
    """Return the expected answer to a refused create."""
    return 401, f"Unauthorized Action: {network} / {NETWORK_CREATE}"


async def helper_of(stage: HeldStage, wallet: WalletSigner, network: str) -> Delegate:
    """Return a key that the wallet allows to create the network."""
    helper = Delegate()
    grant = wallet_token(wallet, helper.did, {network: [NETWORK_CREATE, DECRYPT]})
    helper.proofs = [await stage.register(grant)]
    return helper


async def admit(stage: HeldStage, owner: str) -> None:
    """Admit an owner, as the operator does."""
    put = admission_put(Principal(owner), now=stage.clock.now())
    assert isinstance(await stage.services.store.commit(Commit(puts=(put,))), Committed)


async def remove(stage: HeldStage, owner: str) -> None:
    """Remove an admitted owner."""
    record = (await stage.services.store.read((admission_key(Principal(owner)),))).records[0]
    assert record is not None
    removal = Put(admission_key(Principal(owner)), None, expect=record.stamp)
    assert isinstance(await stage.services.store.commit(Commit(puts=(removal,))), Committed)


@pytest.mark.parametrize("hosting", CLOSED.values(), ids=CLOSED)
async def test_a_network_of_an_outsider(
    tmp_path: Path, platform: SimulatedPlatform, hosting: Hosting
) -> None:
    """An outsider creates no network on a closed node, by key or by wallet (EN32)."""
    async with hosting_stage(tmp_path, platform, hosting) as stage:
        outsider, wallet = Delegate(), new_wallet()
        own, walleted = f"urn:tinycloud:encryption:{outsider.did}:n", default_network(wallet)
        helper = await helper_of(stage, wallet, walleted)
        for who, network in ((outsider, own), (helper, walleted)):
            assert (await create(stage, who, network)).said == refused(network)
            assert not await exists(stage, network)


@pytest.mark.parametrize("mode", CLOSED)
async def test_a_network_of_an_owner_who_is_let_in(
    tmp_path: Path, platform: SimulatedPlatform, mode: str
) -> None:
    """A listed or admitted owner creates networks, and so do its delegates."""
    wallet = new_wallet()
    hosting = Hosting(mode="permit", listed=(wallet.did,)) if mode == "listed" else CLOSED[mode]
    async with hosting_stage(tmp_path, platform, hosting) as stage:
        network = default_network(wallet).replace(":default", ":more")
        if mode == "permit":
            await admit(stage, wallet.did)
        helper = await helper_of(stage, wallet, network)
        assert (await create(stage, helper, network)).status == 200
        assert (await create(stage, helper, network)).said == (409, "network already exists")


async def test_a_removal_between_reading_and_writing(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """A create fails if its owner is removed before the commit (EN32)."""
    async with hosting_stage(tmp_path, platform, CLOSED["permit"]) as stage:
        wallet = new_wallet()
        network = default_network(wallet).replace(":default", ":more")
        await admit(stage, wallet.did)
        helper = await helper_of(stage, wallet, network)
        held = stage.store.hold(lambda commit: any(put.key.startswith(b"N") for put in commit.puts))
        asking = asyncio.create_task(create(stage, helper, network))
        await held.reached.wait()
        await remove(stage, wallet.did)
        held.go.set()
        assert (await asking).said == refused(network)
        assert not await exists(stage, network)


async def test_a_network_that_exists_stays(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """A removed owner's network still exists, and can be claimed and read (EN32)."""
    async with hosting_stage(tmp_path, platform, CLOSED["permit"]) as stage:
        wallet = new_wallet()
        network, who = default_network(wallet), Delegate()
        await admit(stage, wallet.did)
        who.proofs = [await stage.register(sign_in_token(wallet, who))]
        await remove(stage, wallet.did)
        assert [200, 409] == [(await create(stage, who, network)).status for _ in range(2)]
        assert await exists(stage, network)
