"""Tests of teams with members, with clients, wallets and a real node."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import pytest
from relay import Answer, relay_before

from capabilities.facts import MEMBER_URN, statement_resource
from capabilities.memberships import Membership, Role
from capabilities.principals import parse_principal
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    DelegationRevoked,
    InvalidInput,
    LifetimeTooLong,
    MalformedAnswer,
    NodeRefused,
    NotAMember,
    NotGranted,
    Unauthorized,
)
from sealspace.giving.teams.memberships import TeamMember, membership_rights
from sealspace.session import Grant, key_session, read_grant, sign_message
from sealspace.wallets import AnyWallet, new_wallet, wallet_of


@dataclass
class Person:
    """Somebody with a wallet who is signed in, and perhaps a member of the team."""

    client: Client
    wallet: AnyWallet
    team: str = ""

    @property
    def did(self) -> str:
        return self.client.session.owner

    async def as_member(self) -> Client:
        """Return a client that acts for the team."""
        teams = self.client.teams
        session = await teams.sign_in(self.wallet, await teams.membership(self.team))
        return self.client.acting(session)

    async def reads(self, name: str = "API_KEY") -> str | bytes:
        return await (await self.as_member()).secrets().get(name)


@dataclass
class Office:
    """A team whose first admin is Alice, with one secret."""

    bench: Any
    alice: Person
    team: str

    async def person(self) -> Person:
        client, wallet = await self.bench.owner()
        return Person(client, wallet, self.team)

    async def admitted(self, role: Role, *secrets: str, by: Person | None = None) -> Person:
        """Return a new person whom an admin has admitted."""
        person, admin = await self.person(), by or self.alice
        acting = await admin.as_member()
        await acting.teams.admit(person.did, role, secrets=secrets, wallet=admin.wallet)
        return person


@pytest.fixture
async def office(bench) -> Office:
    client, wallet = await bench.owner()
    alice = Person(client, wallet)
    created = await client.teams.create()
    alice.team = created.team
    await (await alice.as_member()).secrets().put("API_KEY", "open sesame")
    return Office(bench, alice, created.team)


async def roles(admin: Person) -> dict[str, str]:
    """Return the roles of the members by DID."""
    listed = await (await admin.as_member()).teams.members()
    return {str(one.did): one.role for one in listed.members}


async def removes(admin: Person, member: Person) -> tuple[TeamMember, ...]:
    """Remove a member, and return the memberships that were signed anew."""
    acting = await admin.as_member()
    return (await acting.teams.remove(member.did, wallet=admin.wallet)).renewed


# --- roles ----------------------------------------------------------------------------------------


async def test_create(bench) -> None:
    """A created team has a key of its own, and the admins that were named."""
    alice, bob = Person(*await bench.owner()), Person(*await bench.owner())
    before = alice.wallet.signatures
    created = await alice.client.teams.create([bob.did], names={bob.did: "bob"})
    assert alice.wallet.signatures == before  # the team's own wallet signs
    assert created.seed.hex() not in repr(created)
    alice.team = bob.team = created.team
    listed = await (await bob.as_member()).teams.members()
    assert {(str(one.did), one.name) for one in listed.members} == {
        (alice.did, None),
        (bob.did, "bob"),
    }
    assert not listed.has_one_admin
    assert {one.admitted_by for one in listed.members} == {created.team}


async def test_create_again_with_the_same_seed(office: Office, bench) -> None:
    """An interrupted creation is repeated with the same seed, and makes the same team."""
    seed = bytes(range(1, 33))
    first = await office.alice.client.teams.create(seed=seed)
    second = await office.alice.client.teams.create(seed=seed)
    assert first.team == second.team != office.team
    with pytest.raises(InvalidInput, match="not the key of a wallet"):
        await office.alice.client.teams.create(seed=bytes(32))


async def test_the_teams_own_session_ends_with_its_creation(office: Office, bench) -> None:
    """The sign-in of the team's own wallet is revoked when the team is made."""
    acting = await office.alice.as_member()
    signed = [
        one
        async for one in acting.delegations.query(direction="granted")
        if one.delegator == office.team and one.delegate.startswith("did:key:")
    ]
    assert [one.status for one in signed] == ["revoked"]


