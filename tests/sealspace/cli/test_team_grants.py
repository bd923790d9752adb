"""What an admin of a team grants with the own wallet, such as machine tokens and trusts."""

import json

from backend_desk import SECRET, Desk
from team_desk import Team, read_with, token_for

from sealspace.client import Client
from sealspace.wallets import wallet_from_key
from sealspace.wire.token_line import read_token, token_of


async def test_TM6_machine_tokens(team: Team) -> None:
    """TM6: an admin makes, lists and revokes machine tokens for the team's secrets."""
    await team.joined("bob", "admin")
    line = await token_for(team, "bob")
    assert await read_with(team, line) == "open sesame"
    (listed,) = json.loads((await team.must("alice", "token", "list", "--json")).out)
    assert (listed["name"], listed["secrets"]) == ("deploy", ["API_KEY"])
    assert json.loads((await team.must("alice", "token", "list", "--as", "me", "--json")).out) == []
    await team.must("alice", "token", "revoke", "deploy")
    assert "was revoked" in await read_with(team, line)
    assert json.loads((await team.must("alice", "token", "list", "--json")).out) == []


async def test_TM6_tokens_end_with_their_admin(team: Team) -> None:
    """TM6: a token ends when its admin is removed, and cannot outlast the membership."""
    await team.joined("bob", "admin", "--expires", "20d")
    long = await team.run("bob", "token", "create", "long", "--secret", "API_KEY")
    assert long.status == 1 and "ends with your membership" in long.next, long
    made = await team.must(
        "bob", "token", "create", "deploy", "--secret", "API_KEY", "--expires", "5d"
    )
    line = made.out.strip()
    assert await read_with(team, line) == "open sesame"
    await team.must("alice", "team", "remove", "shop", "bob")
    assert "machine token deploy was revoked" in await read_with(team, line)


async def test_TM6_who_makes_no_tokens(team: Team) -> None:
    """TM6: a writer makes no machine token, and no token allows values without a place."""
    await team.joined("carol", "writer")
    refused = await team.run("carol", "token", "create", "ci", "--secret", "API_KEY")
    assert refused.status == 22, refused
    unbound = await team.run(
        "alice", "token", "create", "ci", "--secret", "API_KEY", "--allow-unbound"
    )
    assert unbound.status == 2 and "only the team's own key" in unbound.err, unbound
    assert json.loads((await team.must("alice", "token", "list", "--json")).out) == []


async def test_TM6_a_token_is_not_of_a_job(team: Team) -> None:
    """A token by an admin's wallet is a machine token, not one that a node made for a job."""
    token = token_of(read_token(await token_for(team)))
    assert token is not None and not token.is_of_job
    assert token.owner == team.did != token.grant.delegator


async def test_TM6_trusts(team: Team) -> None:
    """TM6: an admin makes, lists and revokes a trust in CI jobs for the team's secrets."""
    made = await team.must(
        *("alice", "ci", "trust", "github", "--secret", "API_KEY", "--branch", "main"),
        *("--repository-id", "1", "--owner-id", "2"),
    )
    assert f"for the team shop ({team.did})" in made.err
    (listed,) = json.loads((await team.must("alice", "ci", "list", "--json")).out)
    assert listed["secrets"] == ["API_KEY"] and listed["id"] == made.out.strip()
    await team.must("alice", "ci", "revoke", listed["id"])
    assert json.loads((await team.must("alice", "ci", "list", "--json")).out) == []


async def test_the_teams_own_key_is_not_you(team: Team) -> None:
    """What the team's own key reads is listed as such, to an admin who does not have this key."""
    key = bytes.fromhex((team.folder / "shop.key").read_text())
    async with Client(team.desk.node) as client:
        await client.sign_in(wallet_from_key(key))
        assert await client.secrets().get("API_KEY") == "open sesame"
    shown = await team.must("alice", "secret", "show", "API_KEY")
    assert f"  whoever has the team's own key, {team.did}\n" in shown.out
    assert "  a login with the team's own key at " in shown.out
    assert f"you, {team.did}" not in shown.out and "your login" not in shown.out
    assert f"  you, {team.dids['alice']}, as a member\n" in shown.out
    listed = await team.must("alice", "receipts", "list")
    assert "  the team's own key  API_KEY  " in listed.out
    assert "not listed" not in listed.err


async def test_secret_show(team: Team) -> None:
    """The members and machine tokens of a team's secret are listed, with how to end them."""
    await team.joined("dave", "reader")
    await token_for(team)
    ran = await team.run("alice", "secret", "show", "API_KEY", "--json")
    shown = json.loads(ran.out)
    assert (ran.status, shown["missing"]) == (0, []), ran
    kinds = {(one["kind"], one["did"]) for one in shown["readers"]}
    assert {("member", team.dids["alice"]), ("member", team.dids["dave"])} <= kinds
    assert "token" in {kind for kind, _ in kinds}
    ends = [one["toEnd"] for one in shown["readers"] if one["did"] == team.dids["dave"]]
    assert ends[0].endswith(f"team remove {team.did} {team.dids['dave']}")


async def test_secret_show_names_everybody_who_writes(team: Team) -> None:
    """An admin whom the team's own key admitted is a writer too; the member who asks is "you"."""
    await team.log_in("bob")
    key = ("--key-file", str(team.folder / "shop.key"), "--team", "shop")
    await team.must("alice", "team", "recover", *key, "--admin", team.dids["bob"], "--yes")
    await team.joined("carol", "writer")
    shown = (await team.must("alice", "secret", "show", "API_KEY")).out
    readers, writers = shown.split("who else can replace it:")
    assert f"you, {team.dids['alice']}, as a member" in readers
    assert f"whoever has the team's own key, {team.did}" in readers
    assert team.dids["alice"] not in writers
    for person in ("bob", "carol"):
        assert f"the member {person} ({team.dids[person]})" in writers
        assert f"sealspace team remove {team.did} {team.dids[person]}" in writers.replace(
            f"--home {team.folder / 'alice' / '.sealspace'} ", ""
        )
    assert f"a login or grant of the member carol ({team.dids['carol']}), did:key:" in writers


async def test_secret_show_is_for_admins(team: Team) -> None:
    """A writer, who cannot list the others, gets no list that leaves them out."""
    await team.joined("bob", "writer")
    refused = await team.run("bob", "secret", "show", "API_KEY")
    assert (refused.status, refused.out) == (22, "")
    assert refused.next == "only admins of a team can do this: ask one"


async def test_mcp_does_not_follow_use(team: Team) -> None:
    """`sealspace mcp` needs --as if a team is chosen: rules for agents name secrets alone."""
    refused = await team.run("alice", "mcp")
    assert refused.status == 2 and refused.next.endswith("add --as shop, or --as me")


async def test_TM6_a_grant_to_a_backend(desk: Desk) -> None:
    """TM6: an admin grants the team's secret to a backend with approved code, which reads it."""
    desk.monkeypatch.chdir(desk.folder)
    await desk.log_in()
    key = str(desk.folder / "shop.key")
    assert (await desk.run("team", "create", "shop", "--key-file", key)).status == 0
    assert (await desk.run("use", "shop")).status == 0
    assert (await desk.run("secret", "put", "API_KEY", given=SECRET)).status == 0
    backend = await desk.backend()
    granted = await desk.run("backend", "grant", backend.url, "--yes")
    assert (granted.status, backend.program.read) == (0, {"API_KEY": SECRET}), granted
    assert "for the team shop" in granted.err
    unbound = await desk.run("backend", "grant", backend.url, "--yes", "--allow-unbound")
    assert "only the team's own key" in unbound.err, unbound
