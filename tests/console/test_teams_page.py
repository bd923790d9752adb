"""Tests of teams in the console: the choice of whose secrets a tab shows, and what each role may
do."""

import re

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from console_team import Team, created_team, show_team, sign
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import expect

from sealspace.client import Client
from sealspace.documents.contact_list import Contact
from sealspace.wallets import new_wallet


@pytest.fixture
def team(loop: LoopThread, node: EmbeddedNode) -> Team:
    """A new team with two secrets."""
    return created_team(loop, node.url)


def whose(console: ConsolePage, text: str) -> None:
    """Check whose secrets the page shows, at the top of every page."""
    console.run(expect(console.tab.locator(".whose")).to_have_text(text))


def absent(console: ConsolePage, *names: str) -> None:
    """Check that the page offers no such button."""
    for name in names:
        console.run(
            expect(console.tab.get_by_role("button", name=name, exact=True)).to_have_count(0)
        )


def test_TM3_a_writer(console: ConsolePage, team: Team, wallet: BrowserWallet) -> None:
    """A writer reads, adds, replaces, restores and deletes secrets of a team."""
    team.admit(wallet.signer.did, "writer")
    console.sign_in()
    whose(console, "Your secrets")
    show_team(console)
    whose(console, "Team shop (writer)")
    console.see("You are a writer.")
    console.see("2 secrets")
    console.shot("team-secrets")
    console.click("Open API_KEY")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("open sesame"))
    console.see("Admins see who may open it.")
    absent(console, "Share")
    console.shot("team-secret")
    console.click("Replace")
    console.type("Value", "changed")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")
    assert team.value("API_KEY") == "changed"
    console.click("Open API_KEY")
    console.click("Versions")
    console.click("Open version 1")
    console.click("Store it again")
    console.run(expect(console.tab.locator("dialog")).to_have_count(0))
    assert team.value("API_KEY") == "open sesame"
    console.add_secret("NEW_KEY", "more")
    assert team.value("NEW_KEY") == "more"
    console.click("Open NEW_KEY")
    console.click("Delete", within="dialog")
    console.type("Type NEW_KEY to confirm", "NEW_KEY")
    console.click("Delete", within="dialog")
    console.see("NEW_KEY is deleted")
    console.click("Restore a deleted secret")
    console.type("Name", "NEW_KEY")
    console.click("Restore", within="dialog")
    console.see("3 secrets")
    assert console.accessibility_problems() == []


def test_CN16_the_choice_of_a_tab(console: ConsolePage, team: Team, wallet: BrowserWallet) -> None:
    """The choice stays when the page is loaded again, other pages are not offered, and the own
    secrets are one step away."""
    team.admit(wallet.signer.did, "reader")
    console.sign_in()
    console.add_secret("MINE", "own")
    show_team(console)
    asked = len(wallet.asked)
    console.open("secrets")
    whose(console, "Team shop (reader)")
    console.see("2 secrets")
    assert len(wallet.asked) == asked
    console.run(
        expect(console.tab.locator("nav").get_by_role("link", name="Grants")).to_have_count(0)
    )
    for place in ("grants", "data", "requests", "people", "programs", "bind", "unbound"):
        console.go(place)
        console.see("This page is about what is your own")
    console.go("activity")
    console.see("Only admins of the team see this page")
    console.click("Choose whose secrets", role="link")
    console.click("Show the secrets of Your own secrets")
    whose(console, "Your secrets")
    console.see("1 secret")
    console.go("members")
    console.see("This page is about a team")
    console.go("teams")
    console.click("Show the secrets of shop")
    console.see("2 secrets")
    # the stored session is used again
    assert len(wallet.asked) == asked


def test_CN16_without_a_session_nothing_is_shown(
    console: ConsolePage, team: Team, wallet: BrowserWallet
) -> None:
    """If the session for the chosen team is gone, the own secrets are not shown in its place."""
    team.admit(wallet.signer.did, "reader")
    console.sign_in()
    console.add_secret("MINE", "own")
    show_team(console)
    console.run(console.tab.evaluate(_FORGET_TEAMS))
    console.open("secrets")
    console.see("You are signed out of the team")
    console.run(expect(console.tab.get_by_text("MINE")).to_have_count(0))
    console.run(expect(console.tab.locator(".whose")).to_contain_text("signed out"))
    console.click("Choose whose secrets", role="link", within="main")
    console.see("shown in this tab")
    console.click("Sign in anew: shop")
    sign(console)
    console.see("2 secrets")
    console.click("Sign out")
    console.see("Signed out")
    assert console.run(console.tab.evaluate(_HAS_TEAMS)) is False


