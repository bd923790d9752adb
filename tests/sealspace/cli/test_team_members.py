"""The commands of teams with members, by people who each have a home."""

import json
import stat

from owner_desk import Ran
from team_desk import Team


async def test_five_people(team: Team) -> None:
    """Five people use a team's secrets by role, until one of them is removed."""
    await team.joined("bob", "admin")
    await team.joined("carol", "writer", by="bob")
    await team.joined("dave", "reader")
    await team.must("alice", "secret", "put", "TOKEN", "--scope", "ci", given="other")
    await team.joined("erin", "reader", "--secrets", "ci/TOKEN")
    assert await team.roles("alice") == {
        "alice": "admin",
        "bob": "admin",
        "carol": "writer",
        "dave": "reader",
        "erin": "reader",
    }
    for person in ("alice", "bob", "carol", "dave"):
        assert await team.reads(person) == "open sesame"
    assert await team.reads("erin", "TOKEN", "--scope", "ci") == "other"
    assert "may not read" in await team.reads("erin")
    stored = await team.must("carol", "secret", "put", "API_KEY", given="changed")
    assert f"for the team shop ({team.did})" in stored.err
    assert await team.reads("dave") == "changed"
    refused = await team.run("dave", "secret", "put", "API_KEY", given="mine")
    assert refused.status == 22
    versions = await team.must("carol", "secret", "versions", "API_KEY", "--json")
    storers = [(one["version"], one["storedBy"], one["name"]) for one in json.loads(versions.out)]
    assert storers == [(2, team.dids["carol"], "you"), (1, team.dids["alice"], None)]
    await team.must("carol", "secret", "rollback", "API_KEY", "1")
    assert await team.reads("dave") == "open sesame"
    assert "TOKEN" in (await team.must("dave", "secret", "list", "--all")).out
    reads = json.loads((await team.must("alice", "receipts", "list", "--json")).out)
    assert {one["member"] for one in reads if one["ground"] == "member"} == {
        team.dids[person] for person in ("alice", "bob", "carol", "dave", "erin")
    } - {team.dids["bob"]} | {team.dids["bob"]}
    removed = await team.must("alice", "team", "remove", "shop", "bob")
    assert f"had admitted them: carol ({team.dids['carol']})" in removed.err
    assert "not a member" in await team.reads("bob")
    assert await team.reads("carol") == "open sesame"  # with a new membership and session
    assert set(await team.roles("alice")) == {"alice", "carol", "dave", "erin"}
    await team.must("dave", "team", "leave", "shop", "--yes")
    assert "there is no secret API_KEY" in await team.reads("dave")  # in the own account
    assert "not a member" in await team.reads("dave", "API_KEY", "--as", "shop")


async def test_the_key_file(team: Team) -> None:
    """The team's key is in a private file, and nowhere in the owner's folder."""
    key = team.folder / "shop.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    text = key.read_text().strip()
    files = [path for path in (team.folder / "alice").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if text.encode() in path.read_bytes()] == []
    again = await team.must("alice", "team", "create", "shop", "--key-file", str(key), "--json")
    assert json.loads(again.out)["team"] == team.did
    other = str(team.folder / "other.key")
    clash = await team.run("alice", "team", "create", "shop", "--key-file", other)
    assert (clash.status, clash.next) == (15, "choose another name for the team")


