"""The commands `sealspace team adopt` and `team convert`, killed at each write too."""

import asyncio
import json
import os
from collections.abc import Callable

from aiohttp import web
from patience import PATIENCE_S
from relay import Answer, Relay, relay_before
from running_node import COMMAND
from team_desk import Team
from tests_support import REPOSITORY


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


def is_conditional(request: web.Request) -> bool:
    """Return whether a request writes a secret; only these have a condition."""
    return bool({"If-Match", "If-None-Match"} & set(request.headers))


def is_change(request: web.Request) -> bool:
    """Return whether a request changes a secret, a delegation or a network."""
    if request.path in ("/delegate", "/revoke"):
        return True
    return is_conditional(request) or request.path.startswith("/encryption/networks")


async def ended(
    team: Team,
    relay: Relay,
    *arguments: str,
    at: int,
    is_stored: bool,
    counts: Callable[[web.Request], bool],
) -> int:
    """Run a command as Alice that is killed at a write, before or after the node stored it.

    Returns the exit status, which is negative if the command was killed.
    """
    home = str(team.folder / "alice" / ".sealspace")
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "--home", home, "--node", relay.url, *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    writes = 0

    async def hold(request: web.Request) -> None:
        nonlocal writes
        writes += counts(request)
        if writes >= at and not is_stored and process.returncode is None:
            process.kill()
            await process.wait()
            raise web.HTTPInternalServerError

    def twist(_: Answer) -> None:
        if writes >= at and is_stored and process.returncode is None:
            process.kill()

    relay.hold, relay.twist = hold, twist
    return await asyncio.wait_for(process.wait(), PATIENCE_S)


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
                    team, relay, *adopt, at=at, is_stored=is_stored, counts=is_conditional
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
                team, relay, *convert, at=at, is_stored=at % 2 == 0, counts=is_change
            )
            if status >= 0:
                break
    assert status in (0, 21) and at > 6
    await require_converted(team)
