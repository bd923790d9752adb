"""Tests of the names of DIDs on the console's pages (SH9 to SH14)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from embedded_node import EmbeddedNode
from playwright.async_api import Locator, Route, expect

from sealspace.apps.contacts import CONTACTS_PATH, CONTACTS_SPACE, sign_contacts
from sealspace.client import Client
from sealspace.documents.contact_list import ContactList
from sealspace.encryption import envelope_bytes
from sealspace.session import Session, key_session, network_of_owner

UNREADABLE = "No names of contacts are shown"


@dataclass
class Desk:
    """The owner of the page's wallet, as another client, with two people at the same node."""

    browser: Browser
    node: EmbeddedNode
    wallet: BrowserWallet

    def person(self, seed: int) -> Session:
        """Return the session of a person."""
        return key_session(self.wallet.signer.did.encode()[-31:] + bytes([seed]))

    @property
    def bob(self) -> str:
        """The DID of the person who gets a name."""
        return str(self.person(1).owner)

    @property
    def carol(self) -> str:
        """The DID of the person who gets none."""
        return str(self.person(2).owner)

    def own(self, work: Callable[[Client], Any]) -> Any:
        """Call a function with a client of the owner, and await its result."""

        async def run() -> Any:
            async with Client(self.node.url) as owner:
                await owner.sign_in(self.wallet.signer)
                await owner.encryption.ensure_network()
                return await work(owner)

        return self.browser.run(run())

    def share_with_both(self) -> None:
        """Share a secret with both people, who read it."""
        signer = self.wallet.signer

        async def share(owner: Client) -> None:
            await owner.secrets().put("API_KEY", "open sesame")
            for seed in (1, 2):
                async with Client(self.node.url, session=self.person(seed)) as friend:
                    await friend.encryption.ensure_network()
                    did = friend.session.owner
                    await owner.sharing.share(["API_KEY"], did, wallet=lambda: signer)
                    source = await friend.sharing.received(owner.session.owner)
                    assert await source.get("API_KEY") == "open sesame"

        self.own(share)

    def name(self, **names: str) -> None:
        """Name people by the SDK."""

        async def add(owner: Client) -> None:
            for name, did in names.items():
                await owner.contacts.add(name, did)

        self.own(add)

    def names(self) -> dict[str, str]:
        """Return the contacts as the SDK reads them."""

        async def read(owner: Client) -> dict[str, str]:
            return {one.name: str(one.did) for one in await owner.contacts.list()}

        found: dict[str, str] = self.own(read)
        return found

    def forge(self) -> None:
        """Store a list that another key signed, sealed to the owner's network as anybody can."""

        async def put(owner: Client) -> None:
            named = ContactList().with_contact("bob", self.carol)
            label = f"tinycloud.vault:{owner.kv(CONTACTS_SPACE).space.text}:contacts"
            envelope = await owner.encryption.encrypt(
                sign_contacts(named, self.person(2), now=0),
                network=network_of_owner(owner.session.owner),
                label=label.encode(),
            )
            await owner.kv(CONTACTS_SPACE).put(CONTACTS_PATH, envelope_bytes(envelope).decode())

        self.own(put)


