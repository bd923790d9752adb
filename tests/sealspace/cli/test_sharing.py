"""The commands for sharing secrets between people, each at a login of their own."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from embedded_node import EmbeddedNode, embedded_node
from forked_programs import forked_program
from owner_desk import OwnerDesk, Ran, owner_desk
from relay import Answer, relay_before
from tests_support import OUR_IMPORTS

from node.config.tree import Config, Http, Store

NOTHING = "shares with you at this node: nothing"


class Office:
    """Alice and Bob, each with a home."""

    def __init__(self, desk: OwnerDesk) -> None:
        self.desk, self.bobs = desk, desk.home.with_name("bob")
        self.alice = self.bob = ""

    async def as_bob(self, *arguments: str, given: str = "") -> Ran:
        return await self.desk.run(*arguments, given=given, home=self.bobs)

    async def as_alice(self, *arguments: str, given: str = "", typed: str | None = None) -> Ran:
        ran = await self.desk.run(*arguments, given=given, typed=typed)
        assert ran.status == 0, ran
        return ran

    async def bob_reads(self, name: str, *more: str) -> str:
        """Return the value that Bob reads from Alice, or the error."""
        ran = await self.as_bob("secret", "get", name, "--from", self.alice, *more)
        return ran.out if ran.status == 0 else ran.happened


async def opened(desk: OwnerDesk, bobs_node: str) -> Office:
    """Alice with two secrets, and Bob, both logged in."""
    office = Office(desk)
    await desk.log_in()
    assert (await office.as_bob("login", bobs_node, "--new")).status == 0
    office.alice = json.loads((await desk.run("whoami", "--json")).out)["owner"]
    office.bob = json.loads((await office.as_bob("whoami", "--json")).out)["owner"]
    await office.as_alice("secret", "put", "API_KEY", given="open sesame")
    await office.as_alice("secret", "put", "DB_URL", "--scope", "prod", given="postgres")
    return office


@pytest.fixture
async def office(tmp_path: Path, capsys, monkeypatch) -> AsyncIterator[Office]:
    """Alice and Bob at one node."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        yield await opened(desk, desk.node)


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    """Another node."""
    folder = tmp_path / "second"
    folder.mkdir()
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(folder / "data")))
    async with embedded_node(config) as node:
        yield node


async def test_share_read_and_unshare(office: Office) -> None:
    """A shared secret is read and listed until it is unshared; the fingerprint is shown."""
    shared = await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    shown = json.loads((await office.as_bob("network", "show", "--json")).out)
    assert shown["fingerprint"] in shared.err
    assert await office.bob_reads("API_KEY") == "open sesame"
    listed = await office.as_bob("secret", "list", "--all", "--from", office.alice, "--json")
    assert json.loads(listed.out) == [{"name": "API_KEY", "scope": None, "changedAt": None}]
    missing = await office.as_bob("secret", "get", "DB_URL", "--from", office.alice)
    assert missing.happened == "there is no secret DB_URL"
    assert missing.next.endswith(f"sealspace secret list --all --from {office.alice}")
    grants = (await office.as_alice("grant", "list")).out
    assert f"read, list copies of secrets for {office.bob}" in grants
    ended = await office.as_alice("secret", "unshare", "API_KEY", "--with", office.bob)
    assert "copies of: API_KEY" in ended.err and "what was read stays known" in ended.err
    assert await office.bob_reads("API_KEY") == f"{office.alice} {NOTHING}"
    again = await office.desk.run("secret", "unshare", "API_KEY", "--with", office.bob)
    assert (again.status, again.next) == (21, "list what is shared: sealspace team list")
    missing = await office.desk.run("secret", "share", "NOTHING", "--with", office.bob)
    assert (missing.status, missing.happened) == (21, "there is no secret NOTHING")
    assert missing.next == (
        "sealspace secret list --all; if you deleted it in the last 7 days: sealspace secret"
        " restore NOTHING"
    )
    unscoped = await office.desk.run("secret", "share", "DB_URL", "--with", office.bob)
    assert unscoped.next.startswith("did you mean --scope prod? or list all: ")
    near = await office.desk.run("secret", "share", "API_KEI", "--with", office.bob)
    assert near.next.startswith("did you mean API_KEY? or list all: ")


async def test_SH6_every_way_to_change_a_value(office: Office, tmp_path: Path) -> None:
    """SH6: every command that changes a secret renews the shared copy, and a deletion deletes
    it."""
    await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    await office.as_alice("secret", "put", "API_KEY", given="script")
    assert await office.bob_reads("API_KEY") == "script"
    await office.as_alice("secret", "put", "API_KEY", typed="y\nterminal\nterminal\n")
    assert await office.bob_reads("API_KEY") == "terminal"
    (tmp_path / "values.env").write_text("API_KEY=imported\nOTHER=x\n")
    await office.as_alice("secret", "import", str(tmp_path / "values.env"), "--yes")
    assert await office.bob_reads("API_KEY") == "imported"
    made = await office.as_alice("secret", "generate", "API_KEY", "--show")
    assert await office.bob_reads("API_KEY") == made.out.strip()
    await office.as_alice("secret", "rollback", "API_KEY", "1")
    assert await office.bob_reads("API_KEY") == "open sesame"
    await office.as_alice("secret", "delete", "API_KEY")
    assert await office.bob_reads("API_KEY") == f"{office.alice} {NOTHING}"


