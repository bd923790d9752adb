"""Tests of the console's pages in a browser, with a node and a wallet."""

import re

import pytest
from browser import BrowserWallet
from console_stage import AXE, AXE_ABSENT, ConsolePage
from console_wire import key_names, store_secrets
from playwright.async_api import Route, expect

_PRESS_PRINT = """(dialog) => [...dialog.querySelectorAll("button")]
  .find((button) => button.textContent === "Print").click()"""


def test_a_secret_from_the_first_visit_to_its_end(console: ConsolePage) -> None:
    """Sign in, then add, find, reveal, replace and delete a secret, using only the texts of the
    page."""
    console.sign_in()
    console.see("No secrets yet")
    console.shot("secrets-empty")
    for name, scope, value in (("API_KEY", "", "open sesame"), ("DB_PASSWORD", "mail", "a\nb")):
        console.click("Add a secret", within="header >> nth=-1")
        # written as a secret's name by the form
        console.type("Name", name.lower().replace("_", " "))
        console.type("Scope", scope.title()) if scope else None
        console.type("Value", value)
        if scope:
            console.shot("secret-new")
        console.click("Seal and save", within="dialog")
        console.see(f"{scope}/{name} is saved" if scope else f"{name} is saved")
    console.shot("secrets")
    console.run(console.tab.locator(".rows [role=row]", has_text="DB_PASSWORD").click())
    console.shot("secret-closed")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("a\nb"))
    console.shot("secret-open")


def test_many_secrets(console: ConsolePage) -> None:
    """The list of hundreds of secrets keeps only a few rows in the document, and a search finds
    each secret."""
    console.sign_in()
    console.see("No secrets yet")
    store_secrets(console, key_names(240))
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
    console.run(
        console.tab.locator(".table").evaluate(
            "(table) => { table.scrollTop = table.scrollHeight; }"
        )
    )
    console.see("KEY_238")


def test_the_other_pages(console: ConsolePage) -> None:
    """The sign-in page, a page that needs a sign-in, and the page of the node."""
    console.open()
    console.see("Test Wallet")
    console.shot("connect")
    console.go("secrets")
    console.see("Sign in to see this page")
    console.shot("signed-out")
    console.go("node")
    console.see("The node's own evidence")
    console.see("runs in no trust domain")
    console.shot("node")


def test_the_browser_knows_every_feature_of_the_header(console: ConsolePage) -> None:
    """The browser prints no warning about an unknown name in Permissions-Policy."""
    said: list[str] = []
    console.listen("console", lambda message: said.append(message.text))
    console.open()
    console.see("Test Wallet")
    console.run(console.tab.reload())
    console.see("Test Wallet")
    assert not [text for text in said if "Permissions-Policy" in text]


def test_the_end_of_a_secret(console: ConsolePage) -> None:
    """A secret is replaced, then deleted after its name is typed; search and focus are kept."""
    console.sign_in()
    console.add_secret("API_KEY", "first")
    console.type("Find a secret", "api")
    console.click("Open API_KEY")
    console.click("Replace")
    store_secrets(console, ["API_KEY"])  # another program
    console.type("Value", "second")
    console.click("Seal and save")
    console.see("It was changed in the meantime")
    console.click("Seal and save")
    console.run(expect(console.tab.get_by_role("button", name="Open API_KEY")).to_be_focused())
    console.run(expect(console.tab.get_by_label("Find a secret")).to_have_value("api"))
    console.click("Open API_KEY")
    console.click("Delete")
    console.click("Delete", within="dialog")
    console.see("Type API_KEY to confirm")
    assert console.run(console.tab.locator("[aria-invalid=true]").count()) == 1
    console.shot("secret-delete")
    console.type("Type API_KEY to confirm", "API_KEY")
    console.click("Delete", within="dialog")
    console.see("No secrets yet")
    console.run(expect(console.tab.get_by_role("heading", level=1)).to_be_focused())