_FORGET_TEAMS = """async () => {
  const open = indexedDB.open("sealspace-console", 1);
  const database = await new Promise((resolve) => { open.onsuccess = () => resolve(open.result); });
  const change = database.transaction("sessions", "readwrite");
  change.objectStore("sessions").delete("teams");
  await new Promise((resolve) => { change.oncomplete = resolve; });
  database.close();
}"""
_HAS_TEAMS = """async () => {
  const open = indexedDB.open("sealspace-console", 1);
  const database = await new Promise((resolve) => { open.onsuccess = () => resolve(open.result); });
  const read = database.transaction("sessions").objectStore("sessions").get("teams");
  await new Promise((resolve) => { read.onsuccess = resolve; });
  database.close();
  return read.result !== undefined || sessionStorage.length > 0;
}"""


def test_TM1_a_reader(console: ConsolePage, team: Team, wallet: BrowserWallet) -> None:
    """A reader is offered nothing that changes a secret, and is told why."""
    team.admit(wallet.signer.did, "reader")
    console.sign_in()
    show_team(console)
    console.see("You are a reader: writers and admins change them")
    console.see("2 secrets")
    absent(console, "Add a secret", "Add many", "Restore a deleted secret")
    console.run(expect(console.tab.locator("input[type=checkbox]")).to_have_count(0))
    console.shot("team-reader")
    console.click("Open ci/TOKEN")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("other"))
    absent(console, "Replace", "Delete", "Versions", "Share", "Add a note")
    assert console.accessibility_problems() == []
    console.click("Close", within="dialog header")
    console.click("Members", role="link", within="nav")
    console.see("Only admins list the members")
    console.shot("members-reader")
    console.click("Leave the team")
    console.type("Type leave to confirm", "leave")
    console.click("Leave the team", within="dialog")
    console.see("You left the team")
    whose(console, "Your secrets")
    console.see("You are in no team")
    assert {one.did for one in team.members()} == {team.alice.did}


def test_TM4_a_membership_that_lists_its_secrets(
    console: ConsolePage, team: Team, wallet: BrowserWallet
) -> None:
    """A writer of listed secrets sees those alone, and replaces them."""
    team.admit(wallet.signer.did, "writer", "ci/TOKEN", "LATER")
    console.sign_in()
    show_team(console)
    console.see("Your membership is for the secrets below alone")
    console.see("1 secret")
    absent(console, "Add many")
    console.click("Open ci/TOKEN")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("other"))
    console.click("Close", within="dialog header")
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "x")
    console.click("Seal and save", within="dialog")
    console.see("Your membership is for other secrets")
    console.type("Name", "LATER")
    console.click("Seal and save", within="dialog")
    console.see("LATER is saved")
    assert team.value("LATER") == "x"


def test_a_changed_role_is_told(console: ConsolePage, team: Team, wallet: BrowserWallet) -> None:
    """After an admin changed the role, the page says what to do, and the new role counts."""
    team.admit(wallet.signer.did, "reader")
    console.sign_in()
    show_team(console)
    team.change_role(wallet.signer.did, "writer")
    console.open("secrets")
    console.see("An admin may have changed your role")
    console.go("teams")
    console.click("Sign in anew: shop")
    sign(console)
    whose(console, "Team shop (writer)")
    console.see("2 secrets")
    console.run(expect(console.tab.get_by_role("button", name="Add a secret")).to_be_visible())


def test_CN16_two_people_in_one_browser(
    own_console: ConsolePage, team: Team, wallet: BrowserWallet, loop: LoopThread
) -> None:
    """Nobody who signs in afterwards gets the session for a team of the person before."""
    console = own_console
    team.admit(wallet.signer.did, "writer")
    console.sign_in()
    show_team(console)
    console.wallet = BrowserWallet(new_wallet())
    console.open("connect")
    console.run(console.tab.get_by_role("button", name="Test Wallet").click())
    whose(console, "Your secrets")
    console.see("No secrets yet")
    assert console.run(console.tab.evaluate(_HAS_TEAMS)) is False


def test_CN16_names_of_strangers(
    console: ConsolePage, browser: Browser, team: Team, wallet: BrowserWallet
) -> None:
    """A team that a stranger made the person a member of has no name, and is shown as such."""
    team.admit(wallet.signer.did, "writer", name="your-own-secrets")
    console.sign_in()
    console.go("teams")
    console.see("Not among your contacts")
    console.run(expect(console.tab.get_by_text("your-own-secrets")).to_have_count(0))
    console.shot("teams")
    console.run(console.tab.get_by_role("button", name=re.compile("^Show the secrets of")).click())
    console.run(expect(console.tab.locator("dialog").get_by_text(team.did)).to_be_visible())
    console.shot("team-question")
    assert console.accessibility_problems() == []
    console.click("Cancel")
    whose(console, "Your secrets")

    async def contacts() -> tuple[Contact, ...]:
        async with Client(team.url) as client:
            await client.sign_in(wallet.signer)
            return await client.contacts.list()

    assert browser.run(contacts()) == ()


def test_TM1_a_recovery_phrase(console: ConsolePage) -> None:
    """A person without a wallet is told why nobody can make them a member."""
    console.open("connect")
    console.make_phrase()
    console.go("teams")
    console.see("A member of a team signs with a wallet")
    assert console.accessibility_problems() == []
