"""Teams for tests of the console: the SDK creates one, and acts as its admin.

Example:
    team = created_team(loop, node.url)
    team.admit(wallet.signer.did, "writer")
"""

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from console_stage import ConsolePage
from loop_thread import LoopThread
from playwright.async_api import expect

from capabilities.signatures import WalletSigner
from sealspace.client import Client
from sealspace.giving.teams.memberships import TeamMember, TeamMembers
from sealspace.wallets import new_wallet

T = TypeVar("T")


@dataclass
class Team:
    """A team that the SDK created, and what Alice, an admin, does for it."""

    loop: LoopThread
    url: str
    alice: WalletSigner
    did: str

    def run(self, work: Callable[[Client, Client], Coroutine[Any, Any, T]]) -> T:
        """Call a function with Alice's client, and with hers for the team."""

        async def called() -> T:
            async with Client(self.url) as client:
                await client.sign_in(self.alice)
                mine = await client.teams.membership(self.did)
                return await work(
                    client, client.acting(await client.teams.sign_in(self.alice, mine))
                )

        return self.loop.run(called())

    def admit(self, did: str, role: Any, *secrets: str, name: str | None = None) -> None:
        """Admit a member."""

        async def admitted(_: Client, team: Client) -> None:
            await team.teams.admit(did, role, wallet=self.alice, secrets=secrets, name=name)

        self.run(admitted)

    def change_role(self, did: str, role: Any) -> None:
        """Give a member another role."""

        async def changed(_: Client, team: Client) -> None:
            await team.teams.change_role(did, role, wallet=self.alice)

        self.run(changed)

    def value(self, name: str, *, scope: str | None = None) -> str | bytes:
        """Return a secret of the team."""

        async def read(_: Client, team: Client) -> str | bytes:
            return await team.secrets().get(name, scope=scope)

        return self.run(read)

    def members(self) -> tuple[TeamMember, ...]:
        """Return the members as the SDK verifies them."""

        async def listed(_: Client, team: Client) -> TeamMembers:
            return await team.teams.members()

        return self.run(listed).live


def created_team(loop: LoopThread, url: str) -> Team:
    """Create a team with the secrets `API_KEY` and `ci/TOKEN`."""
    alice = new_wallet()

    async def created() -> str:
        async with Client(url) as client:
            await client.sign_in(alice)
            return (await client.teams.create()).team

    made = Team(loop, url, alice, loop.run(created()))

    async def stored(_: Client, acting: Client) -> None:
        await acting.secrets().put("API_KEY", "open sesame")
        await acting.secrets().put("TOKEN", "other", scope="ci")

    made.run(stored)
    return made


def show_team(console: ConsolePage, name: str = "shop") -> None:
    """Show the secrets of the only team that the page's wallet is a member of; it is no contact
    yet."""
    console.go("teams")
    console.run(console.tab.get_by_role("button", name=re.compile("^Show the secrets of")).click())
    console.see("Anybody can make you a member of a team of theirs")
    console.type("Your name for the team", name)
    console.click("It is this team")
    sign(console)
    console.run(expect(console.tab.locator(".whose")).to_contain_text(f"Team {name} ("))


def sign(console: ConsolePage) -> None:
    """Let the wallet of the page sign."""
    dialog = console.tab.locator("dialog").last
    console.run(dialog.get_by_role("button", name="Test Wallet").click())
