"""Attacks on the claim of a default network that a sign-in created."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from attacks.held_store import HeldStage
from attacks.parties import Delegate, Owner, Stage
from audit_records import audit_records
from running_node import Reply, key_token, network_path, send

from capabilities.abilities import NETWORK_CREATE, NETWORK_REVOKE
from capabilities.resources import NetworkId, parse_network_id
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes
from encryption_network.requests import admin_fact
from spaces.documents.network_rows import network_put, network_row_key
from spaces.store.contract import Commit, Committed

EXISTS = (409, "network already exists")


async def administer(
    stage: Stage, who: Delegate, network: str, action: str, body: dict[str, Json], path: str
) -> Reply:
    """Send a token of network administration."""
    fact = admin_fact(network, target_node=stage.node_did, action=action, body=body)
    token = key_token(
        who.signer, stage.node_did, {network: [action]}, proofs=who.proofs, facts=[fact]
    )
    headers = {"Content-Type": "application/json"}
    return await send(
        stage.url, "POST", path, token=token, body=canonical_bytes(body), headers=headers
    )


async def create(stage: Stage, who: Delegate, owner: Owner) -> Reply:
    """Ask to create the owner's default network."""
    network = parse_network_id(owner.network)
    body: dict[str, Json] = {"name": network.name, "ownerDid": network.owner}
    return await administer(stage, who, owner.network, NETWORK_CREATE, body, "/encryption/networks")


async def descriptor(stage: Stage, owner: Owner) -> Json:
    """Return the public descriptor of the network."""
    return (await send(stage.url, "GET", network_path(owner.network, "")[:-1])).value["descriptor"]


async def test_the_first_create_after_a_sign_in(stage: Stage) -> None:
    """The first create after a sign-in returns the existing network (EN31)."""
    owner = await stage.owner()
    made = await descriptor(stage, owner)
    first = await create(stage, owner.session, owner)
    assert (first.status, first.value) == (200, {"descriptor": made})
    assert (await create(stage, owner.session, owner)).said == EXISTS
    assert await descriptor(stage, owner) == made


async def test_only_one_of_many_creates(stage: Stage) -> None:
    """Of concurrent creates, one is answered as if it had made the network (EN31)."""
    owner = await stage.owner()
    replies = await asyncio.gather(*[create(stage, owner.session, owner) for _ in range(8)])
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7


async def test_an_outsider_claims_nothing(stage: Stage) -> None:
    """A key without the ability cannot claim the network."""
    owner, outsider, delegate = await stage.owner(), Delegate(), Delegate()
    assert (await create(stage, outsider, owner)).status == 401
    delegate.proofs = [await stage.register(owner.grant_decrypt(delegate.did))]
    assert (await create(stage, delegate, owner)).status == 401
    assert (await create(stage, owner.session, owner)).status == 200


async def test_signing_in_again_gives_no_further_claim(stage: Stage) -> None:
    """A further sign-in does not make a claimed network unclaimed (EN31)."""
    owner = await stage.owner()
    assert (await create(stage, owner.session, owner)).status == 200
    await stage.register(owner.client.session.grants[0].header)
    await owner.client.sign_in(owner.wallet)
    assert (await create(stage, owner.session, owner)).said == EXISTS


async def test_a_network_that_was_created(stage: Stage) -> None:
    """A second create of a network fails because it exists."""
    owner = await stage.owner()
    more = owner.network.replace(":default", ":more")
    helper = Delegate()
    helper.proofs = [await stage.register(owner.grant(helper.did, {more: [NETWORK_CREATE]}))]
    body: dict[str, Json] = {"name": "more", "ownerDid": parse_network_id(more).owner}
    replies = [
        await administer(stage, helper, more, NETWORK_CREATE, body, "/encryption/networks")
        for _ in range(2)
    ]
    assert [reply.status for reply in replies] == [200, 409]
    assert replies[1].said == EXISTS


async def test_a_revoked_network_is_not_claimed(stage: Stage) -> None:
    """A revoked network cannot be claimed, and its id stays taken (EN7)."""
    owner = await stage.owner()
    helper = Delegate()
    helper.proofs = [
        await stage.register(owner.grant(helper.did, {owner.network: [NETWORK_REVOKE]}))
    ]
    path = network_path(owner.network, "revoke")
    assert (await administer(stage, helper, owner.network, NETWORK_REVOKE, {}, path)).status == 204
    assert (await create(stage, owner.session, owner)).said == EXISTS


async def _without_mark(held: HeldStage, network: NetworkId) -> None:
    """Write a network's row without its claim, as former versions did."""
    store = held.services.store
    row = (await store.read((network_row_key(network),))).records[0]
    assert row is not None and row.value is not None
    fields: list[Any] = msgspec.msgpack.decode(row.value)
    earlier = msgspec.msgpack.encode(fields[:13])
    outcome = await store.commit(Commit(puts=(network_put(network, earlier, expect=row.stamp),)))
    assert isinstance(outcome, Committed)


@pytest.mark.parametrize("was_claimed", [False, True])
async def test_a_record_of_before(held: HeldStage, was_claimed: bool) -> None:
    """A network's row without a claim counts as unclaimed (EN31)."""
    owner = await held.owner()
    made = await descriptor(held, owner)
    if was_claimed:
        assert (await create(held, owner.session, owner)).status == 200
    await _without_mark(held, parse_network_id(owner.network))
    held.clock.advance(10)
    replies = [await create(held, owner.session, owner) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 409]
    assert json.loads(replies[0].body) == {"descriptor": made}
    records = await audit_records(held.services.store)
    claims = [record for record in records if record.action == "network.claimed"]
    assert [owner.session.did] * (1 + was_claimed) == [record.actor for record in claims]
