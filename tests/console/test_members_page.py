"""Tests of a team's members in the console: who they are, and what an admin changes."""

from typing import Any

import pytest
from browser import BrowserWallet
from console_stage import ConsolePage
from console_team import Team, created_team, show_team, sign
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import Locator, expect

from sealspace.client import Client
from sealspace.giving.teams.memberships import TeamMember
from sealspace.wallets import new_wallet


@pytest.fixture
def team(loop: LoopThread, node: EmbeddedNode, wallet: BrowserWallet) -> Team:
    """A team of which the page's wallet is the second admin."""
    made = created_team(loop, node.url)
    made.admit(wallet.signer.did, "admin")
    return made


@pytest.fixture
def admin(console: ConsolePage, team: Team) -> ConsolePage:
    """The console for the team, on the page of its members."""
    console.sign_in()
    show_team(console)
    console.click("Members", role="link", within="nav")
    console.see("the team's own key")
    return console


def row(console: ConsolePage, did: str) -> Locator:
    """Return the row of a member."""
    return console.tab.locator(f'li[data-did="{did}"]')


def members(team: Team) -> dict[str, TeamMember]:
    """Return the members as the SDK verifies them, by DID."""
    return {one.did: one for one in team.members()}


def test_TM2_an_admin_adds_a_member(admin: ConsolePage, team: Team) -> None:
    """A member is added by DID, with a role, secrets, a name and an end."""
    carol = new_wallet()
    admin.click("Add a member")
    admin.type("Member", "did:key:z6Mk")
    admin.type("Only these secrets", "ci/TOKEN\nAPI_KEY")
    admin.click("Add a member", within="dialog")
    admin.see("Type the DID of a wallet")
    admin.type("Member", carol.did.lower())
    admin.run(admin.tab.get_by_label("Role", exact=True).select_option("admin"))
    admin.click("Add a member", within="dialog")
    admin.see("none for an admin")
    admin.run(admin.tab.get_by_label("Role", exact=True).select_option("writer"))
    admin.type("How the team calls the member", "carol")
    admin.type("Ends after", "30")
    admin.shot("member-add")
    assert admin.accessibility_problems() == []
    admin.click("Add a member", within="dialog")
    sign(admin)
    admin.see("The member is added")
    found = members(team)[carol.did]
    assert (found.role, found.name, found.secrets) == ("writer", "carol", ("API_KEY", "ci/TOKEN"))
    admin.run(expect(row(admin, carol.did)).to_contain_text("Writer"))
    admin.run(expect(row(admin, carol.did)).to_contain_text("API_KEY, ci/TOKEN"))
    admin.run(expect(row(admin, carol.did)).to_contain_text("carol"))
    admin.shot("members")
    assert admin.accessibility_problems() == []


def test_TM7_an_admin_removes_a_member(admin: ConsolePage, team: Team) -> None:
    """A removed member is out at once, without a signature of the wallet."""
    bob = new_wallet()
    team.admit(bob.did, "reader")
    admin.go("secrets")
    admin.go("members")
    assert admin.wallet is not None
    asked = len(admin.wallet.asked)
    admin.run(row(admin, bob.did).get_by_role("button", name="Remove").click())
    admin.see("What was read stays known")
    admin.shot("member-remove")
    admin.click("Remove", within="dialog")
    admin.see("The member is removed")
    assert bob.did not in members(team)
    admin.run(expect(row(admin, bob.did)).to_have_count(0))
    assert len(admin.wallet.asked) == asked


def test_TM15_members_below_a_removed_admin_stay(
    admin: ConsolePage, team: Team, loop: LoopThread, wallet: BrowserWallet
) -> None:
    """The page says how many memberships are signed anew, and signs them first."""
    bob, carol = new_wallet(), new_wallet()
    team.admit(bob.did, "admin")

    async def admit() -> None:
        async with Client(team.url) as client:
            await client.sign_in(bob)
            mine = await client.teams.membership(team.did)
            acting = client.acting(await client.teams.sign_in(bob, mine))
            await acting.teams.admit(carol.did, "reader", wallet=bob)

    loop.run(admit())
    admin.go("secrets")
    admin.go("members")
    admin.run(row(admin, bob.did).get_by_role("button", name="Remove").click())
    admin.see("Your wallet first signs the membership of one person anew")
    admin.shot("member-remove-anew")
    admin.click("Remove", within="dialog")
    sign(admin)
    admin.see("The member is removed")
    found = members(team)
    assert bob.did not in found
    assert found[carol.did].admitted_by == wallet.signer.did


