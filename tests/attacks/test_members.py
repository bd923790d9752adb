"""Attacks by members of a team, former members and strangers (TM1 to TM8)."""

import json
import time
from typing import Any

import pytest
from attacks.held_store import HeldStage
from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    ROUTES,
    SECRET,
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
from attacks.team_parties import METADATA, Person, admitted, member_resource, membership, rights_on
from attacks.test_id_tokens import GITHUB, exchange, is_refused
from attacks.test_machine_tokens import envelope_of
from attacks.test_races import is_release, meanwhile, release_records
from attacks.test_receipts import kept, reader
from oidc_issuer import SHOP, Issuer, github_claims
from running_node import key_token, wallet_token

from capabilities.abilities import READ_RECEIPTS
from capabilities.facts import OIDC_URN, statement_resource
from capabilities.memberships import MAX_LIFE_S, Role
from capabilities.strict_json import Json
from encryption_network.envelope import encode_envelope
from sealspace.delegations import allow
from spaces.keyspace import marker_key
from spaces.store.contract import Commit

pytestmark = pytest.mark.slow

OTHER = "OTHER_KEY"
ROLES: tuple[Role, ...] = ("admin", "writer", "reader")
REVOKE = "tinycloud.delegation/revoke"


async def status(stage: Stage, key: Delegate, resource: str, ability: str) -> int:
    """Return the HTTP status of one operation on a value."""
    body = b"x" if ability == PUT else None
    grants = {resource: [ability]}
    return (await stage.invoke(key.signer, grants, proofs=key.proofs, body=body)).status


async def reads(stage: Stage, key: Delegate, team: Owner, **more: Any) -> bool:
    """Return whether a key may fetch the secret and gets its content key, on both routes."""
    may_fetch = await status(stage, key, team.secret, GET) == 200
    replies = [await stage.ask(key, team, route, **more) for route in ROUTES]
    may_open = [opens(reply, key, team) for reply in replies if reply.status == 200]
    assert len(may_open) in (0, len(ROUTES))
    return may_fetch and len(may_open) == len(ROUTES)


def removal(key: Delegate, *tokens: str) -> str:
    """Return a token that revokes delegations."""
    grants = {f"urn:cid:{cid}": [REVOKE] for cid in ids(*tokens)}
    return key_token(key.signer, key.did, grants, proofs=key.proofs, ttl_s=60)


def token_by(team: Owner, admin: Person, program: Delegate, **more: Any) -> str:
    """Return a machine token for the secret that an admin signed."""
    given: dict[str, Any] = {"ttl_s": 600, "proofs": [admin.membership]} | more
    return machine_token(admin.wallet, program.did, [team.secret], team.network, **given)


def trust_by(team: Owner, admin: Person, issuer: Issuer, exchange_key: str) -> str:
    """Return a trust in an issuer for the secret that an admin signed."""
    ends_at = int(time.time()) + 600
    stated: dict[str, Json] = {
        "key": exchange_key,
        "paths": [team.secret],
        "end": ends_at,
        "name": "shop",
        "issuer": issuer.address,
        "claims": {"repository_id": [SHOP["repository_id"]]},
        "jwks": issuer.jwks,
    }
    return wallet_token(
        admin.wallet,
        exchange_key,
        {team.secret: [GET], team.network: [DECRYPT]},
        ends_at=ends_at,
        parents=ids(admin.membership),
        resources=[statement_resource(stated, urn=OIDC_URN)],
    )


def is_revocation(commit: Commit) -> bool:
    """Return whether a commit revokes a delegation."""
    return bool(commit.live) and any(put.key.startswith(marker_key(b"")) for put in commit.puts)