async def test_TM14_whose_secrets(team: Team) -> None:
    """--as wins over the project file, and that over `use`."""
    who = json.loads((await team.must("alice", "whoami", "--json")).out)
    assert who["team"] == f"shop ({team.did})"
    assert "there is no secret API_KEY" in await team.reads("alice", "API_KEY", "--as", "me")
    await team.must("alice", "use", "me")
    assert "there is no secret API_KEY" in await team.reads("alice")
    assert await team.reads("alice", "API_KEY", "--as", "shop") == "open sesame"
    assert await team.reads("alice", "API_KEY", "--as", team.did) == "open sesame"
    project = team.folder / ".sealspace.toml"
    project.write_text('team = "shop"\nsecrets = ["API_KEY"]\n')
    assert await team.reads("alice") == "open sesame"
    assert "there is no secret API_KEY" in await team.reads("alice", "API_KEY", "--as", "me")
    unasked = await team.run("alice", "secret", "put", "API_KEY", given="changed")
    assert unasked.status == 2 and unasked.next.startswith("if this is right, add --as shop")
    await team.must("alice", "secret", "put", "API_KEY", "--as", "shop", given="changed")
    assert await team.reads("alice") == "changed"
    project.write_text(f'team = "{team.did}"\n')
    refused = await team.run("alice", "secret", "get", "API_KEY")
    assert (refused.status, "is not the name of a contact" in refused.err) == (2, True)


async def test_TM14_commands_that_do_not_work_for_a_team(team: Team) -> None:
    """With a chosen team, a command that does not know teams is refused, not run for oneself."""
    refused = await team.run("alice", "kv", "list")
    assert (refused.status, refused.next) == (2, "for your own account, add --as me")
    assert (await team.run("alice", "kv", "list", "--as", "me")).status == 0
    assert (await team.run("alice", "contact", "list")).status == 0


async def test_TM14_a_damaged_choice(team: Team) -> None:
    """A choice that cannot be read is an error: no command falls back to the own secrets."""
    (team.folder / "alice" / ".sealspace" / "team.json").write_text("{}")
    refused = await team.run("alice", "secret", "put", "API_KEY", given="x")
    assert refused.status == 2 and refused.next.startswith("choose again: sealspace use NAME")
    await team.must("alice", "use", "me")


async def test_roles_and_the_last_admin(team: Team) -> None:
    """A role changes with the next command; the last admin is warned, and stays."""
    listed = await team.must("alice", "team", "members")
    assert "has only one admin" in listed.err
    await team.joined("bob", "reader")
    changed = await team.must("alice", "team", "role", "shop", "bob", "--role", "writer")
    assert "bob is a writer" in changed.err
    # The session is renewed before the value is read from standard input.
    await team.must("bob", "secret", "put", "API_KEY", given="b")
    last = await team.run("alice", "team", "remove", "shop", team.dids["alice"])
    assert last.status == 2 and "no admin" in last.happened
    assert (await team.run("alice", "team", "add", "shop", "bob")).status == 2
    unknown = await team.run("bob", "team", "members")
    assert unknown.status == 22


async def test_both_kinds_of_teams(team: Team) -> None:
    """The list says which team is of which kind, and one name is never both."""
    await team.log_in("bob")
    await team.must("alice", "team", "add", "ops", "bob")
    listed = json.loads((await team.must("alice", "team", "list", "--json")).out)
    assert [(one["kind"], one["team"]) for one in listed] == [
        ("members", "shop"),
        ("copies", "ops"),
    ]
    key = str(team.folder / "ops.key")
    clash = await team.run("alice", "team", "create", "ops", "--key-file", key)
    assert clash.status == 15 and "team of copies" in clash.happened
    await team.must("alice", "team", "remove", "ops", "bob")


async def test_CL1_run_with_a_team(team: Team) -> None:
    """CL1: `run` passes a team's secrets as those of others: only names of secrets by default."""
    await team.must("alice", "secret", "put", "DATABASE_URL", given="postgres://elsewhere")
    await team.must("alice", "secret", "put", "DATABASE_URL", "--as", "me", given="postgres://own")
    assert await team.passes("shop") == [len("open sesame"), 0]
    assert await team.passes("me") == [0, len("postgres://own")]


# --- invitations ----------------------------------------------------------------------------------


def words_in(ran: Ran) -> str:
    """Return the words that a command shows."""
    (line,) = [line for line in ran.err.splitlines() if line.startswith("words: ")]
    return line.removeprefix("words: ")


