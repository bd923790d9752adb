"""Both sides of an invitation in the console's modules, with the SDK on the other side (TM10 to
TM13)."""

import base64
import json
from importlib.resources import files
from typing import Any

import pytest
from console_team import Team, created_team
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts

from capabilities.signatures import WalletSigner
from capabilities.strict_base64 import encode_url
from encryption_network.canonical_json import canonical_bytes
from sealspace.client import Client
from sealspace.documents.invitations import (
    commitment,
    invitation_line,
    parse_invitation,
)
from sealspace.errors import InvitationInvalid, NotAMember
from sealspace.giving.teams.invitations import Inviting, Joining
from sealspace.session import capability
from sealspace.wallets import new_wallet

ADMIN = """
  const teams = await at("teams");
  const invitations = await at("invitations");
  const { Client } = await at("client");
  globalThis.signed ??= await signedIn();
  const { owner, held } = globalThis.signed;
  const own = Client(held);
  const [mine] = await teams.memberships(own);
  globalThis.acting ??= mine && await teams.signInFor(held, owner, mine, "shop");
  const client = globalThis.acting && Client(globalThis.acting, own);
"""
"""The wallet of the page, signed in once, and for the team if it is a member."""
DID = "did:pkh:eip155:1:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.fixture
def team(loop: LoopThread, node: EmbeddedNode) -> Team:
    """A new team with two secrets."""
    return created_team(loop, node.url)


def altered(line: str, **members: Any) -> str:
    """Return a line with other members."""
    data = base64.urlsafe_b64decode(line.removeprefix("sinv_") + "===")
    return "sinv_" + encode_url(canonical_bytes(json.loads(data) | members))


def invited_line(team: Team, role: Any = "writer", *secrets: str) -> tuple[Inviting, str]:
    """Make an invitation with the SDK."""

    async def invite(_: Client, acting: Client) -> Inviting:
        made = await acting.teams.invite(
            "shop", role, wallet=team.alice, secrets=secrets, name="bob"
        )
        return Inviting(invitation=made)

    inviting = team.run(invite)
    return inviting, invitation_line(inviting.invitation)


def advanced(team: Team, inviting: Inviting) -> Inviting:
    """Make the next step of the SDK's admin."""

    async def advance(_: Client, acting: Client) -> Inviting:
        return await inviting.advance(acting.teams)

    return team.run(advance)


def stored_by_admin(team: Team, path: str, body: bytes) -> None:
    """Replace an answer, as a node could."""

    async def put(_: Client, acting: Client) -> None:
        await acting.kv().put(path, body)

    team.run(put)


def test_TM13_the_sdk_invites_and_the_console_joins(
    team: Team, scripts: Scripts, signer: WalletSigner
) -> None:
    """The line of the SDK is joined in the browser, and both show the same words."""
    inviting, line = invited_line(team, "writer", "ci/TOKEN", "API_KEY")
    assert in_page(scripts, ADMIN + "await invitations.join(held, given); return 1;", line) == 1
    inviting = advanced(team, advanced(team, inviting))
    step = (
        "const [side] = await invitations.waitingJoins(held);"
        "return (await invitations.advanceJoining(side, held.node)).words;"
    )
    words = in_page(scripts, ADMIN + step)
    inviting = advanced(team, inviting)
    assert list(inviting.words or ()) == words
    assert inviting.joiner == signer.did
    assert in_page(scripts, ADMIN + step) == words
    joined = (
        "const [side] = await invitations.waitingJoins(held);"
        "const found = await invitations.joined(own, side);"
        "return found && [found.role, found.secrets, found.name];"
    )
    assert in_page(scripts, ADMIN + joined) is None

    async def confirm(_: Client, acting: Client) -> None:
        await inviting.confirm(acting.teams, wallet=team.alice)

    team.run(confirm)
    assert in_page(scripts, ADMIN + joined) == ["writer", ["API_KEY", "ci/TOKEN"], "bob"]
    again = ADMIN + (
        "await invitations.forgetJoining((await invitations.waitingJoins(held))[0]);"
        "return (await caught(() => invitations.join(held, given))).message;"
    )
    assert "used or withdrawn" in in_page(scripts, again, line)