def test_nothing_typed_is_lost(console: ConsolePage) -> None:
    """A failure keeps the form, Escape asks first, a malformed name is reported at its field, and
    focus returns."""
    console.sign_in()
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "1st key")
    console.type("Value", "typed with care")
    console.click("Seal and save")
    console.see("Begin with a letter")
    focused = "() => document.activeElement.name ?? document.activeElement.textContent"
    assert console.run(console.tab.evaluate(focused)) == "name"
    console.type("Name", "API_KEY")
    console.run(console.tab.route("**/invoke", lambda route: route.abort()))
    console.click("Seal and save")
    console.see("The node does not answer")
    assert (
        console.run(console.tab.get_by_label("Value", exact=True).input_value())
        == "typed with care"
    )
    for _ in range(2):
        console.run(console.tab.keyboard.press("Escape"))
    console.see("Discard what you typed?")
    console.shot("discard")
    console.click("Keep editing")
    assert (
        console.run(console.tab.get_by_label("Value", exact=True).input_value())
        == "typed with care"
    )
    console.run(console.tab.unroute("**/invoke"))
    console.click("Seal and save")
    console.see("API_KEY is saved")


def test_a_revealed_value_goes(own_console: ConsolePage) -> None:
    """A revealed value is shown for 30 seconds, then removed from the page."""
    console = own_console  # its clock is replaced
    console.sign_in()
    console.add_secret("API_KEY", "open sesame")
    console.run(console.tab.clock.install())
    console.click("Open API_KEY")
    console.click("Reveal")
    console.see("open sesame")
    console.run(console.tab.clock.run_for(29_000))
    console.see("Hidden again in 1 s")
    console.run(console.tab.clock.run_for(1_500))
    console.run(expect(console.tab.get_by_text("open sesame")).to_have_count(0))


def test_a_wallet_that_refuses(console: ConsolePage, wallet: BrowserWallet) -> None:
    """A refused signature is reported, nothing is stored, and the next attempt works."""
    wallet.refusal = (4001, "User rejected the request.")
    console.open("connect")
    console.run(console.tab.get_by_role("button", name="Test Wallet").click())
    console.see("The wallet refused to sign.")
    console.shot("wallet-refused")
    wallet.refusal = None
    console.click("Try again")
    console.signed_in()
    console.click("Sign out")
    console.see("Signed out")


def test_a_phrase_signs_in(console: ConsolePage) -> None:
    """An owner without a wallet creates a phrase, signs in again with it, and has the same
    secrets."""
    console.open("connect")
    phrase = console.make_phrase(shot="phrase-new")
    console.add_secret("API_KEY", "open sesame")
    console.click("Sign out")
    console.run(console.tab.get_by_role("button", name="Use a recovery phrase").click())
    console.type("Recovery phrase", phrase)
    console.is_masked("Recovery phrase")
    console.shot("phrase-typed")
    console.click("Sign in", within="dialog")
    console.click("Open API_KEY")
    console.click("Reveal")
    console.see("open sesame")


def test_a_choice_opens_one_dialog(console: ConsolePage) -> None:
    """A second click on a menu entry opens no second dialog. If a dialog cannot be loaded, this is
    reported and can be tried again."""
    console.open("connect")
    away(console, "**/connect_phrase.js")
    console.run(console.tab.get_by_role("button", name="Make a new recovery phrase").click())
    console.see("Failed to fetch")
    console.run(console.tab.unroute("**/connect_phrase.js"))
    again = console.tab.get_by_role("button", name="Try again")
    console.run(again.evaluate("(button) => { button.click(); button.click(); }"))
    console.see("Write this down")
    console.run(expect(console.tab.locator("dialog")).to_have_count(1))


def test_a_phrase_that_was_not_written_down(console: ConsolePage) -> None:
    """The page creates no owner until the requested groups of the phrase are typed."""
    console.open("connect")
    console.run(console.tab.get_by_role("button", name="Make a new recovery phrase").click())
    sent: list[str] = []
    console.listen("request", lambda request: sent.append(request.url))
    console.click("I have written it down")
    field = console.tab.locator("dialog input").first
    console.run(field.fill("0000 0000 0000"))
    console.click("Confirm and sign in")
    console.see("These are not the groups with these numbers")
    assert console.run(console.tab.locator(".who .mono").count()) == 0
    assert not [one for one in sent if "/delegate" in one]
    console.click("Show the phrase")
    console.run(expect(console.tab.locator("dialog .phrase li")).to_have_count(9))


