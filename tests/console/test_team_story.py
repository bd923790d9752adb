"""A team's story with three browsers: what its people read, replace and see of each other, from the
first invitation to a removal."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_team import created_team, show_team, sign
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import Locator, expect

from sealspace.wallets import new_wallet

_COPIED = """() => {
  window.__copied = [];
  navigator.clipboard.writeText = async (text) => { window.__copied.push(text); };
}"""
_COME_BACK = "() => document.dispatchEvent(new Event('visibilitychange'))"
"""The event of a tab that is shown again; headless tabs are never hidden."""


@pytest.fixture
def people(browser: Browser, node: EmbeddedNode) -> Iterator[dict[str, ConsolePage]]:
    """Bob and Carol, each in a browser profile with a wallet."""
    with ExitStack() as stack:
        found = {}
        for name in ("bob", "carol"):
            wallet = BrowserWallet(new_wallet())
            found[name] = stack.enter_context(console_page(browser, node.url, wallet=wallet))
        yield found
        for page in found.values():
            assert page.faults() == []


def did_of(console: ConsolePage) -> str:
    """Return the DID of the page's wallet."""
    assert console.wallet is not None
    return console.wallet.signer.did


def join(ann: ConsolePage, other: ConsolePage, *, role: str, name: str) -> None:
    """Invite a person by a link, compare the words, and let the person's page show the team."""
    ann.run(ann.tab.evaluate(_COPIED))
    ann.click("Invite")
    ann.run(ann.tab.get_by_label("Role", exact=True).select_option(role))
    ann.type("How the team calls the member", name)
    ann.click("Make an invitation")
    ann.see("Waiting for the person")
    ann.click("Copy Link")
    (link,) = ann.run(ann.tab.evaluate("window.__copied"))
    other.sign_in()
    other.go(urlsplit(link).fragment.removeprefix("/"))
    other.see("An admin invites you")
    other.run(expect(other.tab.get_by_text(did_of(ann))).to_be_visible())
    other.click("Answer the invitation")
    shown = [page.tab.locator(".code").last for page in (ann, other)]
    for page, words in zip((ann, other), shown, strict=True):
        page.run(expect(words).to_be_visible())
    assert ann.run(shown[0].text_content()) == other.run(shown[1].text_content())
    ann.click("Yes, admit")
    sign(ann)
    ann.see("The person is a member")
    other.see("You are a member")
    other.click("Show the secrets of the team")
    other.type("Your name for the team", "shop")
    other.click("It is this team")
    sign(other)
    other.run(expect(other.tab.locator(".whose")).to_have_text(f"Team shop ({role})"))


def revealed(console: ConsolePage, label: str) -> Locator:
    """Open a secret, and return the place of its value, which is shown."""
    console.click(f"Open {label}")
    console.click("Reveal")
    value = console.tab.locator("dialog output")
    console.run(expect(value).not_to_have_text("••••••••••••••••"))
    return value


def replace(console: ConsolePage, value: str) -> None:
    """Replace the secret whose dialog is open."""
    console.click("Replace")
    console.type("Value", value)
    console.click("Seal and save", within="dialog")
    console.see("is saved")