# --- what each role may do ------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_TM4_a_member_reads_and_writes_by_role(stage: Stage, role: Role) -> None:
    """Every member reads; a writer and an admin also write (TM1, TM4)."""
    team = await stage.owner()
    _, key = await admitted(stage, team, role)
    assert await reads(stage, key, team)
    expected = 401 if role == "reader" else 200
    assert await status(stage, key, team.secret, PUT) == expected
    assert await status(stage, key, team.secret, DELETE) == expected
    assert await status(stage, key, f"{team.space()}/kv/notes", GET) == 401


async def test_TM4_a_member_for_some_secrets(stage: Stage) -> None:
    """A member for one secret opens this one alone, wherever its envelope or key was copied (TM4,
    RL22)."""
    team = await stage.owner()
    await team.client.secrets().put(OTHER, "another value")
    other = await envelope_of(team, OTHER)
    _, key = await admitted(stage, team, "writer", SECRET)
    assert await reads(stage, key, team)
    assert await status(stage, key, team.client.secrets().resource(OTHER), GET) == 401
    assert (await stage.ask(key, team, envelope=other)).said == refused("path")
    reply = await stage.invoke(
        key.signer, {team.secret: [PUT]}, proofs=key.proofs, body=encode_envelope(other)
    )
    assert reply.status == 200
    for route in ROUTES:
        assert (await stage.ask(key, team, route, envelope=other)).said == refused("path", route)


async def test_TM4_only_what_was_stored_as_a_secret(stage: Stage) -> None:
    """A member for all secrets does not open other envelopes of the team's network (TM4)."""
    team = await stage.owner()
    encryption = team.client.encryption
    contacts = await encryption.encrypt(b"private", network=encryption.network())
    _, key = await admitted(stage, team, "reader")
    assert (await stage.ask(key, team, envelope=contacts)).said == refused("path")
    await team.client.kv("default").put("vault/contacts", encode_envelope(contacts))
    assert (await stage.ask(key, team, envelope=contacts)).said == refused("path")
    await team.client.kv("secrets").put("vault/secrets/COPY", encode_envelope(contacts))
    assert (await stage.ask(key, team, envelope=contacts)).said == refused("path")


async def test_TM4_a_blocked_key_opens_for_members_who_read_all(stage: Stage) -> None:
    """A key that was stored as two secrets opens for members for all secrets, and for no member for
    some (TM4)."""
    team = await stage.owner()
    _, everything = await admitted(stage, team, "reader")
    _, one = await admitted(stage, team, "reader", SECRET)
    await team.client.kv("secrets").put("vault/secrets/COPY", encode_envelope(team.envelope))
    assert await reads(stage, everything, team)
    assert (await stage.ask(one, team)).said == refused("path")


async def test_TM4_policies_and_modes_apply(stage: Stage) -> None:
    """A policy that requires evidence from the owner requires it from members, whose evidence does
    not help (TM4)."""
    team = await stage.owner()
    _, key = await admitted(stage, team, "admin")
    await team.client.delegations.add_right(team.wallet, [allow(team.network, SET_POLICY)])
    network = team.client.encryption.network()
    await team.client.encryption.set_policy(network, policy_for("approved"))
    assert await reads(stage, key, team)
    await team.client.encryption.set_policy(network, policy_for("approved", in_person=False))
    await stage.attest(key, team.network)
    assert (await stage.ask(key, team)).said == refused("policy")


@pytest.mark.parametrize("role", ROLES)
async def test_TM5_versions(stage: Stage, role: Role) -> None:
    """Writers and admins read the versions of a secret; only an admin removes them (TM5)."""
    team = await stage.owner()
    await team.client.secrets().put(SECRET, "a second value")
    _, key = await admitted(stage, team, role)
    headers = {"x-sealspace-version": "1"}
    reply = await stage.invoke(key.signer, {team.secret: [GET]}, proofs=key.proofs, headers=headers)
    assert reply.status == (403 if role == "reader" else 200)
    purge = {"x-sealspace-purge": "true"}
    reply = await stage.invoke(
        key.signer, {team.secret: [DELETE]}, proofs=key.proofs, headers=purge
    )
    assert reply.status == {"admin": 200, "writer": 403, "reader": 401}[role]