def test_the_sheet_of_a_phrase(console: ConsolePage) -> None:
    """The printed sheet has only the phrase, its purpose, the node's address and the date."""
    console.open("connect")
    console.run(console.tab.get_by_role("button", name="Make a new recovery phrase").click())
    console.see("Write this down")
    groups = console.run(console.tab.locator("dialog .phrase li").all_text_contents())
    sheet = console.tab.locator(".printable")
    console.run(expect(sheet).to_be_hidden())
    console.run(console.tab.emulate_media(media="print"))
    console.run(console.tab.evaluate("() => { window.print = () => { window.__printed = 1; }; }"))
    console.run(console.tab.locator("dialog").evaluate(_PRESS_PRINT))
    assert console.run(console.tab.evaluate("window.__printed")) == 1
    printed = console.run(console.tab.evaluate("document.body.innerText"))
    console.run(expect(console.tab.locator("dialog, .house")).to_have_count(2))
    for part in ("Recovery phrase for sealspace", f"{console.origin}/console/", *groups):
        assert part in printed
    assert re.search(r"20\d\d-\d\d-\d\d", printed)
    assert "I have written it down" not in printed
    assert "Sign in\n" not in printed
    console.photograph("phrase-sheet")
    console.run(console.tab.emulate_media(media="screen"))
    console.click("Close")
    console.run(expect(sheet).to_have_count(0))


def test_another_node(console: ConsolePage) -> None:
    """If another DID answers than last time everything stops until the owner confirms it by
    typing."""
    console.open("node")
    console.see("Identity")
    console.run(
        console.tab.evaluate("localStorage.setItem('sealspace.node', 'did:key:z6MkFormer')")
    )
    console.open("secrets")
    console.see("This is another node than last time")
    console.see("did:key:z6MkFormer")
    assert console.run(console.tab.get_by_role("navigation").count()) == 0
    console.shot("another-node")
    console.click("Continue with the new node")
    console.type("Type trust to confirm", "trust")
    console.click("Continue with the new node", within="dialog")
    console.see("Sign in to see this page")


def test_a_node_that_is_away(console: ConsolePage) -> None:
    """The page reports an unreachable node, keeps its contents, and continues when the node answers
    again."""
    console.sign_in()
    console.add_secret("API_KEY", "open sesame")
    console.run(console.tab.route("**/info", lambda route: route.abort()))
    # Said by hand: when the browser itself goes back on line, the page asks at once, before or
    # after `unroute`.
    console.run(console.tab.evaluate("() => dispatchEvent(new Event('offline'))"))
    console.see("loads what is missing when the node answers")
    console.see("API_KEY")
    console.shot("offline")
    console.run(console.tab.unroute("**/info"))
    console.click("Try again")
    console.see("The node answers again")


def test_what_is_missing_comes_by_itself(console: ConsolePage) -> None:
    """When the node answers again, the page loads a failed list and sends a failed form."""
    console.sign_in()
    console.see("No secrets yet")
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "typed with care")
    away(console, "**/*")
    console.click("Seal and save", within="dialog")
    console.see("It is sent again by itself when the node answers")
    console.shot("form-offline")
    again(console, "**/*")
    console.run(expect(console.tab.locator("dialog")).to_have_count(0))
    console.run(expect(console.tab.get_by_role("button", name="Open API_KEY")).to_be_visible())

    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "OTHER")
    console.type("Value", "half")
    away(console, "**/*")
    console.click("Seal and save", within="dialog")
    console.see("It is sent again by itself when the node answers")
    console.run(expect(console.tab.locator(".banners .banner")).to_have_count(1))
    console.type("Value", "whole")
    again(console, "**/*")
    console.see("The node answers again")
    console.run(expect(console.tab.locator("dialog")).to_have_count(1))
    console.run(expect(console.tab.get_by_label("Value", exact=True)).to_have_value("whole"))
    console.click("Seal and save", within="dialog")
    console.see("OTHER is saved")

    away(console, "**/invoke")
    console.run(console.tab.route("**/info", lambda route: route.abort()))
    console.click("Data", role="link")
    console.see("The node does not answer")
    console.click("Secrets", role="link")
    console.run(expect(console.tab.locator("main .banner.bad")).to_have_count(1))
    console.run(console.tab.unroute("**/info"))
    again(console, "**/invoke")
    console.run(expect(console.tab.get_by_role("button", name="Open API_KEY")).to_be_visible())


