"""Tests of former values in the console: shown, stored again, and restored after a deletion."""

from typing import Any

from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from embedded_node import EmbeddedNode
from playwright.async_api import Route, expect

from sealspace.client import Client
from sealspace.session import key_session


def own(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet, work: Any) -> Any:
    """Call a function with a client of the page's owner, and await its result."""

    async def run() -> Any:
        async with Client(node.url) as owner:
            await owner.sign_in(wallet.signer)
            return await work(owner)

    return browser.run(run())


async def three_values(owner: Client) -> None:
    """Store three values of one secret."""
    await owner.encryption.ensure_network()
    for value in ("first", "second", "third"):
        await owner.secrets().put("API_KEY", value)


def test_a_former_value_is_stored_again(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A version is shown on demand and stored again; people with a copy get it too (SH6)."""
    own(browser, node, wallet, three_values)
    session = key_session(wallet.signer.did.encode()[-31:] + b"v")

    async def share(owner: Client) -> None:
        async with Client(node.url, session=session) as friend:
            await friend.encryption.ensure_network()
        await owner.sharing.share(["API_KEY"], session.did, wallet=lambda: wallet.signer)

    async def copy() -> str | bytes:
        async with Client(node.url, session=session) as friend:
            return await (await friend.sharing.received(wallet.signer.did)).get("API_KEY")

    own(browser, node, wallet, share)
    console.sign_in()
    console.click("Open API_KEY")
    console.click("Versions", within="dialog")
    rows = console.tab.locator("dialog .versions li")
    console.run(expect(rows).to_have_count(3))
    console.run(expect(rows.first).to_contain_text("current"))
    console.run(expect(rows.first).to_contain_text("by you"))
    console.shot("secret-versions")
    assert console.accessibility_problems() == []
    console.click("Open version 1")
    console.click("Reveal", within="dialog >> nth=-1")
    console.run(expect(console.tab.locator("dialog output").last).to_have_text("first"))
    console.shot("secret-version")
    assert console.accessibility_problems() == []
    console.click("Store it again")
    console.see("Version 1 of API_KEY is stored again")
    assert own(browser, node, wallet, lambda owner: owner.secrets().get("API_KEY")) == "first"
    assert browser.run(copy()) == "first"


def test_a_version_that_is_replaced_meanwhile(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A value that another program stores meanwhile is not overwritten."""
    own(browser, node, wallet, three_values)
    console.sign_in()
    console.click("Open API_KEY")
    console.click("Versions", within="dialog")
    console.click("Open version 1")

    async def store_first(route: Route) -> None:
        if '"networkId"' in (route.request.post_data or ""):
            async with Client(node.url) as owner:
                await owner.sign_in(wallet.signer)
                await owner.secrets().put("API_KEY", "by another program")
        await route.continue_()

    console.run(console.tab.route("**/invoke", store_first))
    console.click("Store it again")
    console.see("It was changed in the meantime.")
    assert (
        own(browser, node, wallet, lambda owner: owner.secrets().get("API_KEY"))
        == "by another program"
    )
    console.run(console.tab.unroute("**/invoke"))


def test_a_deleted_secret_is_restored(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A deleted secret is restored by its name; others are refused with the reason."""
    console.sign_in()
    console.add_secret("API_KEY", "open sesame")
    console.click("Open API_KEY")
    console.click("Delete", within="dialog")
    console.type("Type API_KEY to confirm", "API_KEY")
    console.click("Delete", within="dialog")
    console.see("No secrets yet")
    console.click("Restore a deleted secret")
    console.type("Name", "NEVER")
    console.click("Restore", within="dialog")
    console.see("No version of it is kept")
    console.shot("secret-restore")
    assert console.accessibility_problems() == []
    console.type("Name", "API_KEY")
    console.click("Restore", within="dialog")
    console.see("API_KEY is restored")
    assert own(browser, node, wallet, lambda owner: owner.secrets().get("API_KEY")) == "open sesame"
    console.click("Restore a deleted secret")
    console.type("Name", "API_KEY")
    console.click("Restore", within="dialog")
    console.see("It is not deleted")


def test_M56_a_node_that_ignores_versions(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """An answer without the number of the version is not taken for that version."""
    own(browser, node, wallet, three_values)
    console.sign_in()
    console.click("Open API_KEY")
    console.click("Versions", within="dialog")
    console.click("Open version 1")

    async def without_number(route: Route) -> None:
        answer = await route.fetch()
        headers = {name: text for name, text in answer.headers.items() if "version" not in name}
        await route.fulfill(response=answer, headers=headers)

    console.run(console.tab.route("**/invoke", without_number))
    console.click("Reveal", within="dialog >> nth=-1")
    console.see("The node's answer could not be understood.")
    console.click("Store it again")
    console.run(
        expect(console.tab.get_by_text("The node's answer could not be understood.")).to_have_count(
            2
        )
    )
    assert own(browser, node, wallet, lambda owner: owner.secrets().get("API_KEY")) == "third"
    console.run(console.tab.unroute("**/invoke"))