async def test_M62_who_stored_a_secret(stage: Stage) -> None:
    """Each version names the wallet that signed its writer in, not the session's key. A key that
    two wallets signed in is named itself, so that neither passes for the other (M62)."""
    team = await stage.owner()
    writer, key = await admitted(stage, team, "writer")
    by_writer = key.proofs
    admin, _ = await admitted(stage, team, "admin")
    by_admin = (await admin.sign_in(stage, rights_on(team, "admin"), delegate=key)).proofs
    body = encode_envelope(team.envelope)
    for proofs in (by_writer, by_admin, [*by_writer, *by_admin]):
        reply = await stage.invoke(key.signer, {team.secret: [PUT]}, proofs=proofs, body=body)
        assert reply.status == 200
    headers = {"x-sealspace-version": "all"}
    listed = await stage.invoke(
        key.signer, {team.secret: [METADATA]}, proofs=by_writer, headers=headers
    )
    stored_by = [version["storedBy"] for version in json.loads(listed.body)]
    assert stored_by == [key.did, admin.did, writer.did, team.wallet.did]


async def test_M62_a_member_who_passes_the_right_on(stage: Stage) -> None:
    """A member who has a further key write is named, and not the admin who admitted the member."""
    team = await stage.owner()
    admin, _ = await admitted(stage, team, "admin")
    writer, key = await admitted(stage, team, "writer", by=admin)
    bare = Delegate()
    bare.proofs = [await stage.register(key.grant(bare.did, {team.secret: [PUT]}, ttl_s=300))]
    body = encode_envelope(team.envelope)
    assert (
        await stage.invoke(bare.signer, {team.secret: [PUT]}, proofs=bare.proofs, body=body)
    ).status == 200
    assert (await stored_by(stage, team, key))[0] == writer.did


async def test_M62_a_sign_in_that_does_not_support_the_write(stage: Stage) -> None:
    """A sign-in for something else, cited beside the right, names nobody (M62)."""
    team = await stage.owner()
    writer, key = await admitted(stage, team, "writer")
    other = Person()
    for_own = {f"tinycloud:{other.did[4:]}:default/kv": [PUT]}
    unrelated = await stage.register(wallet_token(other.wallet, key.did_url, for_own, ttl_s=300))
    body = encode_envelope(team.envelope)
    for proofs in ([unrelated, *key.proofs], [*key.proofs, unrelated]):
        reply = await stage.invoke(key.signer, {team.secret: [PUT]}, proofs=proofs, body=body)
        assert reply.status == 200
        assert (await stored_by(stage, team, key))[0] == writer.did


async def stored_by(stage: Stage, team: Owner, key: Delegate) -> list[str]:
    """Return who stored each version of the secret, the newest first."""
    headers = {"x-sealspace-version": "all"}
    listed = await stage.invoke(
        key.signer, {team.secret: [METADATA]}, proofs=key.proofs, headers=headers
    )
    return [version["storedBy"] for version in json.loads(listed.body)]


async def test_RC33_a_member_who_fetches_a_copy(stage: Stage) -> None:
    """A fetch from a team's folder of copies is the member's, and not the admitting admin's."""
    team = await stage.owner()
    admin, _ = await admitted(stage, team, "admin")
    friend, key = await admitted(stage, team, "reader", by=admin)
    path = f"vault/secrets/shared/{friend.did}/{'A' * 43}/{SECRET}"
    await team.client.kv("secrets").put(path, encode_envelope(team.envelope))
    assert await status(stage, key, f"{team.space('secrets')}/kv/{path}", GET) == 200
    await team.client.delegations.add_right(team.wallet, [allow(team.network, READ_RECEIPTS)])
    assert [one.reader async for one in team.client.receipts.fetches()] == [friend.did]


