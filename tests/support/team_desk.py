"""People with a home each at one node, and a team that one of them created.

Example:
    async with team_desk(tmp_path, capsys, monkeypatch) as team:
        await team.joined("bob", "admin")
        assert await team.reads("bob") == "open sesame"
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from owner_desk import OwnerDesk, Ran, owner_desk
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import REPOSITORY


@dataclass
class Team:
    """People who are logged in at one node, and a team that Alice created."""

    desk: OwnerDesk
    folder: Path
    did: str = ""
    dids: dict[str, str] = field(default_factory=dict)

    async def run(
        self, person: str, *arguments: str, given: str = "", typed: str | None = None
    ) -> Ran:
        """Run a command as a person."""
        return await self.desk.run(
            *arguments, given=given, typed=typed, home=self.folder / person / ".sealspace"
        )

    async def must(self, person: str, *arguments: str, given: str = "") -> Ran:
        """Run a command that must succeed."""
        ran = await self.run(person, *arguments, given=given)
        assert ran.status == 0, ran
        return ran

    async def log_in(self, person: str) -> None:
        """Log a new person in; Alice knows them, and they know the team."""
        await self.must(person, "login", self.desk.node, "--new")
        self.dids[person] = json.loads((await self.must(person, "whoami", "--json")).out)["owner"]
        if person != "alice":
            await self.must("alice", "contact", "add", person, self.dids[person])

    async def joined(self, person: str, role: str, *more: str, by: str = "alice") -> None:
        """Log a new person in, who becomes a member and chooses the team."""
        await self.log_in(person)
        await self.must(by, "team", "add", "shop", self.dids[person], "--role", role, *more)
        await self.must(person, "contact", "add", "shop", self.did)
        await self.must(person, "use", "shop")

    async def reads(self, person: str, name: str = "API_KEY", *more: str) -> str:
        """Return the value that a person reads, or the error."""
        ran = await self.run(person, "secret", "get", name, *more)
        return ran.out if ran.status == 0 else ran.happened

    async def passes(self, chosen: str) -> list[int]:
        """Return how long two variables are that `sealspace run` passes to a program of Alice."""
        home = str(self.folder / "alice" / ".sealspace")
        code = 'import json, os; print(json.dumps([len(os.environ.get(n, "")) for n in %r]))'
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "--home", home, "--as", chosen, "run", "--"),
            *(sys.executable, "-c", code % (("API_KEY", "DATABASE_URL"),)),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        found: list[int] = json.loads(out)
        return found

    async def roles(self, person: str) -> dict[str, str]:
        listed = json.loads((await self.must(person, "team", "members", "shop", "--json")).out)
        names = {did: name for name, did in self.dids.items()}
        return {names[one["member"]]: one["role"] for one in listed}


async def token_for(team: Team, person: str = "alice") -> str:
    """Return the line of a machine token for the team's secret, which a person made."""
    made = await team.must(person, "token", "create", "deploy", "--secret", "API_KEY")
    assert f"for the team shop ({team.did})" in made.err
    return made.out.strip()


async def read_with(team: Team, line: str) -> str:
    """Return what a program with a machine token reads, or the error."""
    with team.desk.monkeypatch.context() as patch:
        patch.setenv("SEALSPACE_TOKEN", line)
        ran = await team.run("nobody", "secret", "get", "API_KEY", "--node", team.desk.node)
    return ran.out if ran.status == 0 else ran.err


@asynccontextmanager
async def people_desk(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Team]:
    """Alice, who is logged in at a new node; there is no team yet."""
    # No project file above the current folder.
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    async with owner_desk(folder, capsys, monkeypatch) as desk:
        team = Team(desk, folder)
        await team.log_in("alice")
        yield team


@asynccontextmanager
async def team_desk(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Team]:
    """A team with one secret, which Alice has chosen."""
    async with people_desk(folder, capsys, monkeypatch) as team:
        key = str(folder / "shop.key")
        made = await team.must("alice", "team", "create", "shop", "--key-file", key, "--json")
        team.did = json.loads(made.out)["team"]
        await team.must("alice", "use", "shop")
        await team.must("alice", "secret", "put", "API_KEY", given="open sesame")
        yield team
