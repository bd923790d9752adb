"""Parties in which trust was withdrawn, and the final revocation of a network (RC38)."""

import pytest
from attacks.held_store import HeldStage
from attacks.parties import DECRYPT, READ_CAPABILITIES, Delegate, Owner, Stage, opens
from attacks.test_network_claims import administer
from attacks.test_races import meanwhile, release_records
from attacks.test_withdrawals import withdraw
from audit_records import audit_records
from running_node import Reply, network_path
from tests_support import CountingEntropy

from capabilities.abilities import NETWORK_REVOKE, SET_POLICY
from capabilities.capability_errors import CHAIN_TEXTS
from capabilities.strict_json import Json
from encryption_network.withdrawals import parse_withdrawal
from node.operations.releases.withdrawal import withdraw_everywhere
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.store.contract import Commit, Put


async def revoke(stage: Stage, who: Delegate, owner: Owner) -> Reply:
    """Revoke the owner's default network."""
    path = network_path(owner.network, "revoke")
    return await administer(stage, who, owner.network, NETWORK_REVOKE, {}, path)


def unauthorised(owner: Owner) -> tuple[int, str]:
    """The answer to a caller who may not revoke the network."""
    text = CHAIN_TEXTS["action-unauthorized"].format(owner.network, NETWORK_REVOKE)
    return 401, text


async def party(stage: Stage, owner: Owner) -> Delegate:
    """A key that the owner lets revoke the network."""
    key = Delegate()
    key.proofs = [await stage.register(owner.grant(key.did, {owner.network: [NETWORK_REVOKE]}))]
    return key


@pytest.mark.parametrize("by_owner", [True, False], ids=["owner", "operator"])
async def test_RC38_a_withdrawn_party(held: HeldStage, by_owner: bool) -> None:
    """Neither a withdrawn key nor whoever got the right from it revokes the network."""
    owner, changer = await held.owner(), Delegate()
    rights = {
        owner.network: [DECRYPT, SET_POLICY],
        f"{owner.space()}/capabilities": [READ_CAPABILITIES],
    }
    changer.proofs = [await held.register(owner.grant(changer.did_url, rights))]
    thief, friend, accomplice = await party(held, owner), Delegate(), Delegate()
    reached = {owner.network: [NETWORK_REVOKE]}
    friend.proofs = [await held.register(thief.grant(friend.did, reached, ttl_s=300))]
    accomplice.proofs = [await held.register(friend.grant(accomplice.did, reached, ttl_s=200))]
    value: dict[str, Json] = {"did": thief.did}
    if by_owner:
        assert (await withdraw(held, changer, owner.network, value)).status == 204
    else:
        await withdraw_everywhere(
            held.store, parse_withdrawal(value), now=0.0, entropy=CountingEntropy()
        )
    for attacker in (thief, friend, accomplice):
        assert (await revoke(held, attacker, owner)).said == unauthorised(owner)
    session = owner.session
    assert opens(await held.ask(session, owner), session, owner)
    # Whoever has nothing to do with the withdrawn key still revokes it.
    assert (await revoke(held, await party(held, owner), owner)).status == 204


async def test_RC38_withdrawn_before_the_commit(held: HeldStage) -> None:
    """A revocation is refused if its signer is withdrawn before the commit."""
    owner = await held.owner()
    thief = await party(held, owner)
    waiting = held.store.hold(lambda commit: any(put.key[:1] == b"N" for put in commit.puts))

    async def change() -> None:
        entry, entropy = parse_withdrawal({"did": thief.did}), CountingEntropy()
        await withdraw_everywhere(held.store, entry, now=held.clock.now(), entropy=entropy)

    reply = await meanwhile(revoke(held, thief, owner), waiting, change)
    assert reply.said == unauthorised(owner)
    assert release_records(waiting) == 0


async def test_RC38_without_the_operator_s_list(held: HeldStage) -> None:
    """A network is not revoked while the operator's list is missing."""
    owner = await held.owner()
    key = await party(held, owner)
    await held.store.commit(Commit(puts=(Put(WITHDRAWALS_KEY, None),)))
    assert (await revoke(held, key, owner)).status == 500


async def test_revoked_again(held: HeldStage) -> None:
    """Revoking a network again is accepted, and writes no second audit record (enc 2.8)."""
    owner = await held.owner()
    key = await party(held, owner)
    for _ in range(3):
        assert (await revoke(held, key, owner)).status == 204
    actions = [record.action for record in await audit_records(held.store)]
    assert actions.count("network.revoked") == 1