async def test_TM8_last_reads_are_the_members(held: HeldStage) -> None:
    """A member's read is not credited to the admin who admitted the member."""
    team = await held.owner()
    admin, _ = await admitted(held, team, "admin")
    friend, key = await admitted(held, team, "reader", by=admin)
    other, _ = await admitted(held, team, "reader", by=admin)
    assert await reads(held, key, team)
    rights = [allow(team.network, SET_POLICY), allow(team.network, READ_RECEIPTS)]
    await team.client.delegations.add_right(team.wallet, rights)
    access = await team.client.access.of(SECRET)
    have_read = {one.did: one.last_read is not None for one in access.readers}
    assert [have_read[one.did] for one in (friend, admin, other)] == [True, False, False]


# --- who is a member ------------------------------------------------------------------------------


def malformed(team: Owner, person: Person) -> dict[str, str]:
    """Return memberships that break one rule each, by what is wrong."""
    stranger = Person()
    folder = team.client.secrets().resource(SECRET).removesuffix(SECRET)
    foreign = folder.replace(
        team.wallet.did.removeprefix("did:"), stranger.did.removeprefix("did:")
    )
    listed = rights_on(team, "reader", [folder])
    two = [member_resource({"member": person.did, "role": "reader", "end": 1})] * 2
    return {
        "for somebody else": membership(team, person, "reader", changes={"member": stranger.did}),
        "of no role": membership(team, person, "reader", changes={"role": "owner"}),
        "ends earlier": membership(team, person, "reader", changes={"end": 1}),
        "is too long": membership(team, person, "reader", ttl_s=MAX_LIFE_S + 60),
        "more members": membership(team, person, "reader", changes={"more": 1}),
        "writes as a reader": membership(team, person, "reader", grants=rights_on(team, "writer")),
        "reads less": membership(team, person, "writer", grants=rights_on(team, "reader")),
        "reads elsewhere": membership(
            team, person, "reader", also={f"{team.space()}/kv/notes": [GET]}
        ),
        "a folder": membership(team, person, "reader", grants=listed, changes={"paths": [folder]}),
        "of another owner": membership(
            team, person, "reader", SECRET, changes={"paths": [f"{foreign}{SECRET}"]}
        ),
        "a secret twice": membership(
            team, person, "reader", SECRET, changes={"paths": [f"{folder}{SECRET}"] * 2}
        ),
        "an empty list": membership(team, person, "reader", changes={"paths": []}),
        "an admin who reads less": membership(
            team, person, "admin", grants=rights_on(team, "reader")
        ),
        "an admin for one secret": membership(
            team, person, "admin", grants=rights_on(team, "writer", [f"{folder}{SECRET}"])
        ),
        "an admin who opens nothing": membership(
            team, person, "admin", grants={folder: [GET, PUT, DELETE, LIST, METADATA]}
        ),
        "an admin with many rights": membership(
            team,
            person,
            "admin",
            also={f"{team.space()}/kv/{number}": [GET] for number in range(64)},
        ),
        "an admin with a list": membership(
            team, person, "admin", changes={"paths": [f"{folder}{SECRET}"]}
        ),
        "with a policy": membership(team, person, "reader", policy=policy_for("approved")),
        "two statements": membership(team, person, "reader", resources=two),
        "another version": membership(
            team,
            person,
            "reader",
            resources=[member_resource({}, urn="urn:sealspace:member:v2:")],
        ),
    }


async def test_TM1_malformed_memberships_are_not_registered(stage: Stage) -> None:
    """Registration refuses a membership that says another thing than it grants (TM1)."""
    team, person = await stage.owner(), Person()
    for what, token in malformed(team, person).items():
        reply = await stage.post("/delegate", token)
        assert reply.status == 400, (what, reply.said)


