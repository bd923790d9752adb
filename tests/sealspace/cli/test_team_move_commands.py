"""The commands `team move`, `countersign` and `follow`, by people who each have a home."""

import json
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from killed_commands import ended, is_change
from moving_teams import make_older
from owner_desk import OwnerDesk, Ran, owner_desk
from relay import Relay, relay_before

from capabilities.successions import NOTICE_S, SENIORITY_S
from sealspace.client import Client
from sealspace.documents.successions import parse_move_line, verify_statement
from sealspace.session import load_session


@dataclass
class MovingDesk:
    """People at one node, and the team `shop`, whose admins are Alice and Bob.

    Attributes:
        desk: runs commands.
        folder: has the homes.
        team: DID of the team.
        dids: of the people, by name.
    """

    desk: OwnerDesk
    folder: Path
    team: str = ""
    dids: dict[str, str] = field(default_factory=dict)
    expected: str = ""
    """What Rita reads, or the error that she gets."""

    async def run(self, person: str, *arguments: str, given: str = "", typed: str = "") -> Ran:
        """Run a command as a person; with `typed`, at a terminal."""
        home = self.folder / person / ".sealspace"
        return await self.desk.run(*arguments, given=given, typed=typed or None, home=home)

    async def must(self, person: str, *arguments: str, given: str = "", typed: str = "") -> Ran:
        """Run a command that must succeed."""
        ran = await self.run(person, *arguments, given=given, typed=typed)
        assert ran.status == 0, ran
        return ran

    async def log_in(self, person: str) -> None:
        """Log a new person in, whom Alice knows."""
        await self.must(person, "login", self.desk.node, "--new")
        self.dids[person] = json.loads((await self.must(person, "whoami", "--json")).out)["owner"]
        if person != "alice":
            await self.must("alice", "contact", "add", person, self.dids[person])

    async def reads(self, person: str, *more: str) -> str:
        """Return the value that a person reads, or the error."""
        ran = await self.run(person, "secret", "get", "API_KEY", *more)
        return ran.out if ran.status == 0 else ran.happened

    def move(self, *more: str) -> tuple[str, ...]:
        """Return the command of the first admin."""
        key = str(self.folder / "new.key")
        return ("team", "move", "shop", "--key-file", key, *more)

    async def line(self) -> dict[str, str]:
        """Let Alice begin the move, and return what the command prints."""
        made = await self.must("alice", *self.move("--yes", "--no-wait", "--json"))
        await make_older(self.desk.served.services, NOTICE_S + 1)
        printed: dict[str, str] = json.loads(made.out)
        return printed


@pytest.fixture
async def desk(tmp_path: Path, capsys, monkeypatch) -> AsyncIterator[MovingDesk]:
    """A team of Alice, Bob and Rita, who have been members for more than a week."""
    monkeypatch.chdir(tmp_path)  # no project file above the current folder
    monkeypatch.setenv("HOME", str(tmp_path))
    async with owner_desk(tmp_path, capsys, monkeypatch) as owner:
        found = MovingDesk(owner, tmp_path)
        for person in ("alice", "bob", "rita"):
            await found.log_in(person)
        key = str(tmp_path / "shop.key")
        made = await found.must(
            "alice", "team", "create", "shop", "--admin", "bob", "--key-file", key, "--json"
        )
        found.team = json.loads(made.out)["team"]
        await found.must("alice", "team", "add", "shop", found.dids["rita"], "--role", "reader")
        for person in ("bob", "rita"):
            await found.must(person, "contact", "add", "shop", found.team)
            await found.must(person, "use", "shop")
        await found.must("bob", "contact", "add", "alice", found.dids["alice"])
        await found.must("alice", "use", "shop")
        await found.must("alice", "secret", "put", "API_KEY", given="open sesame")
        await make_older(owner.served.services, SENIORITY_S + 60)
        yield found


