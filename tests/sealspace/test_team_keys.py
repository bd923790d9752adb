"""Tests of a team's own key, with clients, wallets and a real node."""

from typing import Any

import pytest

from sealspace.client import Client
from sealspace.errors import InvalidInput, NetworkNotFound, NotAMember, RecoveredKeyMismatch
from sealspace.giving.teams.team_keys import CreatedTeam
from sealspace.wallets import AnyWallet, new_wallet


async def made(bench: Any) -> CreatedTeam:
    """Return a team of an owner whose wallet is lost then."""
    lost, wallet = await bench.owner()
    created: CreatedTeam = await lost.teams.create()
    session = await lost.teams.sign_in(wallet, await lost.teams.membership(created.team))
    await lost.acting(session).secrets().put("API_KEY", "open sesame")
    return created


async def acting(client: Client, wallet: AnyWallet, team: str) -> Client:
    membership = await client.teams.membership(team)
    return client.acting(await client.teams.sign_in(wallet, membership))


async def test_TM9_a_team_without_admins(bench) -> None:
    """TM9: the team's own key admits an admin, who then removes the lost one."""
    created = await made(bench)
    client, wallet = await bench.owner()
    with pytest.raises(NotAMember):
        await client.teams.membership(created.team)
    grant = await client.teams.recover(created.seed, created.team, name="heir")
    assert grant.delegator == created.team
    team = await acting(client, wallet, created.team)
    assert await team.secrets().get("API_KEY") == "open sesame"
    admins = {one.name: one.did for one in (await team.teams.members()).members}
    assert admins.keys() == {"heir", None}
    await team.teams.remove(admins[None], wallet=wallet)
    assert (await team.teams.members()).has_one_admin


async def test_TM9_the_teams_session_ends(bench) -> None:
    """TM9: the sign-in of the team's own wallet is revoked after the membership is signed."""
    created = await made(bench)
    client, wallet = await bench.owner()
    await client.teams.recover(created.seed, created.team)
    team = await acting(client, wallet, created.team)
    signed = [
        one.status
        async for one in team.delegations.query(direction="granted")
        if one.delegator == created.team and one.delegate.startswith("did:key:")
    ]
    assert signed == ["revoked", "revoked"]


async def test_RV8_another_key(bench) -> None:
    """RV8: with another key, nothing is signed."""
    created = await made(bench)
    client, _ = await bench.owner()
    other = new_wallet()
    with pytest.raises(RecoveredKeyMismatch, match="not that of the team"):
        await client.teams.recover(other.secret, created.team)
    with pytest.raises(InvalidInput, match="not the key of a wallet"):
        await client.teams.recover(bytes(32), created.team)
    assert await client.teams.memberships() == ()


async def test_TM9_the_key_of_an_admin(bench) -> None:
    """TM9: a team's key is not the key of an admin's wallet."""
    client, _ = await bench.owner()
    own = new_wallet()
    for call in (
        client.teams.create([own.did], seed=own.secret),
        client.teams.recover(own.secret, own.did, own.did),
    ):
        with pytest.raises(InvalidInput, match="this is the key of"):
            await call
    assert await client.teams.memberships() == ()


async def test_TM9_a_node_without_the_team(bench) -> None:
    """TM9: at a node that does not have the team's network, nothing is signed."""
    client, _ = await bench.owner()
    unknown = new_wallet()
    with pytest.raises(NetworkNotFound) as raised:
        await client.teams.recover(unknown.secret, unknown.did)
    assert raised.value.step == "log in at the team's node: sealspace login URL"
    assert await client.teams.memberships() == ()