async def test_TM2_only_the_team_and_admins_admit(stage: Stage) -> None:
    """A writer, a reader, a session's key and an admin of another team admit nobody (TM2)."""
    team, other = await stage.owner(), await stage.owner()
    admin, _ = await admitted(stage, team, "admin")
    _, friend = await admitted(stage, team, "reader", by=admin)
    assert await reads(stage, friend, team)
    for by in (
        (await admitted(stage, team, "writer"))[0],
        (await admitted(stage, team, "reader"))[0],
        (await admitted(stage, other, "admin"))[0],
    ):
        reply = await stage.post("/delegate", membership(team, Person(), "reader", by=by))
        assert reply.status in (400, 401), reply.said
    with_more = membership(team, Person(), "reader", by=admin, parents=ids(admin.membership) * 2)
    assert (await stage.post("/delegate", with_more)).status in (400, 401)


async def test_TM3_a_sign_in_of_somebody_else(stage: Stage) -> None:
    """Nobody but the member signs in with a membership (TM3)."""
    team = await stage.owner()
    bob, _ = await admitted(stage, team, "reader")
    thief = Person(membership=bob.membership)
    with pytest.raises(AssertionError, match="401"):
        await thief.sign_in(stage, rights_on(team, "reader"))


async def test_TM4_a_sign_in_is_cited_alone(stage: Stage) -> None:
    """A sign-in that is cited beside another one, or passed on, gives no ground (TM4)."""
    team = await stage.owner()
    bob, key = await admitted(stage, team, "reader")
    again = await bob.sign_in(stage, rights_on(team, "reader"), delegate=Delegate(key.signer))
    reply = await stage.ask(key, team, proofs=[*key.proofs, *again.proofs])
    assert reply.said == refused("no_policy")
    program = Delegate()
    program.proofs = [
        await stage.register(key.grant(program.did, {team.network: [DECRYPT]}, ttl_s=300))
    ]
    assert (await stage.ask(program, team)).said == refused("no_policy")
    bare = Delegate()
    bare.proofs = [bob.membership]
    assert (await stage.ask(bare, team)).status == 401


async def test_TM4_a_wallets_grant_to_another_form_is_no_sign_in(stage: Stage) -> None:
    """A grant of a member to a DID, not to a DID URL, is no sign-in (TM3)."""
    team = await stage.owner()
    bob, _ = await admitted(stage, team, "reader")
    agent = Delegate()
    grant = wallet_token(
        bob.wallet, agent.did, rights_on(team, "reader"), parents=ids(bob.membership), ttl_s=900
    )
    agent.proofs = [await stage.register(grant)]
    assert (await stage.ask(agent, team)).said == refused("no_policy")


async def test_TM6_an_admin_approves_code(stage: Stage) -> None:
    """A list of code counts if an admin's wallet or session signed it, and not a writer's (TM6)."""
    team = await stage.owner()
    for role in ROLES:
        _, key = await admitted(stage, team, role)
        program = Delegate()
        grants = {team.network: [DECRYPT]}
        policy = policy_for("approved")
        program.proofs = [
            await stage.register(key.grant(program.did, grants, policy=policy, ttl_s=300))
        ]
        await stage.attest(program, team.network)
        reply = await stage.ask(program, team)
        if role == "admin":
            assert opens(reply, program, team)
        else:
            assert reply.said == refused("no_policy")


async def test_TM6_an_admins_machine_token(stage: Stage) -> None:
    """A machine token by an admin's wallet opens its paths until it or the admin is removed; one by
    a writer, a reader or with more rights is not registered (TM6)."""
    team = await stage.owner()
    await team.client.secrets().put(OTHER, "another value")
    _, other_admin = await admitted(stage, team, "admin")
    admin, _ = await admitted(stage, team, "admin")
    program = Delegate()
    token = token_by(team, admin, program)
    program.proofs = [await stage.register(token)]
    assert await reads(stage, program, team)
    other = await envelope_of(team, OTHER)
    assert (await stage.ask(program, team, envelope=other)).said == refused("path")
    for by in (
        (await admitted(stage, team, "writer"))[0],
        (await admitted(stage, team, "reader"))[0],
        (await admitted(stage, await stage.owner(), "admin"))[0],
    ):
        reply = await stage.post("/delegate", token_by(team, by, Delegate()))
        assert reply.status == 401, reply.said
    for changes in ({"unbound": True}, {"ttl_s": 7_200}, {"also": {team.secret: [PUT]}}):
        reply = await stage.post("/delegate", token_by(team, admin, Delegate(), **changes))
        assert reply.status in (400, 401), (changes, reply.said)
    assert (await stage.post("/revoke", removal(other_admin, admin.membership))).status == 200
    assert (await stage.ask(program, team)).status == 401
    assert await status(stage, program, team.secret, GET) == 401


