"""Teams and invitations of the console's modules, with the SDK on the other side."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from console_team import Team, created_team
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts

from capabilities.capability_errors import CapabilityError
from capabilities.clock_and_entropy import SystemEntropy
from capabilities.facts import MEMBER_URN, statement_resource
from capabilities.memberships import Role, is_membership, stated_membership
from capabilities.principals import parse_principal
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from capabilities.tokens import Capability, parse_delegation, verify_delegation
from sealspace.client import Client
from sealspace.documents.invitations import commitment
from sealspace.giving.teams.memberships import TeamMember, membership_rights
from sealspace.session import read_grant, sign_message
from sealspace.wallets import new_wallet

AS_MEMBER = """
  const teams = await at("teams");
  const { Client } = await at("client");
  const { owner, held } = await signedIn();
  const own = Client(held);
  const [mine] = await teams.memberships(own);
  const client = mine && Client(await teams.signInFor(held, owner, mine, "shop"), own);
"""
"""Signs in, and for the team of which the page's wallet is a member."""


@pytest.fixture
def team(loop: LoopThread, node: EmbeddedNode) -> Team:
    """A new team with two secrets."""
    return created_team(loop, node.url)


def test_TM1_memberships_are_read_as_the_sdk_reads_them(
    team: Team, scripts: Scripts, signer: WalletSigner
) -> None:
    """The console reads the memberships that the SDK signs."""
    team.admit(signer.did, "writer", "API_KEY", "ci/TOKEN", name="bob")
    (read,) = in_page(
        scripts,
        'const { owner, held } = await signedIn(); const { Client } = await at("client");'
        'return (await at("teams")).memberships(Client(held));',
    )
    (signed,) = [one for one in team.members() if one.did == signer.did]
    assert (read["team"], read["did"], read["name"], read["role"]) == (
        team.did,
        signer.did,
        "bob",
        "writer",
    )
    assert read["secrets"] == list(signed.secrets) == ["API_KEY", "ci/TOKEN"]
    assert read["endsAt"] == signed.ends_at
    assert (read["admittedBy"], read["parent"]) == (signed.admitted_by, signed.parent)


def test_TM3_a_member_reads_and_writes(team: Team, scripts: Scripts, signer: WalletSigner) -> None:
    """A sign-in of the console acts for the team, and as far as the role allows."""
    team.admit(signer.did, "writer")
    said = in_page(
        scripts,
        AS_MEMBER + 'const secrets = await at("secrets");'
        'const { value } = await secrets.reveal(client, null, "API_KEY");'
        'await secrets.put(client, null, "API_KEY", "changed");'
        "const labels = (await secrets.list(client)).map(({ label }) => label);"
        "return { value, labels, member: client.session.member, end: client.session.expiresAt };",
    )
    assert said["value"] == "open sesame"
    assert said["labels"] == ["API_KEY", "ci/TOKEN"]
    (signed,) = [one for one in team.members() if one.did == signer.did]
    assert said["member"] == {
        "did": signer.did,
        "name": "shop",
        "role": "writer",
        "secrets": [],
        "cid": signed.grant.cid,
    }

    async def read(_: Client, acting: Client) -> str | bytes:
        return await acting.secrets().get("API_KEY")

    assert team.run(read) == "changed"


def test_TM2_the_sdk_accepts_what_an_admin_signs_here(
    team: Team, scripts: Scripts, signer: WalletSigner
) -> None:
    """Memberships by an admin in the browser are those of the SDK, in every member."""
    team.admit(signer.did, "admin")
    others = [new_wallet().did for _ in range(3)]
    in_page(
        scripts,
        AS_MEMBER + 'await teams.admit(client, owner, { did: given[0], role: "reader",'
        ' secrets: ["ci/TOKEN", "API_KEY"], name: "dave", lifeS: 86400 });'
        'await teams.admit(client, owner, { did: given[1], role: "writer", secrets: [] });'
        'await teams.admit(client, owner, { did: given[2], role: "admin", secrets: [] });',
        others,
    )
    found: dict[str, TeamMember] = {one.did: one for one in team.members()}
    assert [found[did].role for did in others] == ["reader", "writer", "admin"]
    assert found[others[0]].secrets == ("API_KEY", "ci/TOKEN")
    assert found[others[0]].name == "dave"
    assert {found[did].admitted_by for did in others} == {signer.did}
    for did in others:
        signed = verify_delegation(parse_delegation(found[did].grant.header))
        assert is_membership(signed)
        assert stated_membership(signed, registered_at=time.time()).end == found[did].ends_at
    listed = in_page(
        scripts,
        AS_MEMBER + "return { ...(await teams.members(client)), members: (await "
        "teams.members(client)).members.map(({ did, role }) => [did, role]) };",
    )
    assert dict(map(tuple, listed["members"])) == {did: one.role for did, one in found.items()}
    assert listed["unreadCount"] == 0


