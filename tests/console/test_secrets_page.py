"""Tests of the page of secrets: imports, generated and binary values, and damaged secrets."""

import re
import subprocess
from pathlib import Path

import msgspec
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, console_page
from console_wire import key_names, store_secrets
from embedded_node import EmbeddedNode
from forked_programs import forked_program
from patience import PATIENCE_S
from playwright.async_api import Route, expect

from capabilities.resources import parse_space_id
from sealspace.client import Client
from sealspace.wallets import wallet_from_key
from spaces.store.contract import Commit, Committed, Put
from spaces.values.value_heads import head_key

NOTE = "vault/secrets/notes/API_KEY"
FILE = (
    "# of the mailer\nAPI_KEY='open sesame'\nexport SMTP_URL=smtp://mail\nDB_PASSWORD=\"a\\nb\"\n"
)


JUST_NOW = re.compile(r"now|\d+ (second|minute)s? ago")


def last_change(console: ConsolePage, name: str) -> str:
    """Return the time of a secret's last change as the list shows it."""
    row = console.tab.locator(".rows [role=row]", has_text=name)
    cell = row.locator("[role=cell].wide [data-changed]")
    console.run(expect(cell).not_to_be_empty())
    return console.run(cell.text_content()) or ""


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
    choose_file(console, tmp_path / "production.env", FILE)
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
    assert console.accessibility_problems() == []
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


def test_a_json_file_of_secrets(
    console: ConsolePage,
    browser: Browser,
    node: EmbeddedNode,
    wallet: BrowserWallet,
    tmp_path: Path,
) -> None:
    """A JSON object of texts and bytes is stored as the SDK reads it (CN4)."""
    console.sign_in()
    console.click("Add many", within="header >> nth=-1")
    console.type("Names and values", '{"API_KEY": [8080], "lower": "x", "OTHER": "x"}')
    console.see("Member 1 (API_KEY) has a list or an object as its value")
    console.see("Member 2 has no valid secret name")
    console.type("Names and values", '{"A": "1", "A": "2"}')
    console.see("It is not JSON, or repeats a name.")
    cert = '"CERT": {"value": "AP8=", "encoding": "base64"}'
    text = f'{{"API_KEY": "open sesame", "RATE": 1.10, {cert}}}'
    choose_file(console, tmp_path / "values.json", text)
    console.see("3 new")
    console.see("Numbers, true, false and null are saved as text: RATE")
    console.type("Scope", "mail")
    console.shot("secrets-many-json")
    console.click("Seal and save")
    console.see("3 secrets are saved")
    read = stored(browser, node, wallet, "API_KEY", "RATE", "CERT")
    assert read == ["open sesame", "1.10", b"\x00\xff"]


def choose_file(console: ConsolePage, file: Path, text: str) -> None:
    """Write a file, and choose it in the dialog of many secrets."""
    file.write_text(text)
    chosen = console.tab.get_by_label("Choose a file").locator("visible=false")
    console.run(chosen.set_input_files(file))


def test_a_file_of_which_a_part_arrives(console: ConsolePage, tmp_path: Path) -> None:
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
    choose_file(console, tmp_path / "many.env", "".join(f"KEY_{at}=x\n" for at in range(260)))
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
    """Generated values have the chosen length and characters."""
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
    """The page shows binary values as base64 and saves them unchanged."""
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
        console.make_phrase(is_kept=True, shot="phrase-kept")
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


async def forget_time(node: EmbeddedNode, space: str, path: str) -> None:
    """Store a value's row without its time, as an earlier version did."""
    store, key = node.services.store, head_key(parse_space_id(space), path)
    (row,) = (await store.read((key,))).records
    assert row is not None and row.value is not None
    earlier = msgspec.msgpack.encode(msgspec.msgpack.decode(row.value)[:7])
    outcome = await store.commit(Commit(puts=(Put(key, earlier, expect=row.stamp),)))
    assert isinstance(outcome, Committed)