async def test_TM6_an_admins_trust(held: HeldStage) -> None:
    """A job under a trust by an admin reads the trust's secret until the admin is removed, and a
    writer's trust is not registered (TM6)."""
    team, issuer = await held.owner(), Issuer(GITHUB)
    _, other_admin = await admitted(held, team, "admin")
    admin, _ = await admitted(held, team, "admin")
    exchange_key = held.services.keyring.exchange_signer.did
    trust = await held.register(trust_by(team, admin, issuer, exchange_key))
    job = Delegate()
    token = issuer.token(github_claims(), audience=held.node_did)
    assert (await exchange(held, ids(trust)[0], token, job)).status == 200
    assert await reads(held, job, team)
    writer, _ = await admitted(held, team, "writer")
    reply = await held.post("/delegate", trust_by(team, writer, issuer, exchange_key))
    assert reply.status == 401
    assert (await held.post("/revoke", removal(other_admin, admin.membership))).status == 200
    assert (await held.ask(job, team)).status == 401
    again = issuer.token(github_claims(), audience=held.node_did)
    assert is_refused(await exchange(held, ids(trust)[0], again, Delegate()))


# --- removal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_TM7_a_removed_member_does_nothing(stage: Stage, role: Role) -> None:
    """After an admin's removal is acknowledged, the member and those below read and write nothing
    (TM7)."""
    team = await stage.owner()
    _, admin = await admitted(stage, team, "admin")
    person, key = await admitted(stage, team, role)
    others = [key]
    if role == "admin":
        others.append((await admitted(stage, team, "writer", by=person))[1])
    assert (await stage.post("/revoke", removal(admin, person.membership))).status == 200
    for one in others:
        for ability in (GET, PUT, DELETE):
            assert await status(stage, one, team.secret, ability) == 401
        assert (await stage.ask(one, team)).status == 401
    later = membership(team, Person(), "reader", by=person, ttl_s=900)
    assert (await stage.post("/delegate", later)).status == (401 if role == "admin" else 400)
    assert await reads(stage, admin, team)


async def test_TM7_only_an_admin_removes(stage: Stage) -> None:
    """Writers, readers, admins of other teams and admins without the right remove nobody (TM7)."""
    team, other = await stage.owner(), await stage.owner()
    bob, bobs_key = await admitted(stage, team, "reader")
    admin, _ = await admitted(stage, team, "admin")
    without = await admin.sign_in(stage, rights_on(team, "reader"))
    keys = [without]
    keys.append((await admitted(stage, team, "writer"))[1])
    keys.append((await admitted(stage, team, "reader"))[1])
    keys.append((await admitted(stage, other, "admin"))[1])
    for key in keys:
        reply = await stage.post("/revoke", removal(key, bob.membership))
        assert reply.status == 403, reply.said
    assert await reads(stage, bobs_key, team)


async def test_TM7_a_member_leaves(stage: Stage) -> None:
    """A member ends the own membership with a token of the own wallet's session (W22)."""
    team = await stage.owner()
    person, key = await admitted(stage, team, "reader")
    (cid,) = ids(person.membership)
    await team.client.delegations.revoke_by_wallet(cid, person.wallet)
    assert (await stage.ask(key, team)).status == 401