async def test_TM9_an_admin_reads_the_policy_of_the_network(office: Office) -> None:
    """TM9: an admin sees the terms of the team's network, and only the team may change them."""
    acting = await office.alice.as_member()
    network = acting.encryption.network()
    assert await acting.encryption.policy(network) is None
    with pytest.raises(NodeRefused) as refused:
        await acting.encryption.set_policy(network, Policy(in_person=False))
    assert refused.value.problem == "policy-not-in-person"
    assert await acting.encryption.policy(network) is None
    writer = await (await office.admitted("writer")).as_member()
    with pytest.raises(NotGranted):
        await writer.encryption.policy(network)


async def test_a_writer_writes_and_a_reader_reads(office: Office) -> None:
    """Each role does what it names, and no more."""
    writer, reader = await office.admitted("writer"), await office.admitted("reader")
    assert await reader.reads() == "open sesame"
    await (await writer.as_member()).secrets().put("API_KEY", "changed")
    assert await reader.reads() == "changed"
    acting = await reader.as_member()
    assert await acting.secrets().list() == ("API_KEY",)
    with pytest.raises(NotGranted):
        await acting.secrets().put("API_KEY", "mine")
    for person in (writer, reader):
        with pytest.raises(NotGranted):
            await (await person.as_member()).teams.members()
    assert await roles(office.alice) == {
        office.alice.did: "admin",
        writer.did: "writer",
        reader.did: "reader",
    }


async def test_a_member_for_some_secrets(office: Office) -> None:
    """A member for named secrets reads these alone."""
    await (await office.alice.as_member()).secrets().put("TOKEN", "other", scope="ci")
    person = await office.admitted("reader", "ci/TOKEN")
    acting = await person.as_member()
    assert await acting.secrets().get("TOKEN", scope="ci") == "other"
    with pytest.raises((NotGranted, Unauthorized)):
        await acting.secrets().get("API_KEY")
    (mine,) = await person.client.teams.memberships()
    assert (mine.role, mine.secrets) == ("reader", ("ci/TOKEN",))
    assert (await acting.secrets().list(scope="ci"), await acting.secrets().scopes()) == (
        ("TOKEN",),
        ("ci",),
    )
    assert await acting.secrets().list() == ()


async def test_change_role(office: Office) -> None:
    """A changed role counts from the next sign-in, and the former membership is revoked."""
    person = await office.admitted("reader")
    before = await person.as_member()
    acting = await office.alice.as_member()
    changed = await acting.teams.change_role(person.did, "writer", wallet=office.alice.wallet)
    assert len(changed.revoked) == 1
    with pytest.raises(DelegationRevoked):
        await before.secrets().get("API_KEY")
    await (await person.as_member()).secrets().put("API_KEY", "changed")
    assert (await roles(office.alice))[person.did] == "writer"
    ended = await acting.teams.members(ended=True)
    assert sorted(one.status for one in ended.members) == ["active", "active", "revoked"]


# --- removal --------------------------------------------------------------------------------------


async def test_remove(office: Office) -> None:
    """A removed member does nothing, with a session from before or a new one."""
    person = await office.admitted("writer")
    acting = await person.as_member()
    assert await acting.secrets().get("API_KEY") == "open sesame"
    assert await removes(office.alice, person) == ()
    with pytest.raises(DelegationRevoked):
        await acting.secrets().get("API_KEY")
    with pytest.raises(NotAMember, match="not a member of the team"):
        await person.as_member()
    with pytest.raises(NotAMember, match="is not a member of this team"):
        await removes(office.alice, person)