def test_an_answer_that_did_not_arrive(console: ConsolePage) -> None:
    """A secret that was stored although its reply was lost is not stored twice. The form says that
    the stored one may be the same."""
    console.sign_in()
    console.see("No secrets yet")

    async def answer_lost(route: Route) -> None:
        await route.fetch()
        await route.abort()

    console.run(console.tab.route("**/invoke", answer_lost, times=1))
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    console.click("Seal and save", within="dialog")
    console.see("It may be what you sent before the connection broke off")
    console.click("Close")
    console.click("Discard")
    console.open("secrets")
    console.see("1 secret")


def away(console: ConsolePage, addresses: str) -> None:
    """Drop every request to these addresses."""
    console.run(console.tab.route(addresses, lambda route: route.abort()))


def again(console: ConsolePage, addresses: str) -> None:
    """Let requests through again, as after the browser was offline."""
    console.run(console.tab.unroute(addresses))
    console.run(console.tab.evaluate("() => dispatchEvent(new Event('online'))"))


def test_a_node_to_be_wary_of(console: ConsolePage) -> None:
    """Every page warns of another trust root than Intel's and of disabled attestation."""

    async def loose(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(
            json={**await answer.json(), "attestation": "off", "trustRoots": ["ab" * 32]}
        )

    console.run(console.tab.route("**/info", loose))
    console.open("node")
    console.see("This node trusts a root that is not Intel's")
    console.see("Attestation is off on this node")
    console.shot("wary")


def test_an_update(console: ConsolePage) -> None:
    """A page whose files no longer exist says that the console was updated."""
    console.open("connect")
    console.see("Test Wallet")
    console.run(
        console.tab.route("**/pages/node.js", lambda route: route.fulfill(status=404, body=""))
    )
    console.click("Menu") if console.run(
        console.tab.get_by_role("button", name="Menu").is_visible()
    ) else None
    console.click("This node", role="link")
    console.see("The console was updated")


def test_keyboard_and_narrow(console: ConsolePage) -> None:
    """The first Tab skips the navigation, a phone has it behind a button, and the choice of a
    colour scheme is stored."""
    console.open("connect")
    console.see("Test Wallet")
    console.run(console.tab.keyboard.press("Tab"))
    console.run(expect(console.tab.get_by_text("Skip to the page")).to_be_focused())
    console.run(console.tab.keyboard.press("Tab"))
    console.run(console.tab.set_viewport_size({"width": 360, "height": 800}))
    console.run(expect(console.tab.get_by_role("link", name="Activity")).to_be_hidden())
    console.click("Menu")
    console.click("Activity", role="link")
    console.see("Sign in to see this page")
    console.run(expect(console.tab.get_by_role("link", name="Activity")).to_be_hidden())
    console.click("Light or dark")
    console.open("node")
    console.run(expect(console.tab.locator("html[data-theme=dark]")).to_have_count(1))


@pytest.mark.skipif(not AXE.exists(), reason=AXE_ABSENT)
def test_what_axe_finds(console: ConsolePage) -> None:
    """axe-core finds no problem on any page or dialog, in either colour scheme."""
    console.sign_in()
    assert console.accessibility_problems() == []
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    assert console.accessibility_problems() == []
    console.click("Seal and save", within="dialog")
    console.see("1 secret")
    assert console.accessibility_problems() == []
    console.click("Open API_KEY")
    console.click("Reveal")
    console.see("open sesame")
    assert console.accessibility_problems() == []
    for place, text in (
        ("node", "runs in no trust domain"),
        ("connect", "Test Wallet"),
        ("grants", "Nothing is granted"),
    ):
        console.go(place)
        console.see(text)
        assert console.accessibility_problems() == []
