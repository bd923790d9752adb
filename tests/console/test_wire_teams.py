"""Teams and invitations of the console's modules, with the SDK on the other side."""

import time

import pytest
from console_team import Team, created_team
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts

from capabilities.memberships import is_membership, stated_membership
from capabilities.signatures import WalletSigner
from capabilities.tokens import parse_delegation, verify_delegation
from sealspace.apps.memberships import TeamMember
from sealspace.client import Client
from sealspace.documents.invitations import commitment
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
    assert said["member"] == {"did": signer.did, "name": "shop", "role": "writer", "secrets": []}

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
        AS_MEMBER
        + "const { renewed, revoked } = await teams.changeMember(client, owner, given, null);"
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
