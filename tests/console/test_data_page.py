"""Tests of the page of values: listing, creating, editing, uploading and deleting them."""

from pathlib import Path

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage
from embedded_node import EmbeddedNode
from playwright.async_api import expect

from sealspace.client import Client

PAGE = b"<script>document.title = 'taken'</script>"


@pytest.fixture
def data(console: ConsolePage) -> ConsolePage:
    """The page of values, its owner signed in."""
    console.sign_in()
    console.click("Data", role="link")
    return console


def test_a_text_and_what_another_party_makes_of_it(
    data: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A text is created and edited; a change by another program is shown, and no typed text is
    lost."""
    data.see("No values are stored here")
    data.shot("data-empty")
    data.click("New text", within="header >> nth=-1")
    data.type("Name", "notes/")
    data.click("Save", within="dialog")
    data.see("Type a name that does not end with a slash")
    data.type("Name", "notes/two words.txt")
    data.type("Text", "mine")
    data.click("Save", within="dialog")
    data.see("notes/two words.txt is saved")
    data.click("Show folder notes/")
    data.click("Open two words.txt")
    data.see("text/plain;charset=UTF-8")
    data.click("Edit", within="dialog")
    data.type("Text", "mine, longer")

    async def write(body: bytes) -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.kv().put("notes/two%20words.txt", body, content_type="text/plain")

    async def read() -> bytes:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            return (await client.kv().get("notes/two%20words.txt")).body

    browser.run(write(b"theirs"))
    data.click("Save", within="dialog")
    data.see("It was changed in the meantime")
    data.run(expect(data.tab.locator("pre")).to_have_text("theirs"))
    data.run(expect(data.tab.get_by_label("Text", exact=True)).to_have_value("mine, longer"))
    assert browser.run(read()) == b"theirs"
    data.shot("data-conflict")
    data.click("Save", within="dialog")
    # what was said of the first save may still stand
    data.run(expect(data.tab.locator("dialog")).to_have_count(0))
    assert browser.run(read()) == b"mine, longer"
    data.click("Open two words.txt")
    data.click("Delete", within="dialog")
    data.type("Type two words.txt to confirm", "two words.txt")
    data.click("Delete", within="dialog")
    data.see("No values are stored here")


def test_files_go_up_and_come_down(
    data: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet, tmp_path: Path
) -> None:
    """Uploaded bytes are downloaded unchanged. An existing name is overwritten only after a
    question, and a stored page never runs."""
    (tmp_path / "page.html").write_bytes(PAGE)
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 512)
    chosen = data.tab.locator("input[type=file]")
    data.run(chosen.set_input_files([tmp_path / "page.html", tmp_path / "bytes"]))
    data.see("bytes is stored")
    data.shot("data-upload")
    data.click("Close", within="dialog .actions")
    data.see("128.0 KiB of 1.0 GiB stored")
    data.run(chosen.set_input_files([tmp_path / "page.html"]))
    data.see("A value with this name exists.")
    data.click("Replace it")
    data.see("page.html is stored")
    data.click("Close", within="dialog .actions")
    data.shot("data")
    data.click("Open page.html")
    data.run(expect(data.tab.locator("pre")).to_have_text(PAGE.decode()))
    data.shot("data-value")

    async def downloaded() -> bytes:
        async with data.tab.expect_download() as begun:
            await data.tab.get_by_role("button", name="Download").click()
        return Path(await (await begun.value).path()).read_bytes()

    assert data.run(downloaded()) == PAGE
    assert data.run(data.tab.title()).startswith("Data")
    data.click("Close", within="dialog header")
    data.click("Open bytes")
    data.see("The value is not text")


def test_another_space_needs_the_wallet(
    data: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """One signature gives the session the right to another space, after the page named the missing
    right."""

    async def made() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.delegations.add_right(wallet.signer, client.spaces().rights)
            await client.spaces().create("photos")

    browser.run(made())
    data.go("data?space=photos")
    data.see("This session has no right to photos")
    data.shot("data-no-right")
    before = len(wallet.asked)
    data.click("Allow it")
    data.click("Test Wallet example.wallet", within="dialog")
    data.see("No values are stored here")
    assert len(wallet.asked) == before + 1
    data.go("data?space=nowhere")
    data.see("You have no space nowhere")


def test_a_name_that_hides_something(
    data: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A name with a direction mark is shown encoded, and its value's page says why. An ordinary
    name has no such remark."""

    async def write() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.kv().put("invoice%E2%80%AEfdp.exe", "x")
            await client.kv().put("two%20words", "x")

    browser.run(write())
    data.open("data")
    data.click("Open invoice%E2%80%AEfdp.exe")
    data.see("invisible or change the direction of the text")
    data.shot("data-odd-name")
    data.click("Close", within="dialog header")
    data.click("Open two words")
    data.see("text/plain")
    data.run(expect(data.tab.get_by_text("change the direction")).to_have_count(0))


def test_databases_and_their_sizes(
    data: ConsolePage, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """The databases of the space are listed below its values, at the top and not in folders."""
    data.see("No values are stored here")
    data.run(expect(data.tab.get_by_text("Databases")).to_have_count(0))

    async def write() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.kv().put("notes/a", b"")
            for name in ("app", "%3Cb%3E"):
                await client.sql(name).execute("CREATE TABLE note (text)")

    browser.run(write())
    data.click("Secrets", role="link")
    data.click("Data", role="link")
    data.see("%3Cb%3E")
    data.run(expect(data.tab.locator("dd").first).to_contain_text("KiB"))
    data.shot("data-databases")
    data.click("Show folder notes/")
    data.run(expect(data.tab.get_by_role("button", name="Open a")).to_be_visible())
    data.run(expect(data.tab.get_by_text("Databases")).to_have_count(0))
