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


def test_many_secrets(console: ConsolePage) -> None:
    """Hundreds of secrets in scopes: few rows exist at a time, a search finds one, and each can be reached."""
    console.sign_in()
    console.see("No secrets yet")
    console.run(console.tab.evaluate(_PUT_MANY))
    console.open("secrets")
    console.see("240 secrets")
    console.shot("secrets-many")
    rows = console.tab.locator(".rows [role=row]")
    assert console.run(rows.count()) < 60
    assert console.run(console.tab.get_by_role("table").get_attribute("aria-rowcount")) == "241"
    console.type("Find a secret", "key_7")
    console.see("11 of 240 secrets")
    console.type("Find a secret", "nothing")
    console.see("Nothing matches")
    console.shot("secrets-none")
    console.click("Show all")
    console.run(console.tab.locator(".table").evaluate("(table) => { table.scrollTop = table.scrollHeight; }"))
    console.see("KEY_238")


def test_the_other_pages(console: ConsolePage) -> None:
    """Sign-in, the node, and what is not there yet."""
    console.open("connect")
    console.see("Test Wallet")
    console.shot("connect")
    console.open("secrets")
    console.see("Sign in to see this page")
    console.shot("signed-out")
    console.open("node")
    console.see("The node's own evidence")
    console.see("runs in no trust domain")
    console.shot("node")
    console.open("grants")
    console.see("Not in the console yet")
    console.shot("grants")


@pytest.mark.skipif(not AXE.exists(), reason=AXE_ABSENT)
def test_what_axe_finds(console: ConsolePage) -> None:
    """axe-core finds nothing wrong with any page, in either scheme, nor with the dialogs."""
    console.sign_in()
    assert console.judged() == []
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    assert console.judged() == []
    console.click("Seal and save", within="dialog")
    console.see("1 secret")
    assert console.judged() == []
    console.click("Open API_KEY")
    console.click("Reveal")
    console.see("open sesame")
    assert console.judged() == []
    for place, text in (("node", "runs in no trust domain"), ("connect", "Test Wallet"), ("grants", "Not in the console yet")):
        console.open(place)
        console.see(text)
        assert console.judged() == []


_PUT_MANY = """async () => {
  const base = new URL(document.querySelector("script[src]").src).href.replace(/app.js$/, "wire/");
  const [{ Client }, { restore }, { putMany }] = await Promise.all(
    ["client.js", "session.js", "secrets.js"].map((name) => import(base + name)));
  const scopes = [null, "mail", "staging", "production"];
  const secrets = Array.from({ length: 240 }, (_, at) => ({ scope: scopes[at % 4], name: `KEY_${at}`, value: "x" }));
  await putMany(Client(await restore()), secrets);
}"""
