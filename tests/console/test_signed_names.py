"""Tests of names for approved code that the command line signed, as the console shows them (CN19)."""

from dataclasses import replace

import pytest
from browser import Browser, BrowserWallet
from console_stage import console_page
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts

from capabilities.facts import statement_resource
from capabilities.recap import Recap, attach
from capabilities.siwe import SiweMessage, siwe_text
from capabilities.strict_json import JsonObject
from sealspace.cli.owner.wallet_page import WalletPage
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.app_names import APP_URN, AppNames
from sealspace.session import key_session
from sealspace.wallets import new_wallet

CODE: JsonObject = {
    "name": "acme-notes",
    "images": [{"service": "notes", "reference": "acme/notes@sha256:ab", "publisher": "acme"}],
    "osImageHash": None,
    "sources": {"composeHash": "computed: SHA-256 of app-compose.json"},
}
NAME = "Notes, build 7"


@pytest.mark.parametrize("is_by_wallet", [True, False])
def test_CN19_a_name_from_the_command_line(
    scripts: Scripts,
    wallet: BrowserWallet,
    node: EmbeddedNode,
    loop: LoopThread,
    is_by_wallet: bool,
) -> None:
    """The console reads a name that the wallet or the session of the command line signed."""
    app = key_session(bytes(31) + b"\3")

    async def grant() -> str:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            portable = await client.delegations.delegate(
                app.did,
                [allow(f"{client.kv().space.text}/kv/notes", "tinycloud.kv/get")],
                app=AppNames(name=NAME, code=CODE),
                wallet=wallet.signer if is_by_wallet else None,
            )
            return portable.cid

    cid = loop.run(grant())
    script = """
        const grants = await at("grants"), { Client } = await at("client");
        const { parseCodeFiles } = await at("code_files");
        const { held } = await signedIn(), client = Client(held);
        const all = await grants.list(client, { tokens: true });
        const names = await grants.appNames(client, all);
        const own = all.find((one) => one.cid === given);
        return [names.get(given), parseCodeFiles(grants.statedCode(own))];
        """
    assert in_page(scripts, script, cid) == [NAME, CODE]


def test_CN19_the_wallets_page_shows_the_name(browser: Browser, node: EmbeddedNode) -> None:
    """The page that asks the wallet to sign a grant shows the name. Characters that change what is
    read, and quotation marks, are replaced."""
    plain = SiweMessage(
        domain="127.0.0.1:1",
        address=new_wallet().address,
        uri="did:key:z6MkFriend",
        chain_id=1,
        nonce="a" * 17,
        issued_at="2026-11-22T00:00:00.000Z",
    )
    recap = Recap({"tinycloud:pkh:eip155:1:0x:notes/kv/todo": {"tinycloud.kv/get": ({},)}}, ())
    texts = []
    for name in (NAME, 'a" to\u202e'):
        resource = statement_resource({"name": name, "code": {}}, urn=APP_URN)
        texts.append(siwe_text(attach(replace(plain, resources=(resource,)), recap)))
    read = "async (texts) => texts.map((await import('./files/sign_in/meaning.js')).meaningOf)"
    served = WalletPage("sealspace login", node.url)
    with console_page(browser, f"http://{served.authority}", wallet=None) as page, served:
        page.run(page.tab.goto(served.url))
        found = page.run(page.tab.evaluate(read, texts))
    assert [dict(one["facts"])["your name for it"] for one in found] == [
        f'"{NAME}"',
        '"a\ufffd to\ufffd"',
    ]