def test_the_last_change(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """The list and the page show when the node stored a secret, without opening the secret."""
    console.sign_in()
    console.add_secret("API_KEY", "open sesame")

    async def store() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.secrets().put("OLD", "1")
        await forget_time(node, f"tinycloud:{wallet.signer.did[4:]}:secrets", "vault/secrets/OLD")

    browser.run(store())
    opened: list[str] = []
    console.listen("request", lambda request: opened.append(request.url))
    console.open("secrets")
    assert JUST_NOW.fullmatch(last_change(console, "API_KEY"))
    assert last_change(console, "OLD") == "not stated"
    console.shot("secrets-changes")
    console.click("Open API_KEY")
    console.run(expect(console.tab.locator("dialog time")).to_have_text(JUST_NOW))
    assert not [url for url in opened if "/decrypt" in url]
    console.click("Close")
    console.click("Open OLD")
    console.see("Shown with the value")
    console.click("Replace")
    console.type("Value", "new")
    console.click("Seal and save", within="dialog")
    console.run(expect(console.tab.get_by_text("not stated")).to_have_count(0))
    assert JUST_NOW.fullmatch(last_change(console, "OLD"))


def test_the_last_change_by_the_command_line(
    browser: Browser, node: EmbeddedNode, tmp_path: Path
) -> None:
    """Secrets that the command line stored, alone or together, have their time in the list."""
    key = tmp_path / "wallet.key"

    def run(*arguments: str, given: str = "") -> None:
        command = [forked_program("sealspace"), *arguments, "--home", str(tmp_path / "owner")]
        subprocess.run(command, input=given, text=True, check=True, timeout=PATIENCE_S)

    run("login", node.url, "--new", "--key-file", str(key))
    run("secret", "put", "API_KEY", given="open sesame")
    wallet = BrowserWallet(wallet_from_key(key.read_text()))
    with console_page(browser, node.url, wallet=wallet) as console:
        console.sign_in()
        assert JUST_NOW.fullmatch(last_change(console, "API_KEY"))
        run("secret", "put", "TOKEN", given="another")
        console.open("secrets")
        assert JUST_NOW.fullmatch(last_change(console, "API_KEY"))
        assert JUST_NOW.fullmatch(last_change(console, "TOKEN"))
        assert console.faults() == []


def test_a_note_of_a_secret(
    console: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A note is sealed as a separate value, stays when the secret is replaced, is not listed as a
    secret, and is deleted with it (EN33)."""
    console.sign_in()
    console.add_secret("API_KEY", "open sesame")
    console.click("Open API_KEY")
    console.click("Add a note")
    console.type("Your note", "from the dashboard,\nexpires in May")
    console.click("Seal and save", within="dialog >> nth=-1")
    console.see("expires in May")
    console.shot("secret-note")
    console.click("Replace")
    console.type("Value", "another")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")

    async def read() -> tuple[list[str], bytes, tuple[str, ...]]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            space = client.kv(f"tinycloud:{wallet.signer.did[4:]}:secrets")
            keys = [key async for key in space.list("vault/secrets/")]
            note = await space.get(NOTE) if NOTE in keys else None
            return keys, note.body if note else b"", await client.secrets().list()

    keys, stored_note, names = browser.run(read())
    assert keys == ["vault/secrets/API_KEY", NOTE]
    assert b"dashboard" not in stored_note
    assert b"ciphertext" in stored_note
    assert names == ("API_KEY",)
    console.open("secrets")
    console.see("1 secret")
    console.click("Open API_KEY")
    console.see("expires in May")
    console.click("Edit note")
    console.type("Your note", "x" * 2001)
    console.click("Seal and save", within="dialog >> nth=-1")
    console.see("A note has at most 2000 characters; you typed 2001.")
    console.type("Your note", "")
    console.click("Seal and save", within="dialog >> nth=-1")
    console.run(expect(console.tab.get_by_role("button", name="Add a note")).to_be_visible())
    assert browser.run(read())[0] == ["vault/secrets/API_KEY"]
    console.click("Add a note")
    console.type("Your note", "again")
    console.click("Seal and save", within="dialog >> nth=-1")
    console.run(expect(console.tab.get_by_role("button", name="Edit note")).to_be_visible())
    console.click("Delete")
    console.type("Type API_KEY to confirm", "API_KEY")
    console.click("Delete", within="dialog")
    console.see("No secrets yet")
    assert browser.run(read())[0] == []


def test_several_secrets_are_deleted(console: ConsolePage) -> None:
    """The owner types the number of secrets once to delete several secrets."""
    console.sign_in()
    console.see("No secrets yet")
    store_secrets(console, key_names(8))
    console.open("secrets")
    console.see("8 secrets")
    button = console.tab.get_by_role("button", name=re.compile(r"^Delete \d+ secrets?$"))
    console.run(expect(button).to_have_count(0))
    for name in ("KEY_0", "mail/KEY_1", "mail/KEY_5"):
        console.run(console.tab.get_by_label(f"Select {name}", exact=True).check())
    console.run(expect(button).to_have_text("Delete 3 secrets"))
    console.shot("secrets-selected")
    console.type("Find a secret", "key_5")
    console.run(expect(console.tab.get_by_label("Select all shown")).to_be_checked())
    console.click("Delete 3 secrets")
    console.type("Type 3 to confirm", "2")
    console.click("Delete 3 secrets", within="dialog")
    console.run(expect(console.tab.locator("dialog [aria-invalid=true]")).to_have_count(1))
    sent = 0

    async def second_lost(route: Route) -> None:
        nonlocal sent
        sent += 1  # the first lists the copies that people have
        await (route.abort() if sent == 3 else route.continue_())

    console.run(console.tab.route("**/invoke", second_lost))
    console.type("Type 3 to confirm", "3")
    console.click("Delete 3 secrets", within="dialog")
    console.see("1 of 3 are deleted")
    console.see("The node does not answer")
    chips = console.tab.locator("dialog .chip")
    console.run(expect(chips).to_have_text(["deleted", "failed", "still there"]))
    assert console.accessibility_problems() == []
    console.shot("secrets-delete")
    console.run(console.tab.unroute("**/invoke"))
    console.click("Delete 3 secrets", within="dialog")
    console.see("3 secrets are deleted")
    console.click("Show all") if console.run(
        console.tab.get_by_role("button", name="Show all").is_visible()
    ) else console.type("Find a secret", "")
    console.see("5 secrets")
    console.run(expect(button).to_have_count(0))


def test_characters_that_hide(console: ConsolePage) -> None:
    """A revealed value shows direction marks and invisible characters as numbers, with a remark. An
    ordinary value has no such remark."""
    console.sign_in()
    console.add_secret("PLAIN", "a\tb\nc d")
    console.add_secret("ODD", "pay\u202elanif\u200b\u00a0end")
    console.click("Open ODD")
    console.click("Reveal")
    output = console.tab.locator("output")
    console.run(expect(output.locator("mark")).to_have_text(["U+202E", "U+200B", "U+00A0"]))
    console.see("change the direction of the text")
    console.shot("secret-odd")
    assert console.accessibility_problems() == []
    console.click("Close")
    console.click("Open PLAIN")
    console.click("Reveal")
    console.run(expect(output).to_have_text("a\tb\nc d"))
    console.run(expect(output.locator("mark")).to_have_count(0))
    console.run(expect(console.tab.get_by_text("change the direction")).to_have_count(0))


def test_values_are_hidden_while_typed(console: ConsolePage) -> None:
    """Each dialog that takes a value shows dots, until *Show text* is pressed."""
    console.sign_in()
    console.click("Add a secret", within="header >> nth=-1")
    console.is_masked("Value")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    console.click("Seal and save", within="dialog")
    console.click("Open API_KEY")
    console.click("Replace")
    console.is_masked("Value")
    console.click("Close")
    console.click("Add many", within="header >> nth=-1")
    console.is_masked("Names and values")