async def test_TM20_three_people_move(desk: MovingDesk) -> None:
    """Alice and Bob move the team; Rita follows, and everybody reads the same as before."""
    line = await desk.line()
    assert await desk.reads("rita") == "open sesame"  # nothing has changed yet
    signed = await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
    assert " ".join(line["words"]) in signed.err
    assert f"alice ({desk.dids['alice']})" in signed.err
    for person in ("alice", "bob", "rita"):
        refused = await desk.run(person, "secret", "get", "API_KEY")
        assert refused.status == 22, refused
        assert "sealspace team follow" in refused.next
    done = json.loads((await desk.must("alice", *desk.move("--json"))).out)
    assert (done["team"], done["moved"], done["failed"]) == (line["team"], ["API_KEY"], [])
    assert await desk.reads("alice") == "open sesame"
    for person in ("bob", "rita"):
        followed = await desk.must(person, "team", "follow", "shop", "--did", line["team"])
        assert line["team"] in followed.err
        assert await desk.reads(person) == "open sesame"
    await desk.must("bob", "secret", "put", "API_KEY", given="changed")
    assert await desk.reads("rita") == "changed"
    listed = json.loads((await desk.must("bob", "team", "members", "shop", "--json")).out)
    assert {one["member"]: one["role"] for one in listed} == {
        desk.dids["alice"]: "admin",
        desk.dids["bob"]: "admin",
        desk.dids["rita"]: "reader",
    }
    key = desk.folder / "new.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not list((desk.folder / "alice" / ".sealspace" / "moves").iterdir())


async def test_TM20_the_same_command_again(desk: MovingDesk) -> None:
    """Each command is repeated without harm, before the second signature and after the move."""
    first = await desk.line()
    again = await desk.line()
    assert again == first
    await desk.must("bob", "team", "countersign", "shop", first["move"], typed="y\n")
    twice = await desk.run("bob", "team", "countersign", "shop", first["move"], typed="y\n")
    assert (twice.status, "is now" in twice.err) == (22, True)
    await desk.must("alice", *desk.move())
    done = await desk.run("alice", *desk.move("--yes"))
    assert "has moved already" in done.err
    assert await desk.reads("alice") == "open sesame"


async def test_TM20_a_statement_that_was_revoked(desk: MovingDesk) -> None:
    """If somebody revoked Alice's statement, the same command signs another one (TM20)."""
    revoked = await desk.line()
    statement = verify_statement(parse_move_line(revoked["move"]).statement, now=time.time())
    (path,) = (desk.folder / "bob" / ".sealspace" / "teams").iterdir()
    async with Client(desk.desk.node, session=load_session(path)) as acting:
        await acting.delegations.revoke(statement.cid)
    line = await desk.line()
    assert (line["team"], line["move"] != revoked["move"]) == (revoked["team"], True)
    await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
    await desk.must("alice", *desk.move())
    assert await desk.reads("alice") == "open sesame"


async def test_TM20_members_are_confirmed(desk: MovingDesk) -> None:
    """Alice sees who comes along, and leaves somebody out (TM20)."""
    asked = await desk.run("alice", *desk.move("--no-wait"), typed="n\n")
    assert asked.status != 0
    assert not (desk.folder / "new.key").exists()
    assert "the team's key" in asked.err
    assert desk.dids["rita"][-8:] in asked.err or "rita" in asked.err
    made = await desk.must("alice", *desk.move("--without", "rita", "--yes", "--no-wait", "--json"))
    line = json.loads(made.out)
    await make_older(desk.desk.served.services, NOTICE_S + 1)
    await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
    await desk.must("alice", *desk.move())
    left = await desk.run("rita", "team", "follow", "shop", "--did", line["team"])
    assert "not a member" in left.err


async def test_TM21_other_words(desk: MovingDesk) -> None:
    """Bob answers that the words differ, or is not asked; nothing is signed (TM21)."""
    line = await desk.line()
    for typed in ("n\n", ""):
        refused = await desk.run("bob", "team", "countersign", "shop", line["move"], typed=typed)
        assert refused.status != 0
    assert await desk.reads("rita") == "open sesame"