async def test_TM15_members_of_a_removed_admin_stay(office: Office) -> None:
    """TM15: memberships below a removed admin are signed anew, those of admins below too."""
    bob = await office.admitted("admin")
    carol = await office.admitted("admin", by=bob)
    dave = await office.admitted("reader", "API_KEY", by=carol)
    renewed = await removes(office.alice, bob)
    assert {(one.did, one.role, one.secrets) for one in renewed} == {
        (carol.did, "admin", ()),
        (dave.did, "reader", ("API_KEY",)),
    }
    assert await dave.reads() == "open sesame"
    listed = await roles(carol)
    assert listed == {office.alice.did: "admin", carol.did: "admin", dave.did: "reader"}


async def test_TM15_only_confirmed_memberships_are_signed_anew(office: Office) -> None:
    """TM15: of the memberships below a removed admin, only those that were named stay."""
    bob = await office.admitted("admin")
    second = await office.admitted("admin", by=bob)
    carol = await office.admitted("reader", by=second)
    acting, wallet = await office.alice.as_member(), office.alice.wallet
    found = await acting.teams.admitted_by(bob.did, wallet=wallet)
    assert {one.did for one in found} == {second.did, carol.did}
    assert all(one.since == office.bench.clock.now() for one in found)
    kept = [one.grant.cid for one in found if one.role != "admin"]
    # Bob admits another key while the person who removes him answers.
    third = await office.admitted("writer", by=second)
    removed = await acting.teams.remove(bob.did, wallet=wallet, kept=kept)
    assert [one.did for one in removed.renewed] == [carol.did]
    assert await carol.reads() == "open sesame"
    for person in (bob, second, third):
        with pytest.raises(NotAMember):
            await person.as_member()
    assert await acting.teams.admitted_by(carol.did, wallet=wallet) == ()


async def test_TM15_a_role_is_changed_without_second_keys(office: Office) -> None:
    """TM15: an admin who becomes a reader takes along who is not confirmed."""
    bob = await office.admitted("admin")
    second = await office.admitted("admin", by=bob)
    acting = await office.alice.as_member()
    await acting.teams.change_role(bob.did, "reader", wallet=office.alice.wallet, kept=[])
    assert await roles(office.alice) == {office.alice.did: "admin", bob.did: "reader"}
    with pytest.raises(NotAMember):
        await second.as_member()


async def test_TM15_an_interrupted_removal_is_repeated(office: Office) -> None:
    """TM15: a removal that stopped before the revocation renews nobody twice."""
    bob = await office.admitted("admin")
    carol = await office.admitted("reader", by=bob)
    acting = await office.alice.as_member()
    await acting.teams.admit(carol.did, "reader", wallet=office.alice.wallet)
    assert await removes(office.alice, bob) == ()
    assert await carol.reads() == "open sesame"
    assert len(await roles(office.alice)) == 2


async def test_TM15_an_admin_does_not_remove_who_admitted_them(office: Office) -> None:
    """An admin whose own membership would end removes nobody, because nothing could be renewed."""
    bob = await office.admitted("admin")
    carol = await office.admitted("admin", by=bob)
    with pytest.raises(InvalidInput, match="depends on this member"):
        await removes(carol, bob)
    assert len(await roles(office.alice)) == 3


async def test_TM15_the_last_admin_stays(office: Office) -> None:
    """The last admin is neither removed nor made a writer, and does not leave."""
    acting = await office.alice.as_member()
    wallet = office.alice.wallet
    assert (await acting.teams.members()).has_one_admin
    for change in (
        acting.teams.remove(office.alice.did, wallet=wallet),
        acting.teams.change_role(office.alice.did, "writer", wallet=wallet),
        office.alice.client.teams.leave(office.team, wallet=wallet),
    ):
        with pytest.raises(InvalidInput, match="the team would have no admin"):
            await change
    assert await office.alice.reads() == "open sesame"