async def invited(team: Team, *more: str) -> tuple[str, str]:
    """Return the id and the line of a new invitation to Bob, who is logged in."""
    await team.log_in("bob")
    made = await team.must(
        "alice", "team", "invite", "--role", "writer", "--no-wait", "--json", *more
    )
    found = json.loads(made.out)
    return found["id"], found["invitation"]


async def test_TM13_an_invitation(team: Team) -> None:
    """TM13: both commands show the same words; nothing is readable before the confirmation."""
    number, line = await invited(team)
    join = ("team", "join", line, "--no-wait")
    assert "has not answered" in (await team.must("bob", *join)).err
    confirm = ("team", "confirm", number, "--no-wait")
    assert "has not answered" in (await team.must("alice", *confirm)).err
    shown = await team.must("bob", *join)
    assert "has not confirmed" in shown.err
    assert "no contact" in await team.reads("bob", "API_KEY", "--as", "shop")
    unasked = await team.run("alice", *confirm)
    assert unasked.status == 2 and "not running in a terminal" in unasked.err
    asked = await team.run("alice", *confirm, typed="y\n")
    assert asked.status == 0, asked
    assert words_in(asked) == words_in(shown)
    joined = await team.must("bob", *join)
    assert "you are a writer of the team shop" in joined.err
    assert await team.reads("bob", "API_KEY", "--as", "shop") == "open sesame"
    assert line not in joined.err + shown.err + asked.err
    for folder in ("alice/.sealspace/invitations", "bob/.sealspace/joining"):
        assert list((team.folder / folder).iterdir()) == []


async def test_TM13_differing_words(team: Team) -> None:
    """TM13: the answer no ends the invitation, and nobody is admitted."""
    number, line = await invited(team)
    await team.must("bob", "team", "join", line, "--no-wait")
    await team.must("alice", "team", "confirm", number, "--no-wait")
    await team.must("bob", "team", "join", line, "--no-wait")
    refused = await team.run("alice", "team", "confirm", number, typed="n\n")
    assert refused.status == 12 and "nobody was admitted" in refused.err
    assert set(await team.roles("alice")) == {"alice"}
    again = await team.run("alice", "team", "confirm", number, typed="y\n")
    assert again.status == 21
    late = await team.run("bob", "team", "join", line, "--no-wait")
    assert late.status == 12 and "did not confirm" in late.err
    assert "not a member" in await team.reads("bob", "API_KEY", "--as", team.did)


async def test_yes_is_refused(team: Team) -> None:
    """No option answers the question whether the words are the same."""
    for command in (["invite", "--role", "reader"], ["confirm", "A" * 22]):
        refused = await team.run("alice", "team", *command, "--yes")
        assert refused.status == 2 and "only a person can compare" in refused.happened


async def test_lines_that_do_not_serve(team: Team) -> None:
    """A spent line, a second person, a part of a line and a taken name are refused."""
    number, line = await invited(team)
    await team.log_in("carol")
    await team.must("bob", "team", "join", line, "--no-wait")
    second = await team.run("carol", "team", "join", line, "--no-wait")
    assert second.status == 12 and "somebody has answered" in second.happened
    cut = await team.run("carol", "team", "join", line[:-9], "--no-wait")
    assert (cut.status, line[:40] in cut.err) == (12, False)
    await team.must("carol", "contact", "add", "shop", team.dids["bob"])
    taken = await team.run("carol", "team", "join", line, "--no-wait")
    assert (taken.status, taken.next) == (15, "choose another name for the team: add --name NAME")
    await team.must("alice", "team", "confirm", number, "--no-wait")
    await team.must("bob", "team", "join", line, "--no-wait")
    assert (await team.run("alice", "team", "confirm", number, typed="y\n")).status == 0
    spent = await team.run("carol", "team", "join", line, "--name", "shop2", "--no-wait")
    assert spent.status == 12 and "used or withdrawn" in spent.happened
    strange = await team.run("alice", "team", "confirm", "../../x", "--no-wait")
    assert strange.status == 2
