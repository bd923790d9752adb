"""The page of secrets: many at once, values that are drawn or are no text, and what does not
open."""

from pathlib import Path

from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from embedded_node import EmbeddedNode
from playwright.async_api import Route, expect

from sealspace.client import Client

FILE = (
    "# of the mailer\nAPI_KEY='open sesame'\nexport SMTP_URL=smtp://mail\nDB_PASSWORD=\"a\\nb\"\n"
)


def stored(
    browser: Browser, node: EmbeddedNode, wallet: BrowserWallet, *names: str
) -> list[str | bytes]:
    """Return the owner's secrets of scope `mail` as the SDK reads them."""

    async def read() -> list[str | bytes]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            return [await client.secrets().get(name, scope="mail") for name in names]

    return browser.run(read())


def test_a_file_of_secrets(
    console: ConsolePage,
    browser: Browser,
    node: EmbeddedNode,
    wallet: BrowserWallet,
    tmp_path: Path,
) -> None:
    """Faults are reported by line, nothing is replaced without being chosen, and no value is shown
    (CN4)."""
    console.sign_in()
    console.click("Add many", within="header >> nth=-1")
    console.type("Names and values", "API_KEY=1\nlower=2\nAPI_KEY=3\n")
    console.see("Line 2 does not begin with a valid secret name")
    console.see("Line 3 repeats the name of an earlier entry")
    console.shot("secrets-many-faults")
    console.click("Seal and save")
    console.see("Correct these lines before saving")
    file = tmp_path / "production.env"
    file.write_text(FILE)
    console.run(
        console.tab.get_by_label("Choose a file").locator("visible=false").set_input_files(file)
    )
    console.see("production.env is read")
    console.see("3 new")
    console.type("Scope", "mail")
    console.see("mail/SMTP_URL")
    masked = "(field) => getComputedStyle(field).webkitTextSecurity"
    field = console.tab.get_by_label("Names and values", exact=True)
    assert console.run(field.evaluate(masked)) == "disc"
    console.click("Seal and save")
    console.see("3 secrets are saved")
    assert stored(browser, node, wallet, "API_KEY", "DB_PASSWORD") == ["open sesame", "a\nb"]

    console.click("Add many", within="header >> nth=-1")
    console.run(expect(field).to_be_focused())
    console.type("Names and values", "API_KEY=second\nNEW=1\n")
    console.type("Scope", "mail")
    console.see("1 new, 1 there already")
    console.shot("secrets-many-dialog")
    assert console.judged() == []
    console.click("Seal and save")
    console.see("1 secret is saved")
    assert stored(browser, node, wallet, "API_KEY", "NEW") == ["open sesame", "1"]
    console.click("Add many", within="header >> nth=-1")
    console.type("Names and values", "API_KEY=second\n")
    console.type("Scope", "mail")
    console.click("Seal and save")
    console.see("All of them exist")
    console.run(console.tab.get_by_label("Replace those that exist").check())
    console.see("replaced")
    console.click("Seal and save")
    console.run(expect(console.tab.locator("dialog")).to_have_count(0))
    assert stored(browser, node, wallet, "API_KEY") == ["second"]


def test_a_file_of_which_a_part_arrives(console: ConsolePage) -> None:
    """After a partial failure, saving again sends only the remaining secrets (CN4)."""
    console.sign_in()
    console.click("Add many", within="header >> nth=-1")
    sent: list[int] = []

    async def second_lost(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        count = body.count(b'Content-Disposition: form-data; name="')
        if count:
            sent.append(count)
        await (route.abort() if count and len(sent) == 2 else route.continue_())

    console.run(console.tab.route("**/invoke", second_lost))
    console.type("Names and values", "".join(f"KEY_{at}=x\n" for at in range(260)))
    console.see("260 new")
    console.click("Seal and save")
    console.see("Only some values were saved")
    console.see("Save again")
    console.click("Seal and save")
    console.see("10 secrets are saved")
    console.see("260 secrets")
    assert sent == [250, 10, 10]


def test_values_that_are_drawn(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Of the length and the characters that are chosen."""
    console.sign_in()
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "TOKEN")
    console.type("Scope", "mail")
    console.type("Length", "48")
    console.run(console.tab.get_by_label("Characters").select_option("hex"))
    console.click("Generate")
    console.see("A random value of 48 characters is in the field")
    console.shot("secret-generated")
    console.click("Seal and save", within="dialog")
    console.see("mail/TOKEN is saved")
    (value,) = stored(browser, node, wallet, "TOKEN")
    assert isinstance(value, str)
    assert len(value) == 48
    assert set(value) <= set("0123456789abcdef")


def test_values_that_are_no_text_or_do_not_open(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """Bytes are shown as base64 and saved as they are; what is no envelope says so, and can be
    replaced or deleted."""
    console.sign_in()

    async def store() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.secrets().put("BYTES", b"\x00\xff<script>")
            space = f"tinycloud:{wallet.signer.did[4:]}:secrets"
            await client.kv(space).put("vault/secrets/BROKEN", "<img src=x onerror=canary()>")

    browser.run(store())
    console.open("secrets")
    console.click("Open BYTES")
    console.see("Shown with the value")
    console.click("Reveal")
    console.see("AP88c2NyaXB0Pg==")
    console.see("shown in base64")

    async def saved() -> Path:
        async with console.tab.expect_download() as begun:
            await console.tab.get_by_role("button", name="Download").click()
        return await (await begun.value).path()

    assert console.run(saved()).read_bytes() == b"\x00\xff<script>"
    console.shot("secret-bytes")
    console.click("Close")
    console.click("Open BROKEN")
    console.click("Reveal")
    console.see("The stored value is not a secret, or is damaged")
    console.see("Replace it with a value that you know")
    console.shot("secret-broken")
    console.click("Replace")
    console.type("Value", "mended")
    console.click("Seal and save")
    console.see("BROKEN is saved")
    console.click("Open BROKEN")
    console.click("Reveal")
    console.see("mended")


def test_a_phrase_behind_a_passkey(browser: Browser, node: EmbeddedNode) -> None:
    """A stored phrase signs in again after a sign-out, until it is removed."""
    with console_page(browser, node.url.replace("127.0.0.1", "localhost")) as console:

        async def add() -> None:
            devtools = await console.context.new_cdp_session(console.tab)
            await devtools.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "ctap2Version": "ctap2_1",
                "transport": "internal",
                "hasPrf": True,
            }
            user = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
            await devtools.send(
                "WebAuthn.addVirtualAuthenticator", {"options": {**options, **user}}
            )

        console.run(add())
        console.open("connect")
        console.run(console.tab.get_by_role("button", name="Make a new recovery phrase").click())
        console.run(console.tab.get_by_label("Keep it in this browser behind a passkey").check())
        console.shot("phrase-kept")
        console.click("I have written it down")
        console.signed_in()
        owner = console.tab.locator(".who .mono")
        did = console.run(owner.get_attribute("title"))
        console.click("Sign out")
        console.run(
            console.tab.get_by_role("button", name="Use the passkey of this browser").click()
        )
        console.signed_in()
        console.run(expect(owner).to_have_attribute("title", did or ""))
        console.click("Sign out")
        console.shot("connect-passkey")
        console.run(console.tab.get_by_role("button", name="Forget the phrase kept here").click())
        console.type("Type forget to confirm", "forget")
        console.click("Forget the phrase kept here", within="dialog")
        console.see("was removed from this browser")
        console.run(
            expect(console.tab.get_by_role("button", name="Use the passkey")).to_have_count(0)
        )
        assert console.faults() == []