def test_TM15_who_depends_is_signed_anew(
    team: Team, scripts: Scripts, signer: WalletSigner, loop: LoopThread
) -> None:
    """Members whom a removed admin had admitted stay members."""
    team.admit(signer.did, "admin")
    bob, carol = new_wallet(), new_wallet()
    team.admit(bob.did, "admin")

    async def admit() -> None:
        async with Client(team.url) as client:
            await client.sign_in(bob)
            mine = await client.teams.membership(team.did)
            acting = client.acting(await client.teams.sign_in(bob, mine))
            await acting.teams.admit(carol.did, "writer", wallet=bob, name="carol")

    loop.run(admit())
    done = in_page(
        scripts,
        AS_MEMBER + "const seen = (await teams.members(client)).members.map(({ cid }) => cid);"
        "const late = await caught(() => teams.changeMember(client, owner, given, null, []));"
        'if (!late.message.startsWith("Other members depend")) throw new Error("not refused");'
        "const { renewed, revoked } = await teams.changeMember(client, owner, given, null, seen);"
        "return [renewed.map(({ did }) => did), revoked.length];",
        bob.did,
    )
    assert done == [[carol.did], 1]
    found: dict[str, TeamMember] = {one.did: one for one in team.members()}
    assert bob.did not in found
    assert (found[carol.did].role, found[carol.did].name) == ("writer", "carol")
    assert found[carol.did].admitted_by == signer.did
    in_page(
        scripts,
        AS_MEMBER + 'await teams.changeMember(client, owner, given, { role: "reader",'
        ' secrets: ["API_KEY"] });',
        carol.did,
    )
    found = {one.did: one for one in team.members()}
    assert (found[carol.did].role, found[carol.did].secrets) == ("reader", ("API_KEY",))
    assert found[carol.did].name == "carol"


def test_TM15_admins_below_a_removed_admin(
    team: Team, scripts: Scripts, signer: WalletSigner, loop: LoopThread
) -> None:
    """An admin whom the removed one had admitted may be the same person, so nothing is signed."""
    team.admit(signer.did, "admin")
    bob, second_key = new_wallet(), new_wallet()
    team.admit(bob.did, "admin")

    async def admit() -> None:
        async with Client(team.url) as client:
            await client.sign_in(bob)
            mine = await client.teams.membership(team.did)
            acting = client.acting(await client.teams.sign_in(bob, mine))
            await acting.teams.admit(second_key.did, "admin", wallet=bob)

    loop.run(admit())
    said = in_page(
        scripts,
        AS_MEMBER + "const seen = (await teams.members(client)).members.map(({ cid }) => cid);"
        "return caught(() => teams.changeMember(client, owner, given, null, seen));",
        bob.did,
    )
    assert said["message"].startswith("This admin had admitted other admins")
    assert "sealspace team remove" in said["hint"]
    assert {bob.did, second_key.did} <= {one.did for one in team.members()}


def test_TM15_the_last_admin_and_an_admin_above_stay(
    team: Team, scripts: Scripts, signer: WalletSigner
) -> None:
    """An admin cannot remove the admin on whom the own membership depends, nor the last one."""
    team.admit(signer.did, "admin")
    code = AS_MEMBER + (
        "const refused = await caught(() => teams.changeMember(client, owner, given, null));"
        "return [refused.code, refused.message];"
    )
    assert in_page(scripts, code, team.alice.did)[1].startswith("Your own membership depends")
    assert {one.did for one in team.members()} == {team.alice.did, signer.did}


