"""The commands for sharing secrets between people, each at a login of their own."""

import json
from pathlib import Path

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk


class Office:
    """Alice and Bob at one node."""

    def __init__(self, desk: OwnerDesk) -> None:
        self.desk, self.bobs = desk, desk.home.with_name("bob")
        self.alice = self.bob = ""

    async def as_bob(self, *arguments: str, given: str = "") -> Ran:
        return await self.desk.run(*arguments, given=given, home=self.bobs)

    async def as_alice(self, *arguments: str, given: str = "", typed: str | None = None) -> Ran:
        ran = await self.desk.run(*arguments, given=given, typed=typed)
        assert ran.status == 0, ran
        return ran


@pytest.fixture
async def office(tmp_path: Path, capsys, monkeypatch):
    """Alice has two secrets; Bob has logged in."""
    async with owner_desk(tmp_path, capsys, monkeypatch) as desk:
        office = Office(desk)
        await desk.log_in()
        assert (await office.as_bob("login", desk.node, "--new")).status == 0
        office.alice = json.loads((await desk.run("whoami", "--json")).out)["owner"]
        office.bob = json.loads((await office.as_bob("whoami", "--json")).out)["owner"]
        await office.as_alice("secret", "put", "API_KEY", given="open sesame")
        await office.as_alice("secret", "put", "DB_URL", given="postgres")
        yield office


async def test_share_read_and_unshare(office: Office) -> None:
    """A shared secret is read, listed and passed to a program until it is unshared."""
    shared = await office.as_alice("secret", "share", "API_KEY", "--with", office.bob)
    shown = json.loads((await office.as_bob("network", "show", "--json")).out)
    assert shown["fingerprint"] in shared.err
    source = ("--from", office.alice)
    assert (await office.as_bob("secret", "get", "API_KEY", *source)).out == "open sesame"
    assert "API_KEY" in (await office.as_bob("secret", "list", *source)).out
    await office.as_alice("secret", "put", "API_KEY", given="second")
    assert (await office.as_bob("secret", "get", "API_KEY", *source)).out == "second"
    missing = await office.as_bob("secret", "get", "DB_URL", *source)
    assert missing.status == 21, missing
    ended = await office.as_alice("secret", "unshare", "API_KEY", "--with", office.bob)
    assert "copies of: API_KEY" in ended.err and "stays known" in ended.err
    gone = await office.as_bob("secret", "get", "API_KEY", *source)
    assert (gone.status, gone.happened) == (
        21,
        f"{office.alice} shares secrets with others only",
    )
