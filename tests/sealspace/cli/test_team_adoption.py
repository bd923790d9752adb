"""The commands `sealspace team adopt` and `team convert`, killed at each write too."""

import json
from pathlib import Path

from killed_commands import ended, is_change, is_conditional
from relay import relay_before
from team_desk import Team


def home_of(team: Team) -> Path:
    """Return the folder of Alice."""
    return team.folder / "alice" / ".sealspace"


async def stores(team: Team, *values: str, name: str = "TOKEN", person: str = "alice") -> None:
    for value in values:
        await team.must(person, "secret", "put", name, "--as", "me", given=value)


async def history(team: Team, name: str, chosen: str = "shop") -> list[str]:
    """Return the values of a secret, the oldest first."""
    listed = await team.must("alice", "secret", "versions", name, "--as", chosen, "--json")
    numbers = sorted(one["version"] for one in json.loads(listed.out))
    return [
        await team.reads("alice", name, "--as", chosen, "--version", str(number))
        for number in numbers
    ]


async def test_TM23_adopt(team: Team) -> None:
    """TM23: secrets move after a question, and what was granted on them is listed before."""
    await stores(team, "one", "two")
    await stores(team, "key", name="OTHER")
    await team.must("alice", "token", "create", "ci", "--secret", "TOKEN", "--as", "me")
    unasked = await team.run("alice", "team", "adopt", "shop", "TOKEN")
    assert unasked.status == 2 and "cannot ask for confirmation" in unasked.err
    assert "these grants do not move" in unasked.err and "the machine token ci" in unasked.err
    assert await history(team, "TOKEN", "me") == ["one", "two"]
    neither = await team.run("alice", "team", "adopt", "shop", "--yes")
    assert neither.status == 2 and "add --all" in neither.happened
    moved = await team.must("alice", "team", "adopt", "shop", "--all", "--yes", "--json")
    assert json.loads(moved.out)["moved"] == ["OTHER", "TOKEN"]
    assert await history(team, "TOKEN") == ["one", "two"]
    assert (await team.must("alice", "secret", "list", "--as", "me")).out == ""
    again = await team.must("alice", "team", "adopt", "shop", "TOKEN", "--yes")
    assert "TOKEN: 0 versions stored" in again.err
    nothing = await team.must("alice", "team", "adopt", "shop", "--all", "--yes")
    assert "no secrets of your own" in nothing.err
    await stores(team, "mine", name="API_KEY")
    clash = await team.run("alice", "team", "adopt", "shop", "API_KEY", "--yes")
    assert clash.status == 2 and "it is not replaced" in clash.happened
    assert await history(team, "API_KEY") == ["open sesame"]


async def test_TM23_adopt_is_killed_at_each_write(team: Team) -> None:
    """TM23: killed before or after any write is stored, the same command completes the move."""
    async with relay_before(team.desk.node) as relay:
        for is_stored in (False, True):
            for at in (1, 2, 3):
                name = f"KEY_{at}_{int(is_stored)}"
                await stores(team, "one", "two", name=name)
                adopt = ("team", "adopt", "shop", name, "--yes")
                status = await ended(
                    home_of(team), relay, *adopt, at=at, is_stored=is_stored, counts=is_conditional
                )
                assert status == -9
                await team.must("alice", *adopt)
                assert await history(team, name) == ["one", "two"]
                listed = await team.must("alice", "secret", "list", "--as", "me")
                assert name not in listed.out


async def copied(team: Team) -> None:
    """Share two secrets with Bob and Carol as a team of copies."""
    for person in ("bob", "carol"):
        await team.log_in(person)
        await team.must("alice", "team", "add", "ops", person)
    await stores(team, "one", "two")
    await stores(team, "key", name="OTHER")
    await team.must(
        "alice", "secret", "share", "TOKEN", "OTHER", "--with", "team:ops", "--as", "me"
    )


async def require_converted(team: Team) -> None:
    """Check that the team has members, and that nothing is shared as copies."""
    listed = json.loads((await team.must("alice", "team", "list", "--json")).out)
    assert sorted((one["kind"], one["team"]) for one in listed) == [
        ("members", "ops"),
        ("members", "shop"),
    ]
    did = next(one["did"] for one in listed if one["team"] == "ops")
    members = json.loads((await team.must("alice", "team", "members", "ops", "--json")).out)
    assert {(one["member"], one["role"]) for one in members} == {
        (team.dids["alice"], "admin"),
        (team.dids["bob"], "reader"),
        (team.dids["carol"], "reader"),
    }
    assert await history(team, "TOKEN", "ops") == ["one", "two"]
    assert await team.reads("bob", "OTHER", "--as", did) == "key"
    gone = await team.run("bob", "secret", "get", "TOKEN", "--from", team.dids["alice"])
    assert gone.status != 0
    assert (await team.must("alice", "secret", "list", "--as", "me")).out == ""


async def test_TM23_convert(team: Team) -> None:
    """TM23: a team of copies becomes a team with members after a question."""
    await copied(team)
    convert = ("team", "convert", "ops", "--key-file", str(team.folder / "ops.key"))
    keyless = await team.run("alice", "team", "convert", "ops")
    assert keyless.status == 2 and "--out" in keyless.err and "--key-file" in keyless.err
    unasked = await team.run("alice", *convert)
    assert unasked.status == 2 and f"bob ({team.dids['bob']})" in unasked.err
    assert not (team.folder / "ops.key").exists()
    taken = await team.run("alice", "team", "create", "ops", *convert[3:])
    assert taken.status == 15 and "sealspace team convert ops" in taken.next
    await team.must("alice", *convert, "--yes")
    await require_converted(team)
    again = await team.run("alice", *convert, "--yes")
    assert again.status == 21


async def test_TM23_convert_is_killed_at_its_changes(team: Team) -> None:
    """TM23: killed at its first change, then at the second, and so on, convert is completed."""
    await copied(team)
    key = str(team.folder / "ops.key")
    convert = ("team", "convert", "ops", "--key-file", key, "--yes")
    async with relay_before(team.desk.node) as relay:
        for at in range(1, 40):
            status = await ended(
                home_of(team), relay, *convert, at=at, is_stored=at % 2 == 0, counts=is_change
            )
            if status >= 0:
                break
    assert status in (0, 21) and at > 6
    await require_converted(team)
