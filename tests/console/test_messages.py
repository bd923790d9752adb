"""Tests that the console's messages cover no dialog, on a phone or on a wide screen."""

from pathlib import Path

import pytest
from console_stage import ConsolePage
from playwright.async_api import expect

SIZES = [(390, 844), (1280, 900)]
SIZED = pytest.mark.parametrize(("width", "height"), SIZES, ids=[str(width) for width, _ in SIZES])


def resize(console: ConsolePage, width: int, height: int) -> None:
    """Give the tab this size."""
    console.run(console.tab.set_viewport_size({"width": width, "height": height}))


def said(console: ConsolePage, text: str) -> None:
    """Check that a message was drawn in a dialog, inside the window and over nothing else."""
    console.see(text)
    console.run(console.tab.wait_for_function(_IS_SAID, arg=text))
    assert console.run(console.tab.evaluate("window.__overlaps")) == []


# The browser of the tests has no clipboard.
_CLIPBOARD = """(works) => {
  navigator.clipboard.writeText = () => works ? Promise.resolve() : Promise.reject(new Error());
}"""
_IS_SAID = "(text) => window.__said.some(([said, , isSeen]) => isSeen && said.includes(text))"


@SIZED
def test_messages_in_the_dialogs_of_secrets(
    console: ConsolePage, tmp_path: Path, width: int, height: int
) -> None:
    """Messages in the dialogs of secrets are below their buttons, which do not move."""
    console.sign_in()
    resize(console, width, height)
    console.click("Add a secret", within="header >> nth=-1")
    save = console.tab.get_by_role("button", name="Seal and save")
    before = console.run(save.bounding_box())
    console.click("Generate")
    said(console, "A random value of 32 characters is in the field")
    assert console.run(save.bounding_box()) == before
    console.photograph(f"message-generated-{width}")
    console.type("Name", "API_KEY")
    console.click("Seal and save", within="dialog")
    console.see("API_KEY is saved")
    console.click("Open API_KEY")  # its page opens while the message of the list is there
    assert console.run(console.tab.evaluate("window.__overlaps")) == []
    console.click("Reveal")
    said(console, "The value is shown")
    console.run(console.tab.evaluate(_CLIPBOARD, True))
    console.click("Copy Value")
    said(console, "Copied")
    console.photograph(f"message-copied-{width}")
    console.click("Hide now")
    said(console, "Hidden")
    console.click("Add a note")
    console.type("Your note", "for the mailer")
    console.click("Seal and save", within="dialog >> nth=-1")
    said(console, "The note is saved")
    console.click("Close")
    console.click("Add many", within="header >> nth=-1")
    file = tmp_path / "production.env"
    file.write_text("".join(f"KEY_{at}=x\n" for at in range(40)))
    chosen = console.tab.get_by_label("Choose a file").locator("visible=false")
    console.run(chosen.set_input_files(file))
    said(console, "production.env is read")
    console.photograph(f"message-many-{width}")


@SIZED
def test_messages_in_other_dialogs(
    console: ConsolePage, tmp_path: Path, width: int, height: int
) -> None:
    """Messages about phrases, uploads, receipts and a reconnected node are below their buttons."""
    console.open("connect")
    resize(console, width, height)
    console.run(console.tab.get_by_role("button", name="Make a new recovery phrase").click())
    console.run(console.tab.evaluate(_CLIPBOARD, True))
    console.click("Copy Recovery phrase")
    said(console, "Copied")
    console.run(console.tab.evaluate(_CLIPBOARD, False))
    console.click("Copy Recovery phrase")
    said(console, "The browser did not let the console copy")
    console.photograph(f"message-phrase-{width}")
    console.run(console.tab.route("**/info", lambda route: route.abort()))
    console.run(console.tab.evaluate("() => dispatchEvent(new Event('offline'))"))
    console.run(expect(console.tab.get_by_text("The node does not answer")).to_have_count(1))
    console.run(console.tab.unroute("**/info"))
    console.run(console.tab.evaluate("() => dispatchEvent(new Event('online'))"))
    said(console, "The node answers again")
    console.click("Close")

    console.sign_in()
    resize(console, width, height)
    console.go("data")
    console.see("No values are stored here")
    for name in ("one", "two"):
        (tmp_path / name).write_text("x")
    chosen = console.tab.locator("input[type=file]")
    console.run(chosen.set_input_files([tmp_path / "one", tmp_path / "two"]))
    said(console, "two is stored")


@SIZED
def test_the_message_of_a_receipt(console: ConsolePage, width: int, height: int) -> None:
    """A valid receipt has a message below its buttons."""
    console.sign_in()
    resize(console, width, height)
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    console.click("Seal and save", within="dialog")
    console.click("Open API_KEY")
    console.click("Reveal")
    said(console, "The value is shown")
    console.click("Close")
    console.go("activity")
    console.run(console.tab.get_by_label("Who").select_option("all"))
    console.run(console.tab.get_by_role("button", name="Open the receipt of").click())
    console.click("Verify")
    said(console, "The receipt holds")
    console.photograph(f"message-receipt-{width}")