async def test_SH7_a_team(office: Office) -> None:
    """SH7: a member of a team can read its secrets, and a removed member cannot."""
    unknown = await office.desk.run("secret", "share", "API_KEY", "--with", "team:ops")
    assert unknown.happened == "there is no team ops"
    assert unknown.next == "sealspace team add ops DID"
    await office.as_alice("team", "add", "ops", office.bob)
    bare = await office.desk.run("secret", "share", "API_KEY", "--with", "ops")
    assert bare.happened == "there is no contact ops"
    assert bare.next.startswith("for a team: --with team:ops; list the names: ")
    scoped = ("--scope", "prod")
    await office.as_alice("secret", "share", "DB_URL", *scoped, "--with", "team:ops")
    assert await office.bob_reads("DB_URL", *scoped) == "postgres"
    await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    several = await office.as_bob("secret", "get", "API_KEY", "--from", office.alice)
    assert several.happened.endswith("shares with you at this node: ops and you alone")
    assert several.next == f"choose one: --from {office.alice}/ or --from {office.alice}/ops"
    for source, name, value in (("/", "API_KEY", "open sesame"), ("/ops", "DB_URL", "postgres")):
        more = scoped if name == "DB_URL" else ()
        ran = await office.as_bob("secret", "get", name, "--from", office.alice + source, *more)
        assert ran.out == value
    rows = json.loads((await office.as_alice("team", "list", "--json")).out)
    assert {(one["team"], *one["secrets"]) for one in rows} == {
        ("ops", "prod/DB_URL"),
        (None, "API_KEY"),
    }
    await office.as_alice("team", "remove", "ops", office.bob)
    await office.as_alice("secret", "put", "DB_URL", *scoped, given="after bob")
    gone = await office.as_bob("secret", "get", "DB_URL", "--from", f"{office.alice}/ops", *scoped)
    assert (gone.status, gone.out) == (21, "")
    assert await office.bob_reads("API_KEY") == "open sesame"


async def test_SH8_a_name_that_one_has_too(office: Office) -> None:
    """`run --from` passes only shared values. If the reader has a secret of the same name, the
    reader has to choose."""
    await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    await office.as_bob("secret", "put", "MY_TOKEN", given="my own")
    program = ("--", "sh", "-c", 'test "$API_KEY" = "open sesame" && test -z "$MY_TOKEN"')

    async def ran(*options: str) -> tuple[int | None, str]:
        started = await asyncio.create_subprocess_exec(
            *(
                forked_program("sealspace"),
                "run",
                "--home",
                str(office.bobs),
                "--from",
                office.alice,
            ),
            *(*options, *program),
            env={"PATH": os.environ["PATH"], **OUR_IMPORTS},
            cwd=office.bobs,
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await started.communicate()
        return started.returncode, told.decode()

    assert (await ran())[0] == 0
    await office.as_bob("secret", "put", "API_KEY", given="my own")
    status, told = await ran()
    assert status == 2
    assert "you have secrets of your own with the same names: API_KEY" in told
    assert "to pass the shared values, name them: --only API_KEY" in told
    assert (await ran("--only", "API_KEY"))[0] == 0


async def test_people_at_two_nodes(
    tmp_path: Path, capsys, monkeypatch, second: EmbeddedNode
) -> None:
    """The owner names the person's node, and hands over one file for all later values."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        office = await opened(desk, second.url)
        share = ("secret", "share", "API_KEY", "--with", office.bob)
        nowhere = await desk.run(*share)
        assert nowhere.status == 21 and "sealspace login" in nowhere.next
        assert "add --at" in nowhere.next
        file = tmp_path / "alice.json"
        await office.as_alice(*share, "--at", second.url, "--out", str(file))
        get = ("secret", "get", "API_KEY", "--from", str(file))
        assert (await office.as_bob(*get)).out == "open sesame"
        await office.as_alice("secret", "put", "API_KEY", given="second")
        assert (await office.as_bob(*get)).out == "second"
        everything = ("secret", "unshare", "--with", office.bob)
        asked = await desk.run(*everything)
        assert (asked.status, asked.next) == (2, "add --yes")
        await office.as_alice(*everything, "--yes")
        assert (await office.as_bob(*get)).status == 22
        other = tmp_path / "other.json"
        await office.as_alice(
            "grant", "create", office.bob, "--space", "default", "--out", str(other)
        )
        refused = await office.as_bob("secret", "get", "API_KEY", "--from", str(other))
        assert refused.happened == f"the grant in {other} does not share secrets"


async def test_SH6_a_copy_that_was_not_renewed(office: Office) -> None:
    """SH6: if the renewal of copies fails, the message says so, and repeating the command renews
    them."""
    await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    put = ("secret", "put", "API_KEY")
    async with relay_before(office.desk.node) as relay:

        def twist(answer: Answer) -> None:
            if office.bob.encode() in answer.asked:
                answer.status = 503

        relay.twist = twist
        ran = await office.desk.run(*put, "--node", relay.url, typed="y\nnew\nnew\n")
    assert ran.status != 0
    assert ran.next == "run the command again: copies for other people have the earlier value"
    assert (await office.as_alice("secret", "get", "API_KEY")).out == "new"
    await office.as_alice(*put, typed="y\nnew\nnew\n")
    assert await office.bob_reads("API_KEY") == "new"


async def test_SH6_a_deletion_that_fails_halfway(office: Office) -> None:
    """If the copies cannot be deleted, the secret stays too, and the same command deletes both."""
    await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    delete = ("secret", "delete", "API_KEY")
    async with relay_before(office.desk.node) as relay:

        def twist(answer: Answer) -> None:
            if answer.path == "/delegation/query":
                answer.status = 503

        relay.twist = twist
        assert (await office.desk.run(*delete, "--node", relay.url)).status != 0
    await office.as_alice(*delete)
    assert (
        await office.bob_reads("API_KEY") == f"{office.alice} shares with you at this node: nothing"
    )