async def test_TM15_leave(office: Office) -> None:
    """A member leaves with all memberships; an admin only if nobody depends on them."""
    person = await office.admitted("reader")
    acting = await office.alice.as_member()
    await acting.teams.admit(person.did, "writer", wallet=office.alice.wallet)
    assert len(await person.client.teams.leave(office.team, wallet=person.wallet)) == 2
    with pytest.raises(NotAMember):
        await person.client.teams.leave(office.team, wallet=person.wallet)
    bob = await office.admitted("admin")
    carol = await office.admitted("reader", by=bob)
    with pytest.raises(InvalidInput, match="cannot leave yet"):
        await bob.client.teams.leave(office.team, wallet=bob.wallet)
    await removes(bob, carol)
    assert len(await bob.client.teams.leave(office.team, wallet=bob.wallet)) == 1
    assert await roles(office.alice) == {office.alice.did: "admin"}


# --- bad input ------------------------------------------------------------------------------------


async def test_arguments(office: Office, bench) -> None:
    """Keys, wrong names, too many secrets and too long lives are refused, and nothing is sent."""
    acting = await office.alice.as_member()
    wallet, did = office.alice.wallet, new_wallet().did
    key = key_session(bytes(range(32))).did
    for call in (
        acting.teams.admit(key, "reader", wallet=wallet),
        acting.teams.admit("bob", "reader", wallet=wallet),
        acting.teams.admit(did, "reader", wallet=wallet, name="a b"),
        acting.teams.admit(did, "admin", wallet=wallet, secrets=["API_KEY"]),
        acting.teams.admit(did, "reader", wallet=wallet, secrets=[f"A{n}" for n in range(65)]),
        acting.teams.admit(did, "reader", wallet=wallet, ttl_s=0),
        acting.teams.admit(did, "reader", wallet=wallet, ttl_s=6 * 366 * 86_400),
        office.alice.client.teams.create([key]),
    ):
        with pytest.raises(InvalidInput):
            await call
    with pytest.raises(LifetimeTooLong):
        await acting.teams.admit(did, "reader", wallet=wallet, ttl_s=366 * 86_400)
    assert len(await roles(office.alice)) == 1


async def test_who_may_admit(office: Office) -> None:
    """A writer admits nobody, with the own session or with an admin's."""
    writer = await office.admitted("writer")
    acting = await office.alice.as_member()
    with pytest.raises(NotAMember, match="is not an admin"):
        await acting.teams.admit(new_wallet().did, "reader", wallet=writer.wallet)
    with pytest.raises(NotGranted):
        await (await writer.as_member()).teams.admit(
            new_wallet().did, "reader", wallet=writer.wallet
        )


async def test_sign_in_with_another_wallet(office: Office) -> None:
    """A membership is of use to its member alone, and only a membership signs in."""
    (mine,) = await office.alice.client.teams.memberships()
    with pytest.raises(InvalidInput, match="not for"):
        await office.alice.client.teams.sign_in(new_wallet(), mine)
    with pytest.raises(InvalidInput, match="at most 30 days"):
        await office.alice.client.teams.sign_in(office.alice.wallet, mine, ttl_s=31 * 86_400)
    own = await office.alice.client.delegations.delegate(
        office.alice.did, [allow(office.alice.client.kv().space.text + "/kv/x", "tinycloud.kv/get")]
    )
    with pytest.raises(InvalidInput, match="not a membership"):
        await office.alice.client.teams.sign_in(office.alice.wallet, read_grant(own.header))


async def test_a_membership_of_a_stranger(office: Office, bench) -> None:
    """Anybody can make somebody a member of their own team; it is listed with its own DID."""
    mallory = Person(*await bench.owner())
    created = await mallory.client.teams.create([office.alice.did])
    found = await office.alice.client.teams.memberships()
    assert {one.team for one in found} == {office.team, created.team}
    assert (await office.alice.client.teams.membership(office.team)).team == office.team