async def test_TM22_another_wallet(desk: MovingDesk) -> None:
    """A member who was told another DID does not follow (TM22)."""
    line = await desk.line()
    none = await desk.run("rita", "team", "follow", "shop")
    assert (none.status, "has not moved" in none.happened) == (21, True)
    await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
    for more in (("--did", desk.dids["bob"]), ()):
        refused = await desk.run("rita", "team", "follow", "shop", *more)
        assert refused.status != 0
    shown = json.loads((await desk.must("rita", "contact", "list", "--json")).out)
    assert desk.team in json.dumps(shown)


async def test_TM20_an_unreadable_secret(desk: MovingDesk) -> None:
    """The move does not begin while a secret could not be taken along (TM20)."""
    (path,) = (desk.folder / "alice" / ".sealspace" / "teams").iterdir()
    session = load_session(path)
    async with Client(desk.desk.node, session=session) as acting:
        await acting.kv(session.own_space("secrets").text).put("vault/secrets/JUNK", "no secret")
    refused = await desk.run("alice", *desk.move("--yes", "--no-wait"))
    assert refused.status != 0
    assert "cannot be taken along: JUNK" in refused.err
    assert "--leave-unreadable" in refused.next
    assert not (desk.folder / "new.key").exists()
    more = ("--leave-unreadable", "--yes", "--no-wait", "--json")
    made = await desk.must("alice", *desk.move(*more))
    assert "cannot be taken along: JUNK" in made.err
    await make_older(desk.desk.served.services, NOTICE_S + 1)
    line = json.loads(made.out)["move"]
    await desk.must("bob", "team", "countersign", "shop", line, typed="y\n")
    done = json.loads((await desk.must("alice", *desk.move("--json"))).out)
    assert (done["moved"], done["failed"][0]["secret"]) == (["API_KEY"], "JUNK")


async def killed_until_done(desk: MovingDesk, relay: Relay, *more: str) -> int:
    """Run Alice's command, killed at its first change, then at the second, until it ends."""
    home = desk.folder / "alice" / ".sealspace"
    for at in range(1, 40):
        status = await ended(
            home, relay, *desk.move(*more), at=at, is_stored=at % 2 == 0, counts=is_change
        )
        if status >= 0:
            # The last change replaces the contact. After it, the team has moved already.
            assert status in (0, 15)
            return at
        assert await desk.reads("rita") == desk.expected
    raise AssertionError("the command was killed each time")


async def test_TM20_killed_at_each_change(desk: MovingDesk) -> None:
    """Killed at any change, the command continues; nobody is locked out, nothing is lost (TM20)."""
    await desk.must("alice", "secret", "put", "API_KEY", given="second")
    desk.expected = "second"
    async with relay_before(desk.desk.node) as relay:
        assert await killed_until_done(desk, relay, "--yes", "--no-wait") > 6
        line = await desk.line()
        await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
        desk.expected = (await desk.run("rita", "secret", "get", "API_KEY")).happened
        assert "moved" in desk.expected
        assert await killed_until_done(desk, relay) > 4
    await desk.must("rita", "team", "follow", "shop", "--did", line["team"])
    for person in ("alice", "rita"):
        assert await desk.reads(person) == "second"
    listed = json.loads((await desk.must("alice", "secret", "versions", "API_KEY", "--json")).out)
    assert len(listed) == 2
    former = await desk.must("alice", "secret", "get", "API_KEY", "--version", "1")
    assert former.out == "open sesame"
    members = json.loads((await desk.must("alice", "team", "members", "shop", "--json")).out)
    assert len(members) == 3


async def test_TM20_grants_that_ended_are_listed(desk: MovingDesk) -> None:
    """After the move, the command lists the tokens that have to be made again (TM20)."""
    await desk.must("alice", "token", "create", "deploy", "--secret", "API_KEY")
    line = await desk.line()
    await desk.must("bob", "team", "countersign", "shop", line["move"], typed="y\n")
    done = await desk.must("alice", *desk.move("--json"))
    (ended_grant,) = json.loads(done.out)["ended"]
    assert ended_grant.startswith("API_KEY: the machine token deploy")
    assert ended_grant in done.err
