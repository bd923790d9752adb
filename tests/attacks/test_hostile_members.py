"""Attacks by admins and members of a team with tokens that are almost right (TM1 to TM7)."""

import pytest
from attacks.parties import (
    GET,
    PUT,
    SET_POLICY,
    Delegate,
    Owner,
    Stage,
    ids,
    machine_token,
    opens,
    policy_for,
    refused,
)
from attacks.team_parties import Person, admitted, membership, rights_on
from attacks.test_members import REVOKE, named_readers, reads, removal
from running_node import Grants, wallet_token

from capabilities.abilities import READ_RECEIPTS
from capabilities.cacao import encode_cacao, header_bytes, header_text, parse_cacao
from sealspace.delegations import allow

pytestmark = pytest.mark.slow


def own_delegations(person: Person, ability: str = REVOKE) -> Grants:
    """Return a right on the delegations of a person's own space."""
    return {f"tinycloud:{person.did.removeprefix('did:')}:default/delegation": [ability]}


async def test_TM7_the_right_to_revoke_is_one_that_the_team_granted(stage: Stage) -> None:
    """An admin's right to revoke in a space of the own is none in the team (TM7)."""
    team = await stage.owner()
    bob, bobs_key = await admitted(stage, team, "reader")
    admin = Person()
    rights = rights_on(team, "writer")
    admin.membership = await stage.register(membership(team, admin, "admin", grants=rights))
    key = await admin.sign_in(stage, {**rights, **own_delegations(admin)})
    assert (await stage.post("/revoke", removal(key, bob.membership))).status == 403
    assert await reads(stage, bobs_key, team)
    # The right serves for what the admin granted.
    grant = wallet_token(admin.wallet, bob.did, own_delegations(admin), ttl_s=600)
    await stage.register(grant)
    assert (await stage.post("/revoke", removal(key, grant))).status == 200


async def test_TM7_a_session_for_the_team_ends_nothing_of_the_members_own(stage: Stage) -> None:
    """The right to revoke in the team's space does not revoke what an admin granted in a space of
    the own (TM7, W23)."""
    team = await stage.owner()
    admin, key = await admitted(stage, team, "admin")
    grant = wallet_token(admin.wallet, Person().did, own_delegations(admin), ttl_s=600)
    await stage.register(grant)
    assert (await stage.post("/revoke", removal(key, grant))).status == 403
    again = await stage.post("/delegate", grant)  # a revoked one is refused
    assert again.status == 200


async def test_TM1_a_query_makes_no_folder_a_secret(stage: Stage) -> None:
    """A resource with a query or a fragment is no secret: the path before it would be a folder
    (TM1)."""
    team, person = await stage.owner(), Person()
    folder = team.secret.removesuffix("API_KEY")
    for name in ("scoped/shop?x/NAME", "scoped/shop#x/NAME"):
        paths = [folder + name]
        token = membership(
            team,
            person,
            "writer",
            grants=rights_on(team, "writer", paths),
            changes={"paths": [*paths]},
        )
        reply = await stage.post("/delegate", token)
        assert reply.status == 400, (name, reply.said)


async def test_TM6_an_admins_machine_token_is_for_secrets(stage: Stage) -> None:
    """An admin who may read other values of the team signs no machine token for them (TM6)."""
    team = await stage.owner()
    other = f"{team.space('secrets')}/kv/private/NOTES"
    admin = Person()
    rights = {**rights_on(team, "admin"), f"{team.space('secrets')}/kv/private/": [GET, PUT]}
    admin.membership = await stage.register(membership(team, admin, "admin", grants=rights))
    for path, status in ((team.secret, 200), (other, 401)):
        token = machine_token_by(admin, team, path)
        assert (await stage.post("/delegate", token)).status == status


async def test_TM2_an_admin_cites_the_stored_membership(stage: Stage) -> None:
    """A membership that cites the admin's by the CID of another encoding is refused, because lists
    of delegations do not have this CID, and clients would not find who admitted the member (TM2).
    """
    team = await stage.owner()
    admin, _ = await admitted(stage, team, "admin")
    data = encode_cacao(parse_cacao(header_bytes(admin.membership)))
    lower = data.replace(team.wallet.did.encode(), team.wallet.did.lower().encode(), 1)
    encoded_again = await stage.register(header_text(lower))
    assert ids(encoded_again) != ids(admin.membership)
    person = Person()
    for cited, status in ((encoded_again, 400), (admin.membership, 200)):
        token = membership(team, person, "reader", by=admin, ttl_s=900, parents=ids(cited))
        reply = await stage.post("/delegate", token)
        assert reply.status == status, reply.said


async def test_who_can_read_names_members_who_attest(stage: Stage) -> None:
    """A member whom a policy keeps from reading as a member attests with two sign-ins to one key,
    and the answer to who can read the secret names this key (TM3, RL5)."""
    team = await stage.owner()
    bob, key = await admitted(stage, team, "reader")
    again = await bob.sign_in(stage, rights_on(team, "reader"), delegate=Delegate(key.signer))
    rights_to_know = [allow(team.network, SET_POLICY), allow(team.network, READ_RECEIPTS)]
    await team.client.delegations.add_right(team.wallet, rights_to_know)
    network = team.client.encryption.network()
    await team.client.encryption.set_policy(network, policy_for("approved", in_person=False))
    await stage.attest(key, team.network)
    assert (await stage.ask(key, team)).said == refused("policy")
    both = [*key.proofs, *again.proofs]
    assert opens(await stage.ask(key, team, proofs=both), key, team)
    assert ("backend", key.did, "attested") in await named_readers(team)


def machine_token_by(admin: Person, team: Owner, path: str) -> str:
    """Return a machine token for one value that an admin signed."""
    proofs = [admin.membership]
    return machine_token(
        admin.wallet, Delegate().did, [path], team.network, ttl_s=600, proofs=proofs
    )