def test_TM15_an_admin_above_cannot_be_removed(admin: ConsolePage, team: Team) -> None:
    """The own membership depends on the admin who signed it; the page says who can do it."""
    admin.run(row(admin, team.alice.did).get_by_role("button", name="Remove").click())
    admin.click("Remove", within="dialog")
    admin.see("Your own membership depends on this member")
    admin.see("Let an admin do this whom this member did not admit")
    assert team.alice.did in members(team)


def test_TM15_an_admin_changes_a_role(admin: ConsolePage, team: Team) -> None:
    """The new membership is signed before the former one ends, and keeps name and end."""
    bob = new_wallet()
    team.admit(bob.did, "reader", "API_KEY", name="bob")
    before = members(team)[bob.did]
    admin.go("secrets")
    admin.go("members")
    admin.run(row(admin, bob.did).get_by_role("button", name="Change").click())
    assert admin.run(admin.tab.get_by_label("Only these secrets").input_value()) == "API_KEY"
    admin.type("Only these secrets", "")
    admin.run(admin.tab.get_by_label("Role", exact=True).select_option("writer"))
    admin.shot("member-change")
    admin.click("Change", within="dialog")
    sign(admin)
    admin.see("The role is changed")
    found = members(team)[bob.did]
    assert (found.role, found.secrets, found.name) == ("writer", (), "bob")
    assert found.ends_at == before.ends_at


def test_an_admin_leaves(admin: ConsolePage, team: Team, wallet: BrowserWallet) -> None:
    """An admin on whom nobody depends leaves; the tab then shows the own secrets."""
    admin.run(row(admin, wallet.signer.did).get_by_role("button", name="Leave").click())
    admin.type("Type leave to confirm", "leave")
    admin.click("Leave the team", within="dialog")
    admin.see("You left the team")
    admin.run(expect(admin.tab.locator(".whose")).to_have_text("Your secrets"))
    assert set(members(team)) == {team.alice.did}


def test_one_admin(console: ConsolePage, loop: LoopThread, node: EmbeddedNode) -> None:
    """A team with one admin is warned of; the last admin cannot leave."""
    team = created_team(loop, node.url)
    console.wallet = BrowserWallet(team.alice)
    console.sign_in()
    show_team(console)
    console.click("Members", role="link", within="nav")
    console.see("The team has one admin")
    console.shot("members-one-admin")
    console.click("Leave the team")
    console.type("Type leave to confirm", "leave")
    console.click("Leave the team", within="dialog")
    console.see("The team would have no admin")
    assert set(members(team)) == {team.alice.did}


def test_CN16_memberships_that_are_not_valid(admin: ConsolePage, team: Team) -> None:
    """A listed token that states to be a membership, and is no valid one, is counted."""

    async def forge(route: Any) -> None:
        answer = await route.fetch()
        said = await answer.json()
        for one in said["items"]:
            one["cid"] = one["cid"][:-1] + "0"
        await route.fulfill(response=answer, json=said)

    admin.go("secrets")
    admin.run(admin.tab.route("**/delegation/query", forge))
    admin.go("members")
    admin.see("Some memberships are not valid")
    admin.see("The node lists 2 more that state to be memberships")
    admin.shot("members-unread")


def test_activity_names_the_member(
    admin: ConsolePage, team: Team, loop: LoopThread, wallet: BrowserWallet
) -> None:
    """An admin sees which member read which secret, and who may open it."""
    bob = new_wallet()
    team.admit(bob.did, "reader")

    async def read() -> None:
        async with Client(team.url) as client:
            await client.sign_in(bob)
            mine = await client.teams.membership(team.did)
            acting = client.acting(await client.teams.sign_in(bob, mine))
            assert await acting.secrets().get("API_KEY") == "open sesame"

    loop.run(read())

    async def known() -> None:
        async with Client(team.url) as client:
            await client.sign_in(wallet.signer)
            await client.contacts.add("bob", bob.did)

    loop.run(known())
    admin.open("activity")
    line = admin.tab.locator(".rows [role=row]", has_text="bob")
    admin.run(expect(line).to_contain_text("API_KEY"))
    admin.run(expect(line).to_contain_text("member"))
    admin.shot("team-activity")
    admin.run(line.get_by_role("button").click())
    admin.run(expect(admin.tab.locator("dialog").get_by_text(bob.did)).to_be_visible())
    admin.shot("team-activity-receipt")
    admin.click("Close", within="dialog header")
    admin.go("secrets")
    admin.click("Open API_KEY")
    holders = admin.tab.locator("dialog .holders")
    admin.run(expect(holders).to_contain_text("bob"))
    admin.shot("team-holders")
    assert admin.accessibility_problems() == []
