"""Tests of revoking several delegations by one call of the SDK (V5)."""

from typing import Any

import pytest

from sealspace.delegations import allow
from sealspace.errors import DelegationRevoked, Unauthorized

GET = "tinycloud.kv/get"
SEED = bytes(range(32))


async def granted_to_agent(bench: Any, owner: Any, **options: Any) -> tuple[Any, Any]:
    """Return a grant of the shared values to a key, and the key's client."""
    agent = await bench.client()
    await agent.sign_in_with_key(SEED)
    grant = [allow(f"{owner.kv().space.text}/kv/shared/", GET)]
    return await owner.delegations.delegate(agent.session.did, grant, **options), agent


@pytest.mark.parametrize("number", [2, 33])
async def test_V5_several_grants_end_together(bench: Any, number: int) -> None:
    """One call revokes grants of the session and of the wallet, by portable form or CID."""
    owner, wallet = await bench.owner()
    await owner.kv().put("shared/note", b"1")
    granted = [
        await granted_to_agent(bench, owner, wallet=wallet if at else None) for at in range(2)
    ]
    read = [allow(f"{owner.kv().space.text}/kv/a", GET)]
    more = [
        (await owner.delegations.delegate(f"did:example:{at}", read)).cid
        for at in range(number - 2)
    ]
    portables = [portable for portable, _ in granted]
    for portable, agent in granted:
        await agent.delegations.accept(portable)
    for _ in range(2):
        await owner.delegations.revoke(portables[0], portables[1].cid, *more, portables[0])
    for _, agent in granted:
        with pytest.raises(DelegationRevoked):
            await agent.kv(owner.kv().space.text).get("shared/note")
    assert {"revoked"} == {(await owner.delegations.status(cid)).word for cid in more} or not more


async def test_V5_several_grants_of_which_one_is_anothers(bench: Any) -> None:
    """If one of several grants may not be revoked, the call fails and revokes none."""
    owner, _ = await bench.owner()
    other, _ = await bench.owner()
    portable, _ = await granted_to_agent(bench, owner)
    foreign, _ = await granted_to_agent(bench, other)
    with pytest.raises(Unauthorized):
        await owner.delegations.revoke(portable, foreign)
    assert "active" == (await owner.delegations.status(portable)).word