async def test_memberships_of_strangers_do_not_hide_a_team(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers who sign many memberships for a person do not keep the person from a team."""
    bob = await office.admitted("reader")
    for _ in range(3):
        stranger = await office.person()
        await stranger.client.teams.create([bob.did])
    teams = bob.client.teams
    found = await teams.own_memberships()
    assert len(found.memberships) == 4 and not found.is_cut
    monkeypatch.setattr("sealspace.giving.teams.membership_records._MOST_MEMBERSHIPS", 2)
    found = await teams.own_memberships()
    assert (await teams.memberships()) == found.memberships
    assert len(found.memberships) == 2 and found.is_cut
    assert (await bob.client.teams.membership(office.team)).role == "reader"
    assert await bob.client.teams.leave(office.team, wallet=bob.wallet)


async def test_many_memberships_of_one_team_hide_no_other(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each team the latest memberships are read, however many its owner signs for a person."""
    bob = await office.admitted("reader")
    stranger = await office.person()
    team = (await stranger.client.teams.create([bob.did])).team
    session = await stranger.client.teams.sign_in(
        stranger.wallet, await stranger.client.teams.membership(team)
    )
    strangers_team = stranger.client.acting(session).teams
    for _ in range(5):
        await strangers_team.admit(bob.did, "reader", wallet=stranger.wallet)
    monkeypatch.setattr("sealspace.giving.teams.membership_records._MOST_MEMBERSHIPS", 5)
    found = await bob.client.teams.own_memberships()
    assert not found.is_cut
    assert {one.team for one in found.memberships} == {office.team, team}
    with pytest.raises(MalformedAnswer, match="more than 5"):
        await bob.client.teams.memberships(team)
    assert (await bob.client.teams.membership(office.team)).role == "reader"


# --- a node that lies -----------------------------------------------------------------------------


def forged(
    office: Office, did: str, wallet: AnyWallet, parents: tuple[str, ...], role: Role = "reader"
) -> Grant:
    """Return a membership that a wallet signed, with no node asked."""
    now = int(office.bench.clock.now())
    team = parse_principal(office.team)
    stated = Membership(member=did, role=role, end=now + 3600)
    return read_grant(
        sign_message(
            wallet_of(wallet),
            office.bench.entropy,
            domain="localhost",
            uri=did,
            issued_at=now,
            expires_at=now + 3600,
            capabilities=membership_rights(team, role, ()),
            parents=parents,
            resources=[statement_resource(msgspec.to_builtins(stated), urn=MEMBER_URN)],
        )
    )


async def test_TM2_memberships_that_a_node_invents(office: Office) -> None:
    """TM2: the client lists no membership that neither the team nor an admin of it signed."""
    alice, writer = office.alice, await office.admitted("writer")
    (hers,) = await alice.client.teams.memberships()
    (theirs,) = await writer.client.teams.memberships()
    did = new_wallet().did
    made = forged(office, did, alice.wallet, (hers.grant.cid,))
    inventions = [
        forged(office, did, new_wallet(), ()),
        forged(office, did, writer.wallet, (theirs.grant.cid,)),
        forged(office, did, alice.wallet, ()),
        forged(office, did, new_wallet(), (hers.grant.cid,)),
        forged(office, did, alice.wallet, (made.cid,)),
        replace(made, header=made.header[:-3] + "AAA"),
    ]

    def add(grants: list[Grant], answer: Answer) -> None:
        if answer.path != "/delegation/query":
            return
        page = json.loads(answer.body)
        for grant in grants:
            parents = [hers.grant.cid]
            page["items"].append(
                page["items"][0] | {"cid": grant.cid, "token": grant.header, "parents": parents}
            )
        answer.body = json.dumps(page).encode()

    session = (await alice.as_member()).session
    clock, entropy = office.bench.clock, office.bench.entropy
    async with (
        relay_before(office.bench.node.url) as relay,
        Client(relay.url, session=session, clock=clock, entropy=entropy) as client,
    ):
        for invention in inventions:
            relay.twist = partial(add, [invention])
            listed = {one.did for one in (await client.teams.members()).members}
            assert listed == {alice.did, writer.did}, invention
        # A membership that Alice signed is listed, so the node's answer was read.
        relay.twist = partial(add, [made])
        assert did in {one.did for one in (await client.teams.members()).members}