@pytest.fixture
def desk(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Desk:
    """An owner who has named nobody."""
    return Desk(browser, node, wallet)


def labels(console: ConsolePage, did: str) -> Locator:
    """Return the elements that show a DID."""
    return console.tab.locator(
        f'main span[title="{did}"]:visible, dialog[open] span[title="{did}"]'
    )


def shortened(did: str, head: int = 18) -> str:
    """Return a DID without its middle, as the pages show it."""
    return f"{did[:head]}…{did[-6:]}"


def open_places(console: ConsolePage) -> Any:
    """Go to each place that shows DIDs, and yield the number of characters at their beginning."""
    console.go("people")
    yield 18
    console.go("grants")
    yield 14
    console.go("activity")
    yield 18
    console.go("secrets")
    console.click("Open API_KEY")
    yield 18
    console.click("Share", within="dialog")
    console.see("Shared with")
    yield 18


def test_SH13_names_are_beside_dids(console: ConsolePage, desk: Desk) -> None:
    """SH13: a contact is shown as its name and DID on every page, and in the search; a person
    without a name only by the DID, which stays in the title."""
    desk.share_with_both()
    desk.name(robert=desk.bob)
    console.sign_in()
    for head in open_places(console):
        named = labels(console, desk.bob).first
        console.run(expect(named).to_have_text(f"robert ({shortened(desk.bob, head)})"))
        unnamed = labels(console, desk.carol).first
        console.run(expect(unnamed).to_have_text(shortened(desk.carol, head)))
        console.run(expect(console.tab.get_by_text(UNREADABLE)).to_have_count(0))
    console.go("grants")
    console.run(expect(labels(console, desk.bob).first).to_contain_text("robert ("))
    console.run(console.tab.get_by_role("searchbox").fill("robert"))
    console.run(expect(labels(console, desk.carol)).to_have_count(0))
    inner = desk.carol[-13:-7]  # not among the letters that the page shows
    console.run(console.tab.get_by_role("searchbox").fill(inner[:5]))
    console.see("Nothing matches")
    console.run(console.tab.get_by_role("searchbox").fill(inner))
    console.run(expect(labels(console, desk.carol)).to_have_count(1))
    console.run(console.tab.get_by_role("searchbox").fill("robert"))
    console.run(console.tab.get_by_role("button", name="Details of the grant").click())
    console.run(expect(console.tab.locator("dialog dd strong")).to_have_text(["robert"]))
    console.run(expect(console.tab.locator("dialog dd code").first).to_have_text(desk.bob))
    console.shot("grant-contact")
    assert console.accessibility_problems() == []


def test_SH13_a_search_finds_names_that_come_after_it(console: ConsolePage, desk: Desk) -> None:
    """SH13: grants are found by a name that was typed before the console had read the names."""
    desk.share_with_both()
    desk.name(robert=desk.bob)
    console.sign_in()
    tab = console.tab
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    console.run(tab.route("**/wire/contacts.js", hold))
    console.go("grants")
    console.run(tab.get_by_role("searchbox").fill("robert"))
    console.run(expect(labels(console, desk.bob)).to_have_count(0))
    (one,) = held
    # The page also asks for the grants again from time to time, and shows them then.
    console.run(tab.route("**/delegation/query", hold))
    console.run(one.continue_())
    console.run(expect(labels(console, desk.bob)).to_have_count(1))


def test_SH9_a_forged_list_gives_no_names(console: ConsolePage, desk: Desk) -> None:
    """SH9: a list that the owner did not sign gives no name on any page, and one line says why;
    everything else on the page is there."""
    desk.share_with_both()
    desk.forge()
    console.sign_in()
    lines = ["cannot be trusted, so no name is shown", *[UNREADABLE] * 4]
    for head, said in zip(open_places(console), lines, strict=True):
        for did in (desk.bob, desk.carol):
            shown = labels(console, did).first
            console.run(expect(shown).to_have_text(shortened(did, head)))
        line = console.tab.locator("dialog, main").last.get_by_text(said).first
        console.run(expect(line).to_be_visible())
        console.see("list of contacts has no valid signature")
        console.run(
            expect(
                console.tab.locator("main strong, dialog strong").get_by_text("bob")
            ).to_have_count(0)
        )
    console.shot("contacts-forged")
    assert console.accessibility_problems() == []


def test_a_page_without_others_reads_no_list(console: ConsolePage, desk: Desk) -> None:
    """The list is read when the first DID of somebody else is shown, and not before."""
    desk.name(bob=desk.bob)
    asked: list[str] = []
    console.listen("request", lambda request: asked.append(request.url))
    console.sign_in()
    for place in ("grants", "activity"):
        console.go(place)
        console.see("Nothing is granted" if place == "grants" else "Nothing has been opened yet")
    assert not any("contacts" in one for one in asked if "contact_names" not in one)


def test_contacts_are_added_renamed_and_removed(console: ConsolePage, desk: Desk) -> None:
    """SH10, SH12: what the page adds, renames and removes, the SDK reads, and what the SDK added
    meanwhile stays."""
    console.sign_in()
    console.go("people")
    panel = console.tab.get_by_role("region", name="Contacts")
    console.see("No contacts yet.")
    console.click("Add a contact")
    for name, did, said in (
        ("Alice", desk.bob, "a letter first; no word such as me or team"),
        ("me", desk.bob, "a letter first; no word such as me or team"),
        ("bob", "did:web:example.com", "Type the DID of a wallet or a key"),
    ):
        console.type("Name", name)
        console.type("DID", did)
        console.click("Save", within="dialog")
        console.see(said)
    console.shot("contact-add")
    assert console.accessibility_problems() == []
    console.type("DID", f" {desk.bob} ")
    console.click("Save", within="dialog")
    console.run(expect(panel.get_by_role("listitem")).to_have_count(1))
    assert desk.names() == {"bob": desk.bob}
    desk.name(carol=desk.carol)
    console.click("Rename bob")
    console.type("Name", "carol")
    console.click("Save", within="dialog")
    console.see("The name carol is taken.")
    console.type("Name", "robert")
    console.click("Save", within="dialog")
    console.run(expect(panel.get_by_role("listitem")).to_have_count(2))
    assert desk.names() == {"carol": desk.carol, "robert": desk.bob}
    console.shot("people-contacts")
    assert console.accessibility_problems() == []
    console.click("Remove carol")
    console.see("Only the name is removed.")
    console.click("Remove", within="dialog")
    console.run(expect(panel.get_by_role("listitem")).to_have_count(1))
    assert desk.names() == {"robert": desk.bob}


def test_a_secret_is_shared_with_a_contact_by_name(console: ConsolePage, desk: Desk) -> None:
    """SH13: a contact's name can be typed in the place of the DID; the dialog shows the whole DID
    before anything is shared, and a name that is no contact is refused."""

    async def begin(owner: Client) -> None:
        await owner.secrets().put("API_KEY", "open sesame")
        async with Client(desk.node.url, session=desk.person(1)) as friend:
            await friend.encryption.ensure_network()

    desk.own(begin)
    desk.name(bob=desk.bob)
    console.sign_in()
    console.go("people")
    console.click("Share with a person")
    console.type("Names of secrets", "API_KEY")
    console.type("Person", "carol")
    console.click("Next")
    console.see("You have no contact of this name.")
    console.type("Person", "bob")
    console.click("Next")
    dialog = console.tab.locator("dialog").last
    console.run(expect(dialog.locator("strong")).to_have_text(["bob"]))
    console.run(expect(dialog.locator("code").first).to_have_text(desk.bob))
    console.click("Share", within="dialog >> nth=-1")
    console.click("Test Wallet example.wallet", within="dialog >> nth=-1")
    people = console.tab.get_by_role("region", name="People", exact=True)
    named = people.locator(f'span[title="{desk.bob}"]')
    console.run(expect(named).to_have_text(f"bob ({shortened(desk.bob)})"))

    async def shared(owner: Client) -> list[str]:
        return [str(one.folder.did) for one in await owner.sharing.shares()]

    assert desk.own(shared) == [desk.bob]
    console.go("secrets")
    console.click("Open API_KEY")
    console.click("Share", within="dialog")
    console.type("Share with", "bob")
    console.click("Next")
    console.see("Compare, then share")