def test_TM13_the_console_invites_and_the_sdk_joins(
    team: Team, scripts: Scripts, signer: WalletSigner, loop: LoopThread
) -> None:
    """The line of the browser is joined with the SDK, and the browser's wallet admits."""
    team.admit(signer.did, "admin")
    line = in_page(
        scripts,
        ADMIN + 'return (await invitations.invite(client, { role: "reader", secrets: ["ci/TOKEN",'
        ' "API_KEY"], name: "carol", lifeS: 86400 })).line;',
    )
    carol = new_wallet()
    step = ADMIN + (
        "const [side] = await invitations.waitingInvitations(client);"
        "const { joiner, words } = await invitations.advanceInviting(client, side);"
        "return { joiner, words };"
    )

    joining: Joining | None = None

    async def joins() -> None:
        async with Client(team.url) as client:
            await client.sign_in(carol)
            assert parse_invitation(line, now=0.0).role == "reader"
            nonlocal joining
            joining = await Joining.start(client.teams, line)

    async def goes_on() -> None:
        async with Client(team.url) as client:
            await client.sign_in(carol)
            nonlocal joining
            assert joining is not None
            joining = await joining.advance(client.teams)

    async def is_member() -> str:
        async with Client(team.url) as client:
            await client.sign_in(carol)
            assert joining is not None
            found = await joining.membership(client.teams)
            acting = client.acting(await client.teams.sign_in(carol, found))
            value = await acting.secrets().get("API_KEY")
            return f"{found.role} {found.name} {value!r}"

    assert in_page(scripts, step) == {"joiner": "", "words": None}
    loop.run(joins())
    in_page(scripts, step)
    in_page(scripts, step)
    loop.run(goes_on())
    loop.run(goes_on())
    said = in_page(scripts, step)
    assert joining is not None
    assert said == {"joiner": carol.did, "words": list(joining.words or ())}
    with pytest.raises(NotAMember):
        loop.run(is_member())
    confirm = (
        "const [side] = await invitations.waitingInvitations(client);"
        "await invitations.confirm(client, owner, side, given);"
        "return (await invitations.waitingInvitations(client)).length;"
    )
    assert in_page(scripts, ADMIN + confirm, carol.did) == 0
    assert loop.run(is_member()) == "reader carol 'open sesame'"
    with pytest.raises(InvitationInvalid, match="used or withdrawn"):
        loop.run(joins())


def test_TM10_altered_lines(team: Team, scripts: Scripts) -> None:
    """A line that is cut, altered, or grants something else is refused, without its text."""
    inviting, line = invited_line(team)

    async def more(_: Client, acting: Client) -> str:
        grants = acting.session.grants[0].capabilities
        puts = [one for one in grants if "put" in one.ability]
        return (await acting.delegations.delegate(inviting.invitation.grant.delegate, puts)).header

    lines = {
        "cut": line[:-20],
        "another prefix": line.replace("sinv_", "sinw_"),
        "too long": line + "A" * (64 << 10),
        "not base64": "sinv_!!",
        "an unknown role": altered(line, role="owner"),
        "another version": altered(line, v=2),
        "an unknown member": altered(line, more=1),
        "another team": altered(line, team=DID),
        "a team without a wallet": altered(line, team="did:key:z6Mk"),
        "another key": altered(line, seed=encode_url(bytes(range(32)))),
        "another id": altered(line, id=encode_url(bytes(16))),
        "more rights": altered(line, delegation=team.run(more)),
        "an end in the past": altered(line, end=1),
        "another node": altered(line, node_did=DID),
        "secrets in another order": altered(line, secrets=["B", "A"]),
        "secrets that are none": altered(line, secrets=["a/../B"]),
        "secrets of an admin": altered(line, role="admin", secrets=["A"]),
        "a name that is none": altered(line, member_name="a b"),
    }
    code = (
        "return Promise.all(given.map((line) => caught(async () => {"
        " await invitations.join(held, line); return { code: null, message: line }; })));"
    )
    for what, said in zip(lines, in_page(scripts, ADMIN + code, list(lines.values())), strict=True):
        assert said["code"] == "invitation-invalid", what
        assert inviting.invitation.seed not in json.dumps(said), what
        # The other lines are refused before the node is asked.
        assert ("parts do not match" in said["message"]) is (what == "another key"), what
        assert "used or withdrawn" not in said["message"], what
    # None of them has answered.
    assert advanced(team, inviting) == inviting


def test_TM10_a_line_of_an_earlier_version(team: Team, scripts: Scripts) -> None:
    """A line whose key may write the whole folder is answered in the browser."""
    inviting, line = invited_line(team)

    async def former(_: Client, acting: Client) -> str:
        folder = f"{acting.kv().space.text}/kv/{inviting.invitation.folder}"
        rights = [capability(folder, f"tinycloud.kv/{ability}") for ability in ("get", "put")]
        key = inviting.invitation.grant.delegate
        return (await acting.delegations.delegate(key, rights)).header

    former_line = altered(line, delegation=team.run(former))
    assert parse_invitation(former_line, now=0.0) != inviting.invitation
    in_page(scripts, ADMIN + "await invitations.join(held, given);", former_line)
    assert advanced(team, inviting).committed


