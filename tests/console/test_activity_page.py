"""Tests of the page of receipts, where the browser verifies each receipt."""

import json
import re
from pathlib import Path

import pytest
from attacks.parties import release_to_machine
from browser import BrowserWallet
from console_stage import ConsolePage
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from playwright.async_api import Route, expect

from sealspace.client import Client
from sealspace.session import key_session


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


def test_fetches_of_copies_are_among_the_releases(
    console: ConsolePage, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """CN12: a person's fetch of a copy is a row with its secret and reader, marked as unsigned; the
    owner's own reveal is named by its key."""
    reader = key_session(wallet.signer.did.encode()[-31:] + b"r")

    async def fetched() -> None:
        async with (
            Client(node.url, session=reader) as friend,
            Client(node.url) as owner,
        ):
            await friend.encryption.ensure_network()
            await owner.sign_in(wallet.signer)
            await owner.encryption.ensure_network()
            await owner.secrets().put("API_KEY", "open sesame", scope="ci")
            await owner.secrets().put("OTHER", "other")
            for team in (None, "ops"):
                await owner.sharing.share(
                    ["ci/API_KEY"], reader.did, team=team, wallet=lambda: wallet.signer
                )
                source = await friend.sharing.received(wallet.signer.did, team=team or "")
                assert await source.get("API_KEY", scope="ci") == "open sesame"
            assert await owner.secrets().get("OTHER") == "other"

    loop.run(fetched())
    console.sign_in()
    console.click("Activity", role="link")
    rows = console.tab.locator(".rows [role=row]").filter(has_text="fetched a copy")
    console.run(expect(rows).to_have_count(2))
    for text in ("ci/API_KEY", f"{reader.did[:18]}…"):
        console.run(expect(rows.first).to_contain_text(text))
    count = console.tab.locator("p[aria-live=polite]").last
    console.run(expect(count).to_have_text(re.compile(r"2 of \d+ entries")))
    console.shot("activity-fetches")
    assert console.accessibility_problems() == []
    console.run(rows.first.get_by_role("button").click())
    console.see("The node does not sign this")
    console.run(expect(console.tab.locator("dialog")).to_contain_text(reader.did))
    console.shot("activity-fetch")
    console.click("Close", within="dialog header")
    console.run(console.tab.get_by_label("Who").select_option("all"))
    console.type("Find a secret or a receiver", "other")
    console.run(expect(count).to_have_text(re.compile(r"1 of \d+ entries")))


def test_a_release_is_named_by_its_key(
    console: ConsolePage, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """RC37: a machine token's release is named by the secret that has the released key, also of a
    token for several secrets."""
    platform = SimulatedPlatform.from_seed(b"platform of the console")
    loop.run(release_to_machine(node.url, platform, wallet.signer))
    console.sign_in()
    console.click("Activity", role="link")
    row = console.tab.locator(".rows [role=row]").filter(has_text="machine token deploy")
    console.run(expect(row).not_to_contain_text("not named"))


@pytest.mark.parametrize(
    "change",
    [
        {"reader": 1},
        {"etag": "ab"},
        {"hour": -1},
        {"version": "1"},
        {"more": 1},
    ],
)
def test_a_malformed_page_of_fetches_is_refused(
    console: ConsolePage, change: dict[str, object]
) -> None:
    """An answer that is no page of fetches gives a failure, and no rows."""
    whole = {"reader": "did:key:z6Mk", "space": "s", "path": "p", "version": 1, "etag": "ab" * 32}
    one = {**whole, "hour": 3600, "atMicros": 3_600_000_001, **change}

    async def answer(route: Route) -> None:
        await route.fulfill(json={"fetches": [one], "after": None})

    console.sign_in()
    console.run(console.tab.route("**/fetches", answer))
    console.click("Activity", role="link")
    console.see("The node's answer could not be understood.")