@pytest.mark.parametrize("role", ["reader", "admin"])
def test_TM7_a_member_leaves(team: Team, scripts: Scripts, signer: WalletSigner, role: str) -> None:
    """A member ends the own membership."""
    team.admit(signer.did, role)
    leaves = {
        "reader": "await teams.leave(own, mine.team);",
        "admin": "await teams.changeMember(client, owner, owner.did, null);",
    }
    in_page(scripts, AS_MEMBER + leaves[role])
    assert {one.did for one in team.members()} == {team.alice.did}


def test_TM13_the_vector(shared_scripts: Scripts) -> None:
    """The commitment and the words of the page's vector."""
    alice = "did:pkh:eip155:1:0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    joiner = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    said = in_page(
        shared_scripts,
        'const { commitment, wordsOf } = await at("invitations");'
        'const { base64url } = await at("bytes");'
        "const range = (from, to) => base64url(Uint8Array.from({ length: to - from },"
        " (_, at) => from + at));"
        "const id = range(0, 16);"
        "return [await commitment(id, given.joiner, range(0, 32)), await wordsOf({ ...given.terms,"
        " id }, { joiner: given.joiner, joinerNonce: range(0, 32), adminNonce: range(32, 64) })];",
        {
            "joiner": joiner,
            "terms": {"admin": alice, "team": alice, "role": "reader", "end": 1900000000},
        },
    )
    assert said == [
        "MxOr8Llpk7x8r-Apop4kNxl8ODP5waM2iztMQrIA5cQ",
        ["scrub", "snake", "asset", "hire"],
    ]
    assert commitment("AAECAwQFBgcICQoLDA0ODw", joiner, bytes(range(32))) == said[0]


# --- what is no membership ------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What a wallet signs: a membership, or something like it."""

    statement: dict[str, Json]
    rights: Sequence[Capability]
    audience: str
    end: int
    urn: str = MEMBER_URN
    more: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()

    def token(self, signer: WalletSigner) -> str:
        """Sign it."""
        fact = statement_resource(self.statement, urn=self.urn)
        return sign_message(
            signer,
            SystemEntropy(),
            domain="localhost",
            uri=self.audience,
            issued_at=time.time(),
            expires_at=self.end,
            capabilities=self.rights,
            parents=self.parents,
            resources=[*self.more, fact, *self.after],
        )


def made(
    team: WalletSigner, member: str, role: Role, *, paths: Sequence[str] = (), life_s: int = 86_400
) -> Made:
    """Return a membership by the team's own wallet."""
    end = int(time.time()) + life_s
    statement: dict[str, Json] = {"member": member, "role": role, "end": end}
    if paths:
        statement["paths"] = list(paths)
    rights = membership_rights(parse_principal(team.did), role, tuple(paths))
    return Made(statement=statement, rights=rights, audience=member, end=end)


def read(scripts: Scripts, tokens: Sequence[str]) -> list[str | None]:
    """Return the role of each token that the console takes for a membership."""
    code = (
        'const { readMembership } = await at("memberships"); const { tokenCid } = await at("cid");'
        "return given.map((token) => readMembership(token, tokenCid(token))?.role ?? null);"
    )
    found: list[str | None] = in_page(scripts, code, list(tokens))
    return found


