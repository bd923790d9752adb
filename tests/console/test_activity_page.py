"""Tests of the page of receipts, where the browser verifies each receipt."""

import json
from pathlib import Path

from attacks.parties import release_to_machine
from browser import BrowserWallet
from console_stage import ConsolePage
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import expect


def test_own_reads_leave_receipts(console: ConsolePage, wallet: BrowserWallet) -> None:
    """A secret that was revealed is on the page; its receipt verifies, and is saved as the node
    signed it."""
    console.sign_in()
    console.click("Activity", role="link")
    console.see("Nothing has been opened yet")
    console.shot("activity-empty")
    console.click("Secrets", role="link")
    console.click("Add a secret", within="header >> nth=-1")
    console.type("Name", "API_KEY")
    console.type("Value", "open sesame")
    console.click("Seal and save", within="dialog")
    console.click("Open API_KEY")
    console.click("Reveal")
    console.run(expect(console.tab.locator("output")).to_have_text("open sesame"))
    console.click("Close", within="dialog header")
    console.click("Activity", role="link")
    console.see("1 of 1 receipt")
    console.run(console.tab.get_by_label("Who").select_option("others"))
    console.see("Nothing matches")
    console.click("Show all")
    console.see("1 of 1 receipt")
    console.shot("activity")
    console.run(console.tab.get_by_role("button", name="Open the receipt of").click())
    console.click("Verify")
    console.see("The receipt holds")
    console.shot("activity-receipt")

    async def saved() -> bytes:
        async with console.tab.expect_download() as begun:
            await console.tab.get_by_role("button", name="Download", exact=True).click()
        return Path(await (await begun.value).path()).read_bytes()

    receipt = json.loads(console.run(saved()))
    assert receipt["owner"] == wallet.signer.did
    assert receipt["ground"] == "owner_session"
    assert b"open sesame" not in json.dumps(receipt).encode()


def test_machine_tokens_are_named(
    console: ConsolePage, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """A read by a machine token is listed among those of others, with the token's name."""
    platform = SimulatedPlatform.from_seed(b"platform of the console")
    loop.run(release_to_machine(node.url, platform, wallet.signer))
    console.sign_in()
    console.click("Activity", role="link")
    console.see("machine token deploy")
    console.run(console.tab.get_by_role("button", name="Open the receipt of").click())
    console.see("A machine token of yours asked: deploy")
    console.click("Verify")
    console.see("The receipt holds")