def test_TM11_a_second_joiner(team: Team, scripts: Scripts, loop: LoopThread) -> None:
    """The first answer stays; the second person is refused and told what to do."""
    _, line = invited_line(team)

    async def joins() -> None:
        async with Client(team.url) as client:
            await client.sign_in(new_wallet())
            await Joining.start(client.teams, line)

    loop.run(joins())
    code = "return (await caught(() => invitations.join(held, given))).message;"
    said = in_page(scripts, ADMIN + code, line)
    assert "Somebody has answered" in said and "tell the admin" in said


@pytest.mark.parametrize("answer", ["commitment", "nonce", "reveal"])
def test_TM12_a_replaced_answer(
    team: Team, scripts: Scripts, signer: WalletSigner, loop: LoopThread, answer: str
) -> None:
    """An answer that is replaced, even in a way that fits, is refused by the admin."""
    team.admit(signer.did, "admin")
    line = in_page(
        scripts,
        ADMIN
        + 'return (await invitations.invite(client, { role: "reader", secrets: [], lifeS: 86400 }))'
        ".line;",
    )
    invitation = parse_invitation(line, now=0.0)

    async def joins() -> None:
        async with Client(team.url) as client:
            await client.sign_in(new_wallet())
            await Joining.start(client.teams, line)

    loop.run(joins())
    step = ADMIN + (
        "const [side] = await invitations.waitingInvitations(client);"
        "const said = await caught(() => invitations.advanceInviting(client, side));"
        "return said.message ?? said.words;"
    )
    assert in_page(scripts, step) is None
    assert in_page(scripts, step) is None
    nonce = encode_url(bytes(32))
    bodies = {
        "commitment": commitment(invitation.id, DID, bytes(32)).encode(),
        "nonce": nonce.encode(),
        "reveal": canonical_bytes({"joiner": DID, "nonce": nonce}),
    }
    stored_by_admin(team, f"{invitation.folder}{answer}", bodies[answer])
    assert "replaced or altered" in in_page(scripts, step)


def test_TM12_a_nonce_that_changes(team: Team, scripts: Scripts) -> None:
    """The first nonce of the admin is stored before the person's own is sent, and stays."""
    inviting, line = invited_line(team)
    in_page(scripts, ADMIN + "await invitations.join(held, given);", line)
    inviting = advanced(team, advanced(team, inviting))
    step = (
        "const [side] = await invitations.waitingJoins(held);"
        "return (await invitations.advanceJoining(side, held.node)).words;"
    )
    # The node loses the answer to the reveal.
    lost = in_page(
        scripts,
        ADMIN + "const { fetch: real } = globalThis;"
        "globalThis.fetch = async (path, more) => {"
        '  if (more?.headers?.["If-None-Match"]) throw new TypeError("lost");'
        "  return real(path, more); };"
        "const [side] = await invitations.waitingJoins(held);"
        "const { code } = await caught(() => invitations.advanceJoining(side, held.node));"
        "globalThis.fetch = real;"
        "const [{ adminNonce, isRevealed }] = await invitations.waitingJoins(held);"
        "return { code, adminNonce, isRevealed };",
    )
    assert lost == {
        "code": "node-unreachable",
        "adminNonce": encode_url(inviting.nonce),
        "isRevealed": False,
    }
    stored_by_admin(team, f"{inviting.invitation.folder}nonce", encode_url(bytes(32)).encode())
    words = in_page(scripts, ADMIN + step)
    stored_by_admin(team, f"{inviting.invitation.folder}nonce", encode_url(inviting.nonce).encode())
    assert words == list(advanced(team, inviting).words or ())


def test_CN17_two_tabs_draw_one_nonce(team: Team, scripts: Scripts, signer: WalletSigner) -> None:
    """Two tabs of the admin that read the commitment at once keep the same nonce."""
    team.admit(signer.did, "admin")
    said = in_page(
        scripts,
        ADMIN
        + 'const made = await invitations.invite(client, { role: "reader", secrets: [], lifeS: 60 });'
        "const joiner = await invitations.join(held, made.line);"
        "const both = await Promise.all([1, 2].map(() => invitations.advanceInviting(client, made)));"
        "return [joiner.nonce !== '', ...both.map(({ side }) => side.nonce)];",
    )
    assert said[0] and said[1] == said[2] != ""


def test_TM13_the_word_list(shared_scripts: Scripts) -> None:
    """The list is that of the SDK."""
    words = in_page(shared_scripts, 'return (await at("bip39_english")).WORDS;')
    listed = (files("sealspace.documents") / "bip39_english.txt").read_text("ascii")
    assert words == listed.split()