async def test_TM7_two_admins_remove_each_other(held: HeldStage) -> None:
    """Of two admins who remove each other at once, exactly one stays (TM7)."""
    team = await held.owner()
    one, ones_key = await admitted(held, team, "admin")
    two, twos_key = await admitted(held, team, "admin")
    replies = []

    async def other() -> None:
        replies.append(await held.post("/revoke", removal(twos_key, one.membership)))

    waiting = held.store.hold(is_revocation)
    asking = held.post("/revoke", removal(ones_key, two.membership))
    replies.append(await meanwhile(asking, waiting, other))
    assert sorted(reply.status for reply in replies) == [200, 403]
    left = [await reads(held, key, team) for key in (ones_key, twos_key)]
    assert sorted(left) == [False, True]


async def test_TM7_a_removal_during_a_release(held: HeldStage) -> None:
    """A release is refused if the member is removed between the check and the commit (TM7)."""
    team = await held.owner()
    _, admin = await admitted(held, team, "admin")
    person, key = await admitted(held, team, "reader")

    async def remove() -> None:
        assert (await held.post("/revoke", removal(admin, person.membership))).status == 200

    waiting = held.store.hold(is_release)
    reply = await meanwhile(held.ask(key, team), waiting, remove)
    assert reply.status == 401
    assert release_records(waiting) == 0


async def test_TM8_receipts_name_the_member(held: HeldStage) -> None:
    """The receipt and the audit record of a member's read have the member's DID (TM8)."""
    team = await held.owner()
    person, key = await admitted(held, team, "reader")
    assert await reads(held, key, team)
    await reader(held, team)
    receipt = (await kept(held, team)).receipt
    assert (receipt.ground, receipt.member) == ("member", person.did)


async def test_listing_needs_all_secrets(stage: Stage) -> None:
    """A member for one secret lists nothing."""
    team = await stage.owner()
    folder = team.secret.removesuffix(SECRET)
    _, everything = await admitted(stage, team, "reader")
    _, one = await admitted(stage, team, "reader", SECRET)
    assert await status(stage, everything, folder, LIST) == 200
    assert await status(stage, one, folder, LIST) == 401


async def test_who_can_read_names_members_and_what_admins_granted(stage: Stage) -> None:
    """The answer to who can read a secret names each member for it, the machine tokens and the code
    of admins, and nobody who was removed."""
    team = await stage.owner()
    admin, key = await admitted(stage, team, "admin")
    friend, _ = await admitted(stage, team, "reader", by=admin)
    one, _ = await admitted(stage, team, "writer", SECRET)
    await admitted(stage, team, "reader", OTHER)
    program, backend = Delegate(), Delegate()
    program.proofs = [await stage.register(token_by(team, admin, program))]
    rights = {team.network: [DECRYPT], team.secret: [GET]}
    grant = key.grant(backend.did, rights, policy=policy_for("approved"), ttl_s=300)
    backend.proofs = [await stage.register(grant)]
    rights_to_know = [allow(team.network, SET_POLICY), allow(team.network, READ_RECEIPTS)]
    await team.client.delegations.add_right(team.wallet, rights_to_know)
    named = await named_readers(team)
    assert named == {
        ("member", admin.did, "now"),
        ("member", friend.did, "now"),
        ("member", one.did, "now"),
        ("token", program.did, "now"),
        ("backend", backend.did, "attested"),
    }
    assert await reads(stage, program, team)
    await stage.attest(backend, team.network)
    assert await reads(stage, backend, team)
    assert (await stage.post("/revoke", removal(key, one.membership))).status == 200
    assert await named_readers(team) == named - {("member", one.did, "now")}


async def named_readers(team: Owner) -> set[tuple[str, str, str]]:
    """Return kind, DID and state of those who can read the secret, without the owner."""
    access = await team.client.access.of(SECRET)
    assert access.is_complete, access.missing
    return {
        (one.kind, one.did, one.state)
        for one in access.readers
        if one.kind not in ("owner", "session", "operator")
    }
