"""The pages of the console in a browser, at a node, with a wallet: what a person does, sees, and may rely on."""

from collections.abc import Iterator

import pytest
from browser import Browser, BrowserWallet
from console_stage import AXE, AXE_ABSENT, ConsolePage, console_page
from playwright.async_api import expect

from node.processes.embedded import EmbeddedNode


@pytest.fixture
def console(browser: Browser, node: EmbeddedNode, wallet: BrowserWallet) -> Iterator[ConsolePage]:
    """A tab at the node's console, with a wallet; at the end nothing was refused by the policy or went elsewhere."""
    with console_page(browser, node.url, wallet=wallet) as opened:
        yield opened
        assert opened.faults() == []


def test_a_secret_from_the_first_visit_to_its_end(console: ConsolePage) -> None:
    """Sign in, add a secret, find it, reveal it, replace it, delete it: by what is written on the page."""
    console.sign_in()
    console.see("No secrets yet")
    console.shot("secrets-empty")
    for name, scope, value in (("API_KEY", "", "open sesame"), ("DB_PASSWORD", "mail", "a\nb")):
        console.click("Add a secret", within="header >> nth=-1")
        console.type("Name", name)
        console.type("Scope", scope) if scope else None
        console.type("Value", value)
        if scope:
            console.shot("secret-new")
        console.click("Seal and save", within="dialog")
        console.see(f"{scope}/{name} is saved" if scope else f"{name} is saved")
    console.shot("secrets")
    console.click("Open mail/DB_PASSWORD")
    console.shot("secret-closed")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("a\nb"))
    console.shot("secret-open")
