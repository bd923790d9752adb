"""A person whose own secrets are at one node, and who is a member of a team at another."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from embedded_node import EmbeddedNode, embedded_node
from engines import store_at
from owner_desk import Ran
from team_desk import Team

from node.config.tree import Config, Http


@dataclass
class Bob:
    """A person with a node of their own, and a folder for each node.

    Attributes:
        team: at the first node.
        own_node: the second node.
        did: the same at both nodes.
    """

    team: Team
    own_node: EmbeddedNode
    did: str = ""

    @property
    def own_home(self) -> Path:
        """Return the folder of the login at the own node, with the wallet's key."""
        return self.team.folder / "bob" / ".sealspace"

    @property
    def team_home(self) -> Path:
        """Return the folder of the login at the team's node."""
        return self.team.folder / "bob-at-shop" / ".sealspace"

    async def own(self, *arguments: str, given: str = "") -> Ran:
        """Run a command in the folder of the own node."""
        return await self.team.desk.run(*arguments, given=given, home=self.own_home)

    async def at_team(self, *arguments: str, given: str = "") -> Ran:
        """Run a command in the folder of the team's node."""
        return await self.team.desk.run(*arguments, given=given, home=self.team_home)

    async def log_in_at_team(self) -> Ran:
        """Log in at the team's node, with the wallet of the own node."""
        key = str(self.own_home / "wallet.key")
        return await self.at_team("login", self.team.desk.node, "--key-file", key)


@pytest.fixture
async def bob(team: Team, tmp_path: Path) -> AsyncIterator[Bob]:
    """Bob, who is logged in at the own node with one secret."""
    config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path / "second"))
    async with embedded_node(config) as own_node:
        bob = Bob(team, own_node)
        assert (await bob.own("login", own_node.url, "--new")).status == 0
        assert (await bob.own("secret", "put", "MINE", given="own")).status == 0
        bob.did = json.loads((await bob.own("whoami", "--json")).out)["owner"]
        yield bob


async def member(bob: Bob) -> None:
    """Make Bob a writer of the team, who has chosen it in the second folder."""
    added = ("team", "add", "shop", bob.did, "--role", "writer")
    await bob.team.must("alice", *added)
    assert (await bob.log_in_at_team()).status == 0
    assert (await bob.at_team("contact", "add", "shop", bob.team.did)).status == 0
    assert (await bob.at_team("use", "shop")).status == 0


async def test_two_folders(bob: Bob) -> None:
    """With a folder for each node, the same wallet uses the team's secrets and the own ones."""
    await member(bob)
    read = await bob.at_team("secret", "get", "API_KEY")
    assert (read.status, read.out) == (0, "open sesame")
    assert (await bob.at_team("secret", "put", "API_KEY", given="by bob")).status == 0
    assert await bob.team.reads("alice") == "by bob"
    own = await bob.own("secret", "get", "MINE")
    assert (own.status, own.out) == (0, "own")
    # Neither node has what is at the other one.
    elsewhere = await bob.at_team("secret", "get", "MINE", "--as", "me")
    assert elsewhere.status == 21 and "there is no secret MINE" in elsewhere.happened


async def test_an_invitation_from_another_node(bob: Bob) -> None:
    """The next step of the refusal leads to the membership, and keeps the own login."""
    invite = ("team", "invite", "--role", "reader", "--no-wait", "--json")
    made = json.loads((await bob.team.must("alice", *invite)).out)
    line, number = made["invitation"], made["id"]
    refused = await bob.own("team", "join", line)
    assert (refused.status, refused.happened) == (12, "the invitation is for another node")
    assert f"sealspace login {bob.team.desk.node};" in refused.next
    assert "to keep the present login, add --home DIR --key-file FILE" in refused.next
    assert (await bob.log_in_at_team()).status == 0
    confirm = ("team", "confirm", number, "--no-wait")
    assert (await bob.at_team("team", "join", line, "--no-wait")).status == 0
    await bob.team.must("alice", *confirm)
    assert (await bob.at_team("team", "join", line, "--no-wait")).status == 0
    assert (await bob.team.run("alice", *confirm, typed="y\n")).status == 0
    joined = await bob.at_team("team", "join", line, "--no-wait")
    assert joined.status == 0 and "you are a reader of the team shop" in joined.err
    read = await bob.at_team("secret", "get", "API_KEY", "--as", "shop")
    assert (read.status, read.out) == (0, "open sesame")
    assert (await bob.own("secret", "get", "MINE")).out == "own"


async def test_the_own_node_does_not_know_the_team(bob: Bob) -> None:
    """Commands for the team at the wrong node are refused, and say how to log in at the other."""
    await member(bob)
    for command in (
        ("secret", "get", "API_KEY", "--as", bob.team.did),
        ("team", "members", bob.team.did),
        ("team", "adopt", bob.team.did, "MINE", "--yes"),
    ):
        refused = await bob.own(*command)
        assert (refused.status, "you are not a member" in refused.happened) == (22, True), refused
        assert "sealspace login URL --home DIR --key-file FILE" in refused.next
    other = await bob.own("secret", "list", "--node", bob.team.desk.node)
    assert other.status == 11 and f"sealspace login {bob.team.desk.node};" in other.next
    assert (await bob.own("secret", "get", "MINE")).out == "own"


async def test_own_secrets_go_to_a_team_elsewhere_as_a_file(bob: Bob) -> None:
    """Secrets do not move between nodes; their present values go from one folder to the other."""
    await member(bob)
    exported = await bob.own("secret", "export")
    assert exported.status == 0 and "MINE=" in exported.out
    imported = await bob.at_team("secret", "import", "-", "--format", "env", given=exported.out)
    assert imported.status == 0, imported
    assert await bob.team.reads("alice", "MINE") == "own"


async def test_a_removal_ends_nothing_at_the_own_node(bob: Bob) -> None:
    """A removed member loses the team's secrets, and keeps the own ones and both logins."""
    await member(bob)
    await bob.team.must("alice", "team", "remove", "shop", bob.did)
    refused = await bob.at_team("secret", "get", "API_KEY")
    assert refused.status == 22 and "you are not a member" in refused.happened
    assert (await bob.at_team("secret", "list", "--as", "me")).status == 0
    assert (await bob.own("secret", "get", "MINE")).out == "own"