def test_TM1_what_is_no_membership(shared_scripts: Scripts) -> None:
    """The console and the node's rules refuse the same tokens."""
    team, member, other = new_wallet(), new_wallet().did, new_wallet()
    place = f"tinycloud:{team.did[4:]}:secrets/kv/vault/secrets/"
    whole = {role: made(team, member, role) for role in ("reader", "writer", "admin")}
    listed = made(team, member, "writer", paths=[f"{place}API_KEY", f"{place}scoped/ci/TOKEN"])
    sound = [*whole.values(), listed]
    reader = whole["reader"]

    def stating(one: Made, **changes: Json) -> Made:
        return replace(one, statement=one.statement | changes)

    network = reader.rights[-1]
    copies = made(other, member, "reader").rights
    wrong = {
        "another audience": replace(reader, audience=other.did),
        "a member in another case": stating(reader, member=member.lower()),
        "a key as the member": stating(reader, member="did:key:z6Mk"),
        "another end": stating(reader, end=reader.end + 1),
        "too long": replace(
            stating(reader, end=reader.end + 2000 * 86_400), end=reader.end + 2000 * 86_400
        ),
        "an unknown role": stating(reader, role="owner"),
        "an unknown member of the statement": stating(reader, more=1),
        "a name with a blank": stating(reader, name="a b"),
        "a path twice": stating(listed, paths=[f"{place}API_KEY"] * 2),
        "a folder": stating(listed, paths=[f"{place}API_KEY", f"{place}scoped/ci/"]),
        "a path with a query": stating(listed, paths=[f"{place}API_KEY?x", f"{place}B"]),
        "no paths": stating(reader, paths=[]),
        "paths of an admin": stating(whole["admin"], paths=[f"{place}API_KEY"]),
        "paths that are not granted": stating(reader, paths=[f"{place}API_KEY"]),
        "rights of a writer": replace(reader, rights=whole["writer"].rights),
        "fewer rights": replace(whole["writer"], rights=whole["writer"].rights[1:]),
        "no network": replace(reader, rights=reader.rights[:-1]),
        "an admin with fewer rights": replace(whole["admin"], rights=whole["writer"].rights[1:]),
        "rights of two teams": replace(reader, rights=[*reader.rights, copies[0]]),
        "the network of another": replace(reader, rights=[*reader.rights[:-1], copies[-1]]),
        "another version": replace(reader, urn=MEMBER_URN.replace("v1", "v2")),
        "another case": replace(reader, urn=MEMBER_URN.upper()),
        "a fact before it": replace(reader, more=(statement_resource(reader.statement),)),
        "a fact after it": replace(reader, after=(statement_resource(reader.statement),)),
    }
    assert network.ability.endswith("decrypt")
    assert read(shared_scripts, [one.token(team) for one in sound]) == [
        "reader",
        "writer",
        "admin",
        "writer",
    ]
    tokens = {what: one.token(team) for what, one in wrong.items()}
    said = read(shared_scripts, list(tokens.values()))
    assert {what for what, role in zip(tokens, said, strict=True) if role} == set()
    for what, token in tokens.items():
        with pytest.raises(CapabilityError):
            stated_membership(verify_delegation(parse_delegation(token)), registered_at=time.time())
            pytest.fail(what)
    # A signature by another wallet makes another team's statement.
    forged = reader.token(other)
    assert read(shared_scripts, [forged]) == [None]


def test_TM2_who_may_sign(shared_scripts: Scripts) -> None:
    """A membership counts if the team signed it, or an admin who cites the own membership, and if
    it ends no later."""
    team, alice, bob = new_wallet(), new_wallet(), new_wallet()
    stranger = new_wallet()
    first = made(team, alice.did, "admin").token(team)
    writer = made(team, bob.did, "writer").token(team)
    member = made(team, new_wallet().did, "reader", life_s=3600)

    def below(parent: str, **changes: Any) -> Made:
        return replace(member, parents=(read_grant(parent).cid,), **changes)

    later = member.end + 2 * 86_400
    tokens = {
        "by an admin": (below(first).token(alice), True),
        "by a writer": (below(writer).token(bob), False),
        "by a stranger who cites an admin": (below(first).token(stranger), False),
        "without a proof": (member.token(stranger), False),
        "by the team with a proof": (below(first).token(team), False),
        "with two proofs": (
            replace(member, parents=(read_grant(first).cid, read_grant(writer).cid)).token(alice),
            False,
        ),
        "with an end that is later": (
            below(first, end=later, statement=member.statement | {"end": later}).token(alice),
            False,
        ),
        "below a membership that is not listed": (
            below(made(team, alice.did, "admin").token(team)).token(alice),
            False,
        ),
        "of another team": (
            replace(
                made(stranger, new_wallet().did, "reader", life_s=3600),
                parents=(read_grant(first).cid,),
            ).token(alice),
            False,
        ),
    }
    code = (
        'const { readMembership, isAdmitted } = await at("memberships");'
        'const { tokenCid } = await at("cid");'
        "return given.tokens.map((token) => {"
        "  const found = [...given.known, token].flatMap((one) =>"
        "    readMembership(one, tokenCid(one)) ?? []);"
        "  const known = new Map(found.map((one) => [one.cid, one]));"
        "  const one = known.get(tokenCid(token));"
        "  return Boolean(one) && isAdmitted(one, known); });"
    )
    given = {"tokens": [token for token, _ in tokens.values()], "known": [first, writer]}
    said = in_page(shared_scripts, code, given)
    assert dict(zip(tokens, said, strict=True)) == {
        what: wanted for what, (_, wanted) in tokens.items()
    }
