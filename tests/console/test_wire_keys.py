"""Tests of the console with networks whose owners have replaced the key."""

from collections.abc import Callable
from typing import Any

from browser import Browser, BrowserWallet, Page
from console_wire import in_page
from embedded_node import EmbeddedNode

from capabilities.abilities import SET_POLICY
from capabilities.clock_and_entropy import SystemEntropy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.session import key_session


def by_owner(
    browser: Browser, node: EmbeddedNode, wallet: BrowserWallet, work: Callable[[Client], Any]
) -> Any:
    """Call a function with a client of the owner, and await its result."""

    async def run() -> Any:
        async with Client(node.url) as owner:
            await owner.sign_in(wallet.signer)
            return await work(owner)

    return browser.run(run())


def test_a_key_that_the_owner_replaced(
    page: Page, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """A session in the browser refuses the new key, and a new sign-in reads and seals with it
    (EN30)."""
    in_page(
        page,
        """
        const secrets = await at("secrets"), { Client } = await at("client");
        const { held } = await signedIn();
        await secrets.put(Client(held), null, "KEY", "first");
        """,
    )

    async def rotate(owner: Client) -> None:
        network = owner.encryption.network()
        await owner.delegations.add_right(wallet.signer, [allow(network.text, SET_POLICY)])
        await owner.network_keys.rotate(network, wallet=lambda: wallet.signer)

    by_owner(browser, node, wallet, rotate)
    said = in_page(
        page,
        """
        const secrets = await at("secrets"), { Client } = await at("client"), { networkId } = await at("did");
        const { descriptor } = await at("encryption");
        const before = await session.restore();
        const changed = await caught(() => descriptor(Client(before), networkId(before.owner)));
        const { held } = await signedIn();
        const former = (await secrets.reveal(Client(held), null, "KEY")).value;
        await secrets.put(Client(held), null, "KEY", "second");
        const value = (await secrets.reveal(Client(held), null, "KEY")).value;
        return { changed: changed.code, former, value, version: held.pins[0].keyVersion };
        """,
    )
    assert said == {
        "changed": "network-key-changed",
        "former": "first",
        "value": "second",
        "version": 2,
    }


def test_sharing_with_a_person_who_replaced_the_key(
    page: Page, browser: Browser, node: EmbeddedNode, wallet: BrowserWallet
) -> None:
    """The console names the version of a person's key in the folder, and seals to it (SH1)."""
    seed = SystemEntropy().token(32)

    async def prepare() -> str:
        async with Client(node.url, session=key_session(seed)) as person:
            await person.encryption.ensure_network()
            await person.network_keys.rotate(person.encryption.network())
            return person.session.owner

    did = browser.run(prepare())
    path = in_page(
        page,
        """
        const secrets = await at("secrets"), { Client } = await at("client");
        const { share } = await at("sharing");
        const { owner, held } = await signedIn();
        await secrets.put(Client(held), null, "KEY", "value");
        const [secret] = (await secrets.list(Client(held))).filter((one) => one.name === "KEY");
        const asked = { secrets: [secret], did: given, team: null, expiresS: 3600 };
        return (await share(Client(held), owner, asked)).folder.path;
        """,
        did,
    )
    assert path.endswith(".2/")

    async def read() -> Any:
        async with Client(node.url, session=key_session(seed)) as person:
            return await (await person.sharing.received(wallet.signer.did)).get("KEY")

    assert browser.run(read()) == "value"
