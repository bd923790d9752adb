"""A test of an owner without a terminal who stores, approves, reviews and revokes, with real
processes."""

import json
import os
import re
from pathlib import Path

import aiohttp
import pytest
from backend_process import serving
from browser import Browser, BrowserWallet
from console_stage import console_page
from deviating_platform import SimulatedPlatform
from playwright.async_api import expect
from running_node import RunningNode, running_node

from sealspace.apps.backends import ask_backend, fetch_evidence, policy_for
from sealspace.cli.root import main
from sealspace.documents.published import EVIDENCE_PATH
from sealspace.giving.words.backends import as_json
from sealspace.wire.transport import Request
from tee_backend.attestation.inspection import CollateralFolder, Inspector
from tee_backend.attestation.trust_root import parse_trust_root

CANARY = "canary-of-the-whole-story-4711"


async def _published(url: str, inspector: Inspector) -> tuple[str, str]:
    """Return a backend's stated facts, and the output of `sealspace backend show --json`."""
    seen = await fetch_evidence(url, inspector)
    published = await ask_backend(url, Request("GET", EVIDENCE_PATH))
    return published.body.decode(), json.dumps(as_json(seen, policy_for(seen, ttl_s=86_400)))


async def _works(url: str, owner: str) -> bool:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/work", params={"owner": owner}) as answer,
    ):
        return answer.status == 200


def _is_in_memory(node: RunningNode, text: bytes) -> bool:
    """Return whether a text is in the writable memory of any process of a node."""
    for process in (node.process.pid, *node.children("worker"), *node.children("storekeeper")):
        maps = Path(f"/proc/{process}/maps").read_text().splitlines()
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            for first, last in re.findall(
                r"^([0-9a-f]+)-([0-9a-f]+) rw", "\n".join(maps), re.MULTILINE
            ):
                memory.seek(int(first, 16))
                if text in (memory.read(int(last, 16) - int(first, 16)) or b""):
                    return True
    return False


@pytest.mark.slow
def test_from_the_first_secret_to_its_revocation(
    browser: Browser, wallet: BrowserWallet, tmp_path: Path
) -> None:
    """A backend finds its grant at the node, and reads the secret until the grant is revoked."""
    assert main(["backend", "simulate", str(tmp_path / "tee"), "-q"]) == 0
    platform = SimulatedPlatform.load(tmp_path / "tee")
    inspector = Inspector(
        CollateralFolder(tmp_path / "tee" / "collateral"), root=parse_trust_root(platform.root_der)
    )
    with (
        running_node(tmp_path, platform=platform, workers=1) as node,
        serving(tmp_path, node.url) as backend,
        console_page(browser, node.url, wallet=wallet) as console,
    ):
        addresses: list[str] = []
        console.listen("request", lambda request: addresses.append(request.url))
        console.sign_in()
        console.click("Add a secret", within="header >> nth=-1")
        console.type("Name", "API_KEY")
        console.type("Value", CANARY)
        console.click("Seal and save", within="dialog")
        console.see("API_KEY is saved")

        published, shown = browser.run(_published(backend, inspector))
        console.click("Requests", role="link")
        console.type("What the app asks for", published)
        console.click("Read it")
        console.type("The code, as sealspace backend show --json printed it", shown)
        console.click("Approve")
        console.see("The grant is in force")
        assert browser.run(_works(backend, wallet.signer.did))

        console.click("Activity", role="link")
        console.see("proved its code")
        console.run(expect(console.tab.locator(".rows q").last).to_have_text("Notes"))
        console.run(console.tab.get_by_role("button", name="Open the receipt of").first.click())
        console.see("API_KEY")
        console.click("Verify", within="dialog")
        console.see("The receipt holds")
        console.click("Close", within="dialog header")

        console.click("Grants", role="link")
        named = console.tab.get_by_label("Grants and backends", exact=True).get_by_text("Notes")
        console.run(expect(named.first).to_be_visible())
        console.run(console.tab.get_by_role("button", name="Details of the grant").first.click())
        console.click("Revoke", within="dialog")
        console.click("Revoke", within="dialog >> nth=-1")
        console.run(expect(console.tab.locator("dialog .chip").first).to_have_text("revoked"))
        console.run(expect(console.tab.locator(".rows .chip")).to_have_count(0))
        assert not browser.run(_works(backend, wallet.signer.did))

        assert console.faults() == []
        assert addresses and not any(CANARY in address for address in addresses)
        if os.geteuid() == 0:  # only root reads the memory of processes that are not dumpable
            assert _is_in_memory(node, b"vault/secrets") and not _is_in_memory(
                node, CANARY.encode()
            )
    assert not any(CANARY in line for line in node.lines)
    stored = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert stored and not any(CANARY.encode() in path.read_bytes() for path in stored)
