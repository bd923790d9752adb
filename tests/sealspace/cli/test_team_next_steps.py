"""The next steps that the commands of a team print to somebody who knows nothing else."""

import json
import time

from msgspec.structs import replace
from team_desk import Team

from sealspace.documents.invitations import invitation_line, parse_invitation


async def invitation_of(team: Team, *more: str) -> tuple[str, str]:
    """Return the id and the line of a new invitation of a reader."""
    made = await team.must(
        "alice", "team", "invite", "--role", "reader", "--no-wait", "--json", *more
    )
    found = json.loads(made.out)
    return found["id"], found["invitation"]


async def test_a_newcomer_is_told_the_node(team: Team) -> None:
    """Somebody who never logged in gets the node of the invitation, not an example."""
    _, line = await invitation_of(team)
    refused = await team.run("bob", "team", "join", line)
    assert refused.status == 10 and "not logged in" in refused.happened
    assert f"sealspace login {team.desk.node} --new;" in refused.next
    assert line[:40] not in refused.err
    assert (await team.run("bob", "team", "join", line[:-9])).status == 12


async def test_an_address_is_no_command(team: Team) -> None:
    """The address in an altered line cannot add a command to the next step."""
    _, line = await invitation_of(team)
    altered = replace(parse_invitation(line, now=time.time()), node="http://a; date")
    stranger = await team.run("bob", "team", "join", invitation_line(altered))
    assert "sealspace login 'http://a; date' --new" in stranger.next
    await team.log_in("bob")
    elsewhere = invitation_line(replace(altered, node_did="did:key:z6MkOther"))
    refused = await team.run("bob", "team", "join", elsewhere)
    assert (refused.status, refused.happened) == (12, "the invitation is for another node")
    assert "sealspace login 'http://a; date';" in refused.next


async def test_a_new_member_gets_a_name(team: Team) -> None:
    """After the confirmation the admin sees how commands can name the member."""
    await team.must("bob", "login", team.desk.node, "--new")
    did = json.loads((await team.must("bob", "whoami", "--json")).out)["owner"]
    number, line = await invitation_of(team, "--name", "robert")
    for person, command in (("bob", ("join", line)), ("alice", ("confirm", number))) * 2:
        typed = "y\n" if person == "alice" else None
        ran = await team.run(person, "team", *command, "--no-wait", typed=typed)
    assert f"next, to use a name in commands: sealspace contact add robert {did}" in ran.err


async def test_a_member_without_a_contact(team: Team) -> None:
    """The name that a team gave to a member is none of a contact; the next step says what to do."""
    await team.joined("bob", "reader", by="alice")
    for command in (("role", "shop", "robert", "--role", "writer"), ("remove", "shop", "robert")):
        refused = await team.run("alice", "team", *command)
        assert refused.status == 21
        assert "sealspace team members" in refused.next
        assert "sealspace contact add robert DID" in refused.next


async def test_a_reader_who_writes(team: Team) -> None:
    """A reader is sent to an admin, not to a login or a grant."""
    await team.joined("bob", "reader")
    refused = await team.run("bob", "secret", "put", "API_KEY", given="x")
    assert refused.status == 22
    assert refused.next.startswith("your role in the team does not allow this: ask an admin")
    own = await team.run("bob", "secret", "get", "API_KEY", "--as", "me")
    assert "role" not in own.next


async def test_a_reader_who_lists_the_members(team: Team) -> None:
    """A reader is sent to an admin: no login and no grant would help."""
    await team.joined("bob", "reader")
    refused = await team.run("bob", "team", "members")
    assert refused.status == 22
    assert refused.next == "only admins can list the members of a team: ask one"


async def test_a_young_team_does_not_move(team: Team) -> None:
    """The admin of a new team is told what is missing, and what helps at once."""
    move = ("team", "move", "shop", "--key-file", str(team.folder / "new.key"), "--yes")
    alone = await team.run("alice", *move)
    assert alone.status == 15 and alone.next.startswith("a move needs a second admin")
    await team.joined("bob", "admin")
    young = await team.run("alice", *move)
    assert young.status == 15 and "younger than 7 days" in young.err
    assert "next: run the same command again after 20" in young.err
    assert "sealspace team create" in young.err


async def test_an_invitation_without_a_terminal(team: Team) -> None:
    """Nobody could confirm the words there, so the command does not wait for the person."""
    made = await team.must("alice", "team", "invite", "--role", "reader", "--json")
    number = json.loads(made.out)["id"]
    assert f"next, in a terminal: sealspace team confirm {number}" in made.err