def test_a_team_in_three_browsers(
    console: ConsolePage,
    people: dict[str, ConsolePage],
    wallet: BrowserWallet,
    node: EmbeddedNode,
    loop: LoopThread,
) -> None:
    """TM4, TM7, TM8, M62, CN21, CN22: Bob and Carol join Ann's team by links. All read the same values.
    Bob replaces one, and Ann sees when and by whom. Ann removes Bob: his open page shows nothing of the team,
    her page lists what he opened, and Carol reads the values that replace them."""
    ann, bob, carol = console, people["bob"], people["carol"]
    team = created_team(loop, node.url)
    team.admit(wallet.signer.did, "admin")
    ann.sign_in()
    show_team(ann)
    ann.add_secret("DB_URL", "postgres://shop")
    ann.click("Members", role="link", within="nav")
    ann.see("the team's own key")
    join(ann, bob, role="writer", name="bob")
    join(ann, carol, role="reader", name="carol")

    # The same values, and none of the pages says that one person alone reads them.
    for page, role in ((bob, "writer"), (carol, "reader")):
        page.run(expect(page.tab.get_by_text("3 secrets")).to_be_visible())
        page.see(f"You are a {role}")
        page.run(expect(revealed(page, "API_KEY")).to_have_text("open sesame"))
        page.run(expect(page.tab.get_by_text(_ALONE)).to_have_count(0))
    carol.click("Close", within="dialog header")

    # Bob replaces a value; Ann sees the new one, when and by whom, and that a former one is kept.
    replace(bob, "by bob")
    ann.go("secrets")
    ann.run(expect(revealed(ann, "API_KEY")).to_have_text("by bob"))
    holders = ann.tab.locator("dialog .holders")
    for page in (bob, carol):
        ann.run(expect(holders.locator(f'[data-did="{did_of(page)}"]')).to_be_visible())
    ann.run(expect(ann.tab.get_by_text(_ALONE)).to_have_count(0))
    ann.click("Versions")
    stored = ann.tab.locator("dialog .versions li", has_text="Version 2").locator("time")
    ann.run(expect(stored).to_have_count(1))
    storer = ann.tab.locator("dialog .versions li", has_text="Version 2").locator(".mono")
    ann.run(expect(storer).to_have_attribute("title", did_of(bob)))
    ann.see("Version 1")
    ann.shot("team-versions")
    ann.click("Close", within="dialog header")

    # Bob opens a second value and leaves it on the page. Ann removes him.
    bob.run(expect(revealed(bob, "ci/TOKEN")).to_have_text("other"))
    ann.click("Members", role="link", within="nav")
    row = ann.tab.locator(f'li[data-did="{did_of(bob)}"]')
    ann.run(row.get_by_role("button", name="Remove").click())
    ann.click("Remove", within="dialog")
    ann.see("Values that")
    known = ann.tab.get_by_role("list", name="Secrets to replace").get_by_role("listitem")
    ann.run(expect(known).to_have_text(["API_KEY", "ci/TOKEN"]))
    ann.see("One read is not named")
    ann.shot("team-known-values")
    assert ann.accessibility_problems() == []
    ann.run(ann.tab.evaluate(_COPIED))
    ann.click("Copy Secrets to replace")
    assert ann.run(ann.tab.evaluate("window.__copied")) == ["API_KEY\nci/TOKEN"]
    ann.click("Close", within="dialog header")

    # Bob's page learns it as soon as he looks at it again.
    bob.run(bob.tab.evaluate(_COME_BACK))
    bob.see("You are no longer a member of this team")
    bob.run(expect(bob.tab.locator(".whose")).to_have_text("Team shop (not a member)"))
    bob.shot("team-removed")
    bob.run(expect(bob.tab.locator("dialog")).to_have_count(0))
    for text in ("other", "by bob", "API_KEY", "TOKEN", "DB_URL"):
        bob.run(expect(bob.tab.get_by_text(text, exact=True)).to_have_count(0))
    bob.click("Choose whose secrets", role="link", within="main")
    bob.see("You are in no team")
    bob.click("Show the secrets of Your own secrets")
    bob.see("No secrets yet")

    # Ann replaces what Bob knows. Carol reads the new value.
    ann.go("secrets")
    for label, value in (("ci/TOKEN", "new token"), ("API_KEY", "new key")):
        ann.click(f"Open {label}")
        replace(ann, value)
    carol.run(expect(revealed(carol, "API_KEY")).to_have_text("new key"))
    ann.go("activity")
    for page in (bob, carol):
        line = ann.tab.locator(".rows [role=row]", has=ann.tab.locator(f'[title="{did_of(page)}"]'))
        ann.run(expect(line.first).to_contain_text("member"))


_ALONE = re.compile("only you|nobody else|for yourself", re.IGNORECASE)
"""What no page says of a secret of a team."""
